"""The two kinds of work: a generation and a selection, each one request to the backend."""

import threading
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import msgspec

from ramify.interpreter.answer import Answer, select_info
from ramify.interpreter.call import Progress, Work
from ramify.interpreter.graph import GraphNode
from ramify.interpreter.pieces import Piece
from ramify.interpreter.run import Run
from ramify.lang.errors import Aborted, BackendError, error_from_info
from ramify.lang.expr import Gen, Select
from ramify.lang.options import CallOptions
from ramify.lang.protocol import (
    GenerateDelta,
    GenerateRequest,
    Prompt,
    ScoreRequest,
    text_prompt,
)
from ramify.lang.results import parse_answer


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
