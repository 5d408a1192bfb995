"""How the results of a state are read: waiting, raising what failed, streaming.

Generators only; `waiting.py` drives them on a thread or on an event loop. With `follows`, the
program may still be running on another thread, and reading waits for what it will yet append.
"""

from collections.abc import Generator, Iterable
from concurrent.futures import Future
from typing import Any, NamedTuple

from ramify.interpreter.call import Call, Progress, Work
from ramify.interpreter.core import StateCore
from ramify.interpreter.loop import io_loop
from ramify.interpreter.pieces import Piece, messages_of, needs_template, piece_text, text_of
from ramify.interpreter.results import Result
from ramify.interpreter.waiting import Steps
from ramify.lang.chat import ChatTemplate
from ramify.lang.errors import UnknownResult


class Chunk(NamedTuple):
    """New text of a stream."""

    text: str
    meta_info: Any  # of the call it belongs to; None for constant text


Stream = Generator["Future[Any] | Chunk", None, None]


class Reader:
    """Reads one state."""

    def __init__(self, core: StateCore, *, follows: bool) -> None:
        self._core = core
        self._follows = follows

    def value(self, name: str) -> Steps[Any]:
        """The value of a result."""
        result = yield from self._find(name)
        template = yield from self._ready(result.calls(), result.pieces())
        return result.value(template)

    def name(self, name: str) -> Steps[None]:
        """Nothing, or an `UnknownResult`."""
        yield from self._find(name)

    def meta_info(self, name: str) -> Steps[Any]:
        """What the backend told about a result."""
        result = yield from self._find(name)
        yield from self._ready(result.calls(), ())
        return result.meta_info()

    def text(self) -> Steps[str]:
        """The whole text."""
        pieces = yield from self._pieces()
        return text_of(pieces, (yield from self._ready(_calls(pieces), pieces)))

    def messages(self) -> Steps[list[dict[str, str]]]:
        """The chat messages."""
        pieces = yield from self._pieces()
        yield from self._ready(_calls(pieces), ())
        return messages_of(pieces)

    def all(self) -> Steps[None]:
        """Nothing, once everything is done."""
        yield from self._pieces()
        yield from self._ready(self._core.calls(), ())

    def chunks(self, name: str | None) -> Stream:
        """The text of a result, or of the whole state, as it comes."""
        if name is None:
            yield from self._chunks_of_state()
            return
        result = yield from self._find(name)
        pieces = result.pieces()
        if not pieces:
            yield Chunk(str(result.value(None)), None)
        for piece in pieces:
            yield from self._chunks_of(piece)

    def raise_failure(self) -> None:
        """Raise what the program itself raised, if it did."""
        if self._core.failure is not None:
            raise self._core.failure.error()

    def _pieces(self) -> Steps[tuple[Piece, ...]]:
        if self._follows:
            yield self._core.run.ended
        self.raise_failure()
        return tuple(self._core.pieces)

    def _find(self, name: str) -> Steps[Result]:
        core = self._core
        while True:
            change = core.watch.next_change() if self._follows else None
            is_over = change is None or core.run.ended.done()
            self.raise_failure()
            if name in core.results:
                return core.results[name]
            if is_over or change is None:
                raise unknown_result(core, name)
            yield change

    def _ready(self, calls: Iterable[Call], pieces: Iterable[Piece]) -> Steps[ChatTemplate | None]:
        for call in calls:
            if not call.work.done.done():
                yield call.work.done
            self._raise_failure_of(call.work)
        if not needs_template(pieces):
            return None
        template = io_loop().submit(self._core.run.template())
        yield template
        return template.result()

    def _chunks_of_state(self) -> Stream:
        core, index = self._core, 0
        while True:
            change = core.watch.next_change() if self._follows else None
            is_over = change is None or core.run.ended.done()
            while index < len(core.pieces):
                yield from self._chunks_of(core.pieces[index])
                index += 1
            if is_over or change is None:
                self.raise_failure()
                return
            yield change

    def _chunks_of(self, piece: Piece) -> Stream:
        if isinstance(piece, Call):
            yield from self._chunks_of_call(piece.work)
            return
        text = piece_text(piece, (yield from self._ready((), (piece,))))
        if text:
            yield Chunk(text, None)

    def _chunks_of_call(self, work: Work) -> Stream:
        sent = Progress("", 0, None)
        while True:
            change = work.watch.next_change()
            is_over = work.done.done()
            now = work.progress(sent.num_tokens)
            if len(now.text) > len(sent.text):
                yield Chunk(now.text[len(sent.text) :], now.meta_info)
                sent = now
            elif is_over:
                self._raise_failure_of(work)
                return
            else:
                yield change

    def _raise_failure_of(self, work: Work) -> None:
        if work.failure is not None:
            self.raise_failure()  # a program that raised is why its calls were cancelled
            raise work.failure.error()


def unknown_result(core: StateCore, name: str) -> UnknownResult:
    """The error for a name that nothing in the state has."""
    known = ", ".join(repr(key) for key in core.results) or "none"
    return UnknownResult(
        f"no result named {name!r} in {core.run.program}(); known are: {known}", param=name
    )


def _calls(pieces: tuple[Piece, ...]) -> list[Call]:
    return [piece for piece in pieces if isinstance(piece, Call)]
