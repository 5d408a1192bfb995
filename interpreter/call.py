"""A call to the model: the interest in it (`Call`) and its execution on the I/O loop (`Work`).

    state --holds--> Call --holds--> Work <--runs-- the I/O loop

When the last state that holds a `Call` is gone, nobody can read its answer any more: the `Work`
is cancelled. A `Work` holds the `Call`s it continues, so those live as long as it needs them.
"""

import asyncio
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from ramify.interpreter.failure import Failure, describe
from ramify.interpreter.graph import GraphNode
from ramify.interpreter.loop import Watch, io_loop, new_future
from ramify.interpreter.pieces import Piece, needs_template, prompt_of, text_of
from ramify.interpreter.run import Run
from ramify.lang.chat import ChatTemplate
from ramify.lang.errors import Aborted
from ramify.lang.expr import Gen, Select
from ramify.lang.protocol import Prompt, Usage


class Prefill(NamedTuple):
    """The graph's node for the text before a call."""

    node: GraphNode
    start: int  # its first piece


class Progress(NamedTuple):
    """A call's answer at one moment."""

    text: str
    num_tokens: int
    meta_info: Any


class Work(ABC):
    """One request: waits for what it continues, asks the backend, keeps the answer."""

    def __init__(
        self, run: Run, expr: Gen | Select, pieces: tuple[Piece, ...], node: GraphNode
    ) -> None:
        self.run = run
        self.rid = f"{run.id}-{node.id}"
        self.node = node
        self.done = new_future()
        self.watch = Watch()  # fires when the answer has grown
        self.failure: Failure | None = None
        self.position = len(pieces)  # pieces before this one in its state
        self.prefill: Prefill | None = None
        self._call_name = str(expr)
        self._pieces = pieces
        self._template: ChatTemplate | None = None
        self._is_cancelled = False  # perhaps before there is a task
        self._task: asyncio.Task[None] | None = None
        node.rid = self.rid
        node.status = "waiting"

    text: str = ""  # of the answer that continues the state, so far
    token_ids: tuple[int, ...] = ()  # its whole tokens; complete when `done`
    tail: str = ""  # its text after the last whole token
    value: Any = None  # what `s[name]` is; set when `done`
    end_tokens: int | None = None  # tokens of the state right after the answer

    @abstractmethod
    async def ask(self, prompt: Prompt) -> None:
        """Send the request and take in the answer."""

    @abstractmethod
    def meta_info(self) -> Any:
        """What is known of the answer, by SGLang's names."""

    @abstractmethod
    def progress(self, since: int) -> Progress:
        """What a stream shows now; log-probabilities of the answer's tokens from `since` on."""

    def submit(self) -> None:
        """Hand the work to the I/O loop."""
        self.run.add(self)
        io_loop().call(self._start)

    def cancel(self) -> None:
        """Stop it, wherever it is; it ends with `Aborted`. Safe on any thread, and twice."""
        self._is_cancelled = True
        if not self.done.done():
            io_loop().call(self._cancel)

    def _start(self) -> None:
        self._task = asyncio.ensure_future(self._execute())
        self._task.add_done_callback(self._settle)
        if self._is_cancelled or self.run.cancelled:
            self._task.cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _execute(self) -> None:
        for piece in self._pieces:
            if isinstance(piece, Call):
                if not piece.work.done.done():
                    await asyncio.wrap_future(piece.work.done)
                if piece.work.failure is not None:
                    self.failure = piece.work.failure
                    return
        if needs_template(self._pieces):
            self._template = await self.run.template()
        self.node.status = "running"
        self.node.started = self.run.graph.clock()
        await self.ask(prompt_of(self._pieces, self._template))

    def _settle(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled():
            self.failure = self._failed(Aborted("cancelled before it was finished"))
            self.node.status = "cancelled"
        elif (error := task.exception()) is not None:
            self.failure = self._failed(error)
            self.node.status, self.node.error = "failed", describe(error)
            self.run.failures.append(self.failure)
        elif self.failure is not None:
            self.node.status, self.node.error = "failed", "not sent: what it continues failed"
        else:
            self.node.status = "done"
        self.node.finished = self.run.graph.clock()
        self._pieces = ()
        self.run.remove(self)
        self.done.set_result(None)
        self.watch.fire()

    def _failed(self, error: BaseException) -> Failure:
        verb = "was cancelled" if isinstance(error, Aborted) else "failed"
        lines = [
            f"{self._call_name} {verb} in {self.run.program}() at {self.node.where}"
            f"      request {self.rid}",
            f"  {describe(error)}",
        ]
        if not isinstance(error, Aborted):
            so_far = self._text_so_far()
            lines.append(f"  text so far (last 60 chars): {so_far[-60:]!r}")
        return Failure("\n".join(lines), error)

    def _text_so_far(self) -> str:
        pieces = self._pieces
        if self._template is None:  # not fetched, or what failed: leave the marks out
            pieces = tuple(piece for piece in pieces if isinstance(piece, str | Call))
        return text_of(pieces, self._template)

    def _record(self, usage: Usage, num_prompt: int, num_own: int) -> None:
        """Put costs into the graph; the text before this call cost what the call tells."""
        self.node.usage = usage
        self.end_tokens = num_prompt + num_own
        last = next((p for p in reversed(self._pieces) if isinstance(p, Call)), None)
        if self.prefill is None:
            return
        if last is None and self.prefill.start == 0:
            self.prefill.node.tokens = num_prompt
        elif (
            last is not None
            and last.work.end_tokens is not None
            and self.prefill.start == last.work.position + 1  # all text since then is this node's
            and self._pieces[last.work.position] is last  # not moved by a join
        ):
            self.prefill.node.tokens = num_prompt - last.work.end_tokens


class Call:
    """A state's interest in a `Work`; when no state has it any more, the work is cancelled."""

    __slots__ = ("__weakref__", "work")

    def __init__(self, work: Work) -> None:
        self.work = work

    def __del__(self) -> None:
        self.work.cancel()

    @property
    def text(self) -> str:
        """The answer's text so far."""
        return self.work.text

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The answer's whole tokens, once it is done."""
        return self.work.token_ids

    @property
    def tail(self) -> str:
        """The answer's text after its last whole token."""
        return self.work.tail
