"""The backend that the environment names: how a script leaves the choice to whoever runs it."""

import os
import threading

from ramify.interpreter.backends.base import Backend
from ramify.lang.errors import ConfigError

ENDPOINT = "RAMIFY_ENDPOINT"

_made: dict[tuple[tuple[str, str], ...], Backend] = {}  # by the variables it was made from
_lock = threading.Lock()


def backend_from_env() -> Backend:
    """The server at `RAMIFY_ENDPOINT` (key: `RAMIFY_API_KEY`), else a local engine.

    The engine's options are the fields of `EngineConfig` as `RAMIFY_*` variables; with none set it
    serves the bundled model. Asked again in the same environment, it is the same backend.
    """
    key = tuple(sorted(item for item in os.environ.items() if item[0].startswith("RAMIFY_")))
    with _lock:
        if key not in _made:
            _made[key] = _endpoint() if os.environ.get(ENDPOINT) else _engine()
        return _made[key]


def _endpoint() -> Backend:
    from ramify.interpreter.backends.endpoint import RuntimeEndpoint  # httpx, only where used

    url = os.environ[ENDPOINT]
    if not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"{ENDPOINT}={url!r}: must be the URL of a server, such as http://127.0.0.1:30000"
        )
    return RuntimeEndpoint(url, api_key=os.environ.get("RAMIFY_API_KEY"))


def _engine() -> Backend:
    try:
        from ramify.interpreter.backends.engine import engine_from_env
    except ImportError as error:
        raise ConfigError(
            f"a local model needs {error.name}, which this install lacks; run: "
            f"pip install 'ramify[demo]', or set {ENDPOINT} to the URL of a server"
        ) from error
    return engine_from_env()
