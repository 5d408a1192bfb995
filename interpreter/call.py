"""A call to the model: the interest in it (`Call`) and its execution on the I/O loop (`Work`).

    state --holds--> Call --holds--> Work <--runs-- the I/O loop

When the last state that holds a `Call` is gone, nobody can read its answer any more: the `Work`
is cancelled. A `Work` holds the `Call`s it continues, so those live as long as it needs them.
"""

import asyncio
import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any, NamedTuple

import msgspec

from ramify.interpreter.answer import Answer, select_info
from ramify.interpreter.graph import GraphNode
from ramify.interpreter.loop import Watch, io_loop, new_future
from ramify.interpreter.pieces import Piece, needs_template, prompt_of, text_of
from ramify.interpreter.run import Run
from ramify.lang.chat import ChatTemplate
from ramify.lang.errors import (
    Aborted,
    BackendError,
    ProgramError,
    RamifyError,
    error_from_info,
)
from ramify.lang.expr import Gen, Select
from ramify.lang.options import CallOptions
from ramify.lang.protocol import (
    GenerateDelta,
    GenerateRequest,
    Prompt,
    ScoreRequest,
    Usage,
    text_prompt,
)
from ramify.lang.results import parse_answer


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
        if not self.done.done():
            io_loop().call(self._cancel)

    def _start(self) -> None:
        self._task = asyncio.ensure_future(self._execute())
        self._task.add_done_callback(self._settle)
        if self.run.cancelled:
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


class Generation(Work):
    """The work of a `gen`."""

    def __init__(
        self,
        run: Run,
        expr: Gen,
        pieces: tuple[Piece, ...],
        node: GraphNode,
        options: CallOptions,
        group: str | None,
    ) -> None:
        super().__init__(run, expr, pieces, node)
        self._result = expr.result
        self._options = options
        self._group = group
        self.answers = tuple(Answer() for _ in range(options.sampling.n))
        self._lock = threading.Lock()  # the first answer grows on the loop, is streamed elsewhere

    async def ask(self, prompt: Prompt) -> None:
        """Generate; raises what the backend raises, or when the answer is not whole."""
        options = self._options
        request = GenerateRequest(
            rid=self.rid,
            prompt=prompt,
            sampling=options.sampling,
            logprobs=options.logprobs,
            priority=options.priority,
            timeout_s=options.timeout_s,
            group=self._group,
        )
        async with AsyncExitStack() as stack:
            deltas: AsyncIterator[GenerateDelta] = self.run.backend.generate(request)
            if isinstance(deltas, AsyncGenerator):
                await stack.enter_async_context(aclosing(deltas))
            async for delta in deltas:
                self._take(delta)
        self._complete()

    def _take(self, delta: GenerateDelta) -> None:
        if delta.error is not None:
            raise error_from_info(delta.error)
        if not 0 <= delta.index < len(self.answers):
            raise BackendError(
                f"the backend answered with sequence {delta.index} of {len(self.answers)}"
            )
        with self._lock:
            self.answers[delta.index].add(delta)
            self.text = self.answers[0].text
        self.watch.fire()

    def _complete(self) -> None:
        for index, answer in enumerate(self.answers):
            if answer.finish is None or answer.usage is None:
                raise BackendError(f"the answer broke off: sequence {index} has no final delta")
            if answer.finish.type == "abort":
                raise Aborted(f"the backend aborted sequence {index}")
        values = [parse_answer(self._result, answer.text) for answer in self.answers]
        self.value = values if len(values) > 1 else values[0]
        first = self.answers[0]
        assert first.usage is not None
        self.token_ids = tuple(first.token_ids)
        self.tail = first.tail
        usages = [answer.usage for answer in self.answers if answer.usage is not None]
        total = sum(usage.completion_tokens for usage in usages)
        self._record(
            msgspec.structs.replace(first.usage, completion_tokens=total),
            first.usage.prompt_tokens,
            len(first.token_ids),
        )

    def meta_info(self) -> Any:
        """A dict, or a list of one dict per sequence when `n` > 1."""
        metas = [answer.meta_info(self.rid) for answer in self.answers]
        return metas if len(metas) > 1 else metas[0]

    def progress(self, since: int) -> Progress:
        """The first answer so far."""
        with self._lock:
            first = self.answers[0]
            meta = first.meta_info(self.rid, since=since)
            return Progress(first.text, len(first.token_ids), meta)


class Selection(Work):
    """The work of a `select`."""

    def __init__(self, run: Run, expr: Select, pieces: tuple[Piece, ...], node: GraphNode) -> None:
        super().__init__(run, expr, pieces, node)
        self._choices = expr.choices
        self._method = expr.method
        self._meta: dict[str, Any] = {}

    async def ask(self, prompt: Prompt) -> None:
        """Score all choices in one request and take the best."""
        request = ScoreRequest(
            rid=self.rid,
            prompt=prompt,
            continuations=tuple(text_prompt(choice) for choice in self._choices),
            unconditional=self._method.needs_unconditional,
            timeout_s=self.run.options.timeout_s,
        )
        result = await self.run.backend.score(request)
        scores = result.scores
        if len(scores) != len(self._choices) or not all(score.token_ids for score in scores):
            raise BackendError(
                f"the backend scored {len(scores)} of {len(self._choices)} choices, or one as empty"
            )
        ranks = self._method.rank(scores)
        best = max(range(len(ranks)), key=ranks.__getitem__)
        self.value = self.text = self._choices[best]
        self.token_ids = scores[best].token_ids
        self._meta = select_info(self.rid, self._choices, scores, ranks, result.usage)
        num_scored = sum(len(score.token_ids) for score in scores)
        self._record(
            result.usage, result.usage.prompt_tokens - num_scored, len(scores[best].token_ids)
        )

    def meta_info(self) -> Any:
        """A dict with the whole distribution over the choices."""
        return self._meta

    def progress(self, since: int) -> Progress:
        """The choice, once it is made."""
        return Progress(self.text, len(self.token_ids), self._meta)


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


def derive_seed(seed: int, place: str) -> int:
    """A seed of its own for each call of a run, the same in every run of the program."""
    digest = hashlib.blake2b(f"{seed}/{place}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
