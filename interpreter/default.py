"""The backend that programs run on when none is passed to `run`."""

import sys
from typing import TYPE_CHECKING, Union

from ramify.interpreter.backends.base import Backend
from ramify.interpreter.loop import io_loop
from ramify.lang.errors import ConfigError

if TYPE_CHECKING:
    from ramify.runtime.engine import Engine

BackendLike = Union[Backend, "Engine"]

_default: list[Backend] = []  # at most one


def as_backend(value: object) -> Backend:
    """`value` if it is a backend; an `Engine` as one; anything else is a `TypeError`."""
    if isinstance(value, Backend):
        return value
    runtime = sys.modules.get("ramify.runtime.engine")  # whoever has an Engine has imported it
    if runtime is not None and isinstance(value, runtime.Engine):
        from ramify.interpreter.backends.engine import EngineBackend

        return EngineBackend(value)
    raise TypeError(
        f"{value!r} ({type(value).__name__}) is no backend: must be a ramify.Engine, "
        "ramify.Runtime, ramify.RuntimeEndpoint or ramify.MockBackend"
    )


def set_default_backend(backend: BackendLike | None) -> None:
    """Run programs on `backend` where `run` names none; None takes it back."""
    _default[:] = [] if backend is None else [as_backend(backend)]


def backend_or_default(backend: BackendLike | None) -> Backend:
    """`backend`, else the default one; an error that says what to do when there is none."""
    if backend is not None:
        return as_backend(backend)
    if not _default:
        raise ConfigError(
            "no backend to run on: call ramify.set_default_backend(ramify.Engine(model)) or "
            "set_default_backend(ramify.RuntimeEndpoint(url)) once, or pass backend=... to run",
            code="no_backend",
        )
    return _default[0]


def flush_cache(backend: BackendLike | None = None) -> None:
    """Have the backend forget every cached prefix that no running request uses."""
    io_loop().submit(backend_or_default(backend).flush_cache()).result()
