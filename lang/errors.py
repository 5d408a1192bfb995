"""Every error a user of Ramify can meet.

    RamifyError
    |-- InvalidRequest (ValueError)     the request is wrong: 4xx, do not retry
    |   |-- ContextLengthExceeded       prompt + max_tokens does not fit
    |   `-- NotSupported                right request, but this backend cannot do it
    |-- NotFound (LookupError)          no such model, route or request: 404
    |-- ConfigError (ValueError)        an engine or server option is wrong
    |-- LoadError (RuntimeError)        a model, tokenizer or template cannot be loaded
    |-- Unavailable (RuntimeError)      load or life cycle, retry later: 503
    |-- DeadlineExceeded (TimeoutError) the request's own deadline passed: 504
    |-- Aborted (RuntimeError)          cancelled by the caller
    |-- EngineError (RuntimeError)      a bug or fault on the serving side: 500
    |-- BackendError (RuntimeError)     a remote backend answered wrongly or not at all
    |-- ProgramError (RuntimeError)     an error in a program's node, with where it was written
    `-- UnknownResult (KeyError)        a program's state has no result of that name

Each carries the fields of the wire form (`ErrorInfo`): a stable `code`, and `param`, the path of
the argument at fault.
"""

import difflib

import msgspec


class ErrorInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The wire form of an error, on every route and in every delta that ends in one."""

    message: str
    type: str  # name of the exception class
    code: str  # stable, snake case: "context_length_exceeded"
    param: str | None = None  # path of the field at fault: "messages[3].content"
    pointer: str | None = None  # JSON pointer into that field, a schema: "/properties/a/not"
    offset: int | None = None  # character of that field, a regex or grammar, from 0


class RamifyError(Exception):
    """Base of all errors raised by Ramify."""

    status: int = 500  # HTTP status on the server
    code: str = "internal_error"  # default code of the class

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        pointer: str | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.param = param
        self.pointer = pointer
        self.offset = offset

    def info(self) -> ErrorInfo:
        """This error as it travels between processes."""
        return ErrorInfo(
            message=self.message,
            type=type(self).__name__,
            code=self.code,
            param=self.param,
            pointer=self.pointer,
            offset=self.offset,
        )


class InvalidRequest(RamifyError, ValueError):
    """The request itself is wrong; sending it again cannot help."""

    status = 400
    code = "invalid_request"


class ContextLengthExceeded(InvalidRequest):
    """Prompt and `max_tokens` together do not fit the context or the KV pool."""

    code = "context_length_exceeded"


class NotSupported(InvalidRequest):
    """A well-formed request for something this backend or model cannot do."""

    code = "not_supported"


class NotFound(RamifyError, LookupError):
    """The named model, route or request does not exist."""

    status = 404
    code = "not_found"


class ConfigError(RamifyError, ValueError):
    """An option, or a combination of options, cannot work."""

    code = "invalid_config"


class LoadError(RamifyError, RuntimeError):
    """A model, tokenizer or chat template cannot be loaded."""

    code = "load_failed"


class Unavailable(RamifyError, RuntimeError):
    """The engine cannot take this request now (queue full, loading, draining, closed)."""

    status = 503
    code = "unavailable"


class DeadlineExceeded(RamifyError, TimeoutError):
    """The request's own deadline passed while it waited or ran."""

    status = 504
    code = "deadline_exceeded"


class Aborted(RamifyError, RuntimeError):
    """The request was cancelled by its caller."""

    status = 499
    code = "aborted"


class EngineError(RamifyError, RuntimeError):
    """A fault on the serving side."""


class BackendError(RamifyError, RuntimeError):
    """A remote backend refused, broke off, or answered something that is not its protocol."""

    status = 502
    code = "backend_error"


class ProgramError(RamifyError, RuntimeError):
    """A node of a program failed; `__cause__` is what went wrong.

    The message names the program, `file:line`, the node and its request id.
    """

    code = "program_error"


class UnknownResult(RamifyError, KeyError):
    """A state was asked for a result that nothing in its program names."""

    code = "unknown_result"

    def __str__(self) -> str:
        return self.message  # KeyError would show its repr


_CLASSES: dict[str, type[RamifyError]] = {
    cls.__name__: cls
    for cls in (
        InvalidRequest,
        ContextLengthExceeded,
        NotSupported,
        NotFound,
        ConfigError,
        LoadError,
        Unavailable,
        DeadlineExceeded,
        Aborted,
        EngineError,
        BackendError,
    )
}


def error_from_info(info: ErrorInfo) -> RamifyError:
    """The exception that `info` describes; an unknown type becomes an `EngineError`."""
    cls = _CLASSES.get(info.type, EngineError)
    return cls(
        info.message, code=info.code, param=info.param, pointer=info.pointer, offset=info.offset
    )


def unknown_argument(name: str, allowed: frozenset[str], caller: str) -> TypeError:
    """The error for a keyword argument that does not exist."""
    close = difflib.get_close_matches(name, sorted(allowed), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(allowed))}"
    return TypeError(f"{caller} has no argument {name!r}; {hint}")
