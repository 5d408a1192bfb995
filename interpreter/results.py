"""What the name of a result stands for in a state."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from ramify.interpreter.call import Call
from ramify.interpreter.pieces import Piece, text_of
from ramify.lang.chat import ChatTemplate
from ramify.lang.errors import InvalidRequest


class Result(ABC):
    """What a name of a state stands for."""

    __slots__ = ()

    @abstractmethod
    def calls(self) -> Iterator[Call]:
        """The calls that must be over before the value can be read."""

    @abstractmethod
    def value(self, template: ChatTemplate | None) -> Any:
        """The value; all its calls are over."""

    def pieces(self) -> tuple[Piece, ...]:
        """The pieces whose text the value is, if it is one."""
        return ()

    def meta_info(self) -> Any:
        """What the backend told about it; only the answer of a call has some."""
        raise InvalidRequest(
            "only results of gen and select have meta_info; this one is text or was set by the "
            "program",
            code="no_meta_info",
        )


class Value(Result):
    """A value that the program set."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def calls(self) -> Iterator[Call]:
        """None."""
        return iter(())

    def value(self, template: ChatTemplate | None) -> Any:
        """What was set."""
        return self._value


class Answered(Result):
    """The answer of a call."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call = call

    def calls(self) -> Iterator[Call]:
        """The call."""
        yield self.call

    def value(self, template: ChatTemplate | None) -> Any:
        """Its parsed answer, or its choice."""
        return self.call.work.value

    def pieces(self) -> tuple[Piece, ...]:
        """The call."""
        return (self.call,)

    def meta_info(self) -> Any:
        """That of the call."""
        return self.call.work.meta_info()


class Scope(Result):
    """The text between the two ends of a `with s.var_scope(name)`."""

    __slots__ = ("_name", "_pieces")

    def __init__(self, name: str) -> None:
        self._name = name
        self._pieces: tuple[Piece, ...] | None = None

    def close(self, pieces: tuple[Piece, ...]) -> None:
        """Set what was appended inside."""
        self._pieces = pieces

    def calls(self) -> Iterator[Call]:
        """The calls inside."""
        return (piece for piece in self.pieces() if isinstance(piece, Call))

    def value(self, template: ChatTemplate | None) -> Any:
        """The text inside."""
        return text_of(self.pieces(), template)

    def pieces(self) -> tuple[Piece, ...]:
        """What was appended inside; an error while the scope is open."""
        if self._pieces is None:
            raise InvalidRequest(
                f"var_scope({self._name!r}) is still open; read it after its with block"
            )
        return self._pieces


class Gathered(Result):
    """The values of one name in several forks, as a list."""

    __slots__ = ("_results",)

    def __init__(self, results: list[Result]) -> None:
        self._results = results

    def calls(self) -> Iterator[Call]:
        """The calls of all."""
        return (call for result in self._results for call in result.calls())

    def value(self, template: ChatTemplate | None) -> Any:
        """Their values, in the order of the forks."""
        return [result.value(template) for result in self._results]

    def pieces(self) -> tuple[Piece, ...]:
        """The pieces of all, so that the template is fetched where one needs it."""
        return tuple(piece for result in self._results for piece in result.pieces())

    def meta_info(self) -> Any:
        """A list with that of each fork."""
        return [result.meta_info() for result in self._results]
