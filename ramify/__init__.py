"""Ramify: programs that call language models, and the runtime that serves them.

@ramify.function
def capital(s, country):
    s += ramify.user(f"What is the capital of {country}?")
    s += ramify.assistant(ramify.gen("answer", max_tokens=16))

state = capital.run("France", backend=ramify.Engine())
state["answer"]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ramify.interpreter.backends.base import Backend
from ramify.interpreter.backends.mock import MockBackend
from ramify.interpreter.default import flush_cache, set_default_backend
from ramify.interpreter.graph import RequestGraph
from ramify.interpreter.program import Program, function
from ramify.interpreter.state import ProgramState, ProgramStateGroup
from ramify.lang.choices import (
    ChoicesMethod,
    greedy_token_selection,
    token_length_normalized,
    unconditional_likelihood_normalized,
)
from ramify.lang.errors import (
    Aborted,
    BackendError,
    ConfigError,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    InvalidRequest,
    LoadError,
    NotFound,
    NotSupported,
    ProgramError,
    RamifyError,
    Unavailable,
    UnknownResult,
)
from ramify.lang.expr import Expr
from ramify.lang.primitives import (
    assistant,
    assistant_begin,
    assistant_end,
    gen,
    gen_int,
    gen_string,
    select,
    system,
    system_begin,
    system_end,
    user,
    user_begin,
    user_end,
)

if TYPE_CHECKING:
    from ramify.interpreter.backends.endpoint import RuntimeEndpoint
    from ramify.interpreter.backends.engine import Runtime
    from ramify.interpreter.backends.environment import backend_from_env
    from ramify.runtime.engine import Engine

__version__ = "0.1.0"

__all__ = [
    "Aborted",
    "Backend",
    "BackendError",
    "ChoicesMethod",
    "ConfigError",
    "ContextLengthExceeded",
    "DeadlineExceeded",
    "Engine",
    "EngineError",
    "Expr",
    "InvalidRequest",
    "LoadError",
    "MockBackend",
    "NotFound",
    "NotSupported",
    "Program",
    "ProgramError",
    "ProgramState",
    "ProgramStateGroup",
    "RamifyError",
    "RequestGraph",
    "Runtime",
    "RuntimeEndpoint",
    "Unavailable",
    "UnknownResult",
    "__version__",
    "assistant",
    "assistant_begin",
    "assistant_end",
    "backend_from_env",
    "flush_cache",
    "function",
    "gen",
    "gen_int",
    "gen_string",
    "greedy_token_selection",
    "select",
    "set_default_backend",
    "system",
    "system_begin",
    "system_end",
    "token_length_normalized",
    "unconditional_likelihood_normalized",
    "user",
    "user_begin",
    "user_end",
]

# Loaded on first use: torch, or an HTTP client.
_LAZY = {
    "Engine": "ramify.runtime.engine",
    "Runtime": "ramify.interpreter.backends.engine",
    "RuntimeEndpoint": "ramify.interpreter.backends.endpoint",
    "backend_from_env": "ramify.interpreter.backends.environment",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'ramify' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
