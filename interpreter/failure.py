"""Why a result is not there."""

from ramify.lang.errors import ProgramError, RamifyError


class Failure:
    """Why a result is not there; raised anew by each read, so that tracebacks do not pile up."""

    __slots__ = ("cause", "is_seen", "message")

    def __init__(self, message: str, cause: BaseException) -> None:
        self.message = message
        self.cause = cause
        self.is_seen = False  # whether any read has raised it

    def error(self) -> ProgramError:
        """The error to raise."""
        self.is_seen = True
        error = ProgramError(self.message)
        error.__cause__ = self.cause
        return error


def describe(error: BaseException) -> str:
    """An error in one line: its code or class, and its message."""
    if isinstance(error, RamifyError):
        return f"{error.code}: {error.message}"
    return f"{type(error).__name__}: {error}"
