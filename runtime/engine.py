"""The engine's front door: text in, text out, around a worker that knows only tokens.

Everything here runs in the caller's process and on the caller's event loop: tokenizing, turning
tokens back into text, stop strings. The blocking methods share one loop thread of the engine's.
The worker is a thread or a process: nothing here depends on which.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from os import PathLike, fspath
from types import TracebackType
from typing import Any, Self

import msgspec

from ramify.lang.chat import ChatTemplate
from ramify.lang.errors import ConfigError, InvalidRequest, Unavailable, unknown_argument
from ramify.lang.protocol import (
    GenerateDelta,
    GenerateRequest,
    LogprobOptions,
    ModelInfo,
    Prompt,
    RelaxedKeyword,
    Sampling,
    ScoreRequest,
    ScoreResult,
    TextSegment,
    text_prompt,
    token_prompt,
)
from ramify.runtime.answer import Answer, collect
from ramify.runtime.config import EngineConfig
from ramify.runtime.core import EngineStats, TokenRequest
from ramify.runtime.loop_thread import LoopThread
from ramify.runtime.scheduler.admission import check_token_ids
from ramify.runtime.score import Scored, candidates, score_result, scored, token_request
from ramify.runtime.sequence import SequenceText
from ramify.runtime.startup import Phase, start
from ramify.runtime.streams import Streams, is_last

PromptLike = str | Prompt | Sequence[int]

OFF_LOOP_CHARS = 4096  # longer prompts are tokenized on a thread, so that the loop never stalls
SCORE_WAVE = 256  # continuations handed to the worker at a time


class Engine:
    """A model, ready to continue and score prompts.

    `Engine()` serves the bundled model; options are the fields of `EngineConfig`. Close it with
    `close()` or by leaving its `with`.
    """

    def __init__(
        self,
        model: str | PathLike[str] | None = None,
        *,
        config: EngineConfig | None = None,
        **options: Any,
    ) -> None:
        self.config = _make_config(model, config, options)
        self._streams = Streams()
        parts = start(self.config, self._streams)
        self.phases: tuple[Phase, ...] = parts.phases
        self.chat_template: ChatTemplate | None = parts.front.chat_template()
        self._worker = parts.worker
        self._tokenizer = parts.front.tokenizer
        self._info = parts.front.info()
        self._seeds = itertools.count(self.config.random_seed)
        self._loop = LoopThread()

    # On the caller's event loop -------------------------------------------------------------------

    async def model_info(self) -> ModelInfo:
        """What this engine serves."""
        return self._info

    async def async_generate(self, request: GenerateRequest) -> AsyncIterator[GenerateDelta]:
        """Deltas of all sequences of `request`, interleaved.

        A refusal raises before the first delta. Closing the iterator aborts what still runs.
        """
        self._check(request)
        token_ids = await self._encode(request.prompt)
        specs = self._sequences(request, tuple(token_ids))
        texts = [SequenceText(self._tokenizer, request.sampling, len(token_ids)) for _ in specs]
        async with self._streams.open(self._worker, specs) as stream:
            async for delta in stream:
                text = texts[delta.index]
                was_stopped = text.is_stopped
                answer = text.feed(delta)
                if text.is_stopped and not was_stopped and not is_last(delta):
                    with suppress(Unavailable):  # it died: the last delta is on its way
                        self._worker.abort(request.rid, delta.index)  # a stop string
                if answer is not None:
                    yield _with_relaxed(answer, stream.relaxed)

    async def async_score(self, request: ScoreRequest) -> ScoreResult:
        """Log-probabilities of each continuation after the prompt; cancelling aborts."""
        started = time.monotonic()
        prefix = await self._encode(request.prompt)
        tails = [await self._encode(tail, is_first=False) for tail in request.continuations]
        asked = candidates(request, prefix, tails, self._tokenizer.start_token_id)
        deadline = _deadline(request.timeout_s)
        found: dict[int, Scored] = {}
        for first in range(0, len(asked), SCORE_WAVE):
            wave = asked[first : first + SCORE_WAVE]
            specs = tuple(
                token_request(request, first + i, candidate, deadline)
                for i, candidate in enumerate(wave)
            )
            async with self._streams.open(self._worker, specs) as stream:
                async for delta in stream:
                    found[delta.index] = scored(delta)
        return score_result(request, asked, [found[i] for i in range(len(asked))], started)

    async def async_flush_cache(self) -> None:
        """Forget every cached prefix that no running request uses."""
        await asyncio.wrap_future(self._worker.flush_cache())

    async def abort(self, rid: str) -> int:
        """End the request of exactly this id; the number of its sequences that still ran."""
        return await asyncio.wrap_future(self._worker.abort(rid))

    async def async_close(self) -> None:
        """End what runs with finish `abort`, then release the model."""
        await asyncio.to_thread(self.close)

    # From any thread ------------------------------------------------------------------------------

    def generate(
        self,
        prompt: PromptLike,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        *,
        logprobs: LogprobOptions = LogprobOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
    ) -> Answer:
        """Continue one prompt: text, token ids, or a tuple of segments. Blocks until it is done."""
        return self.generate_batch([prompt], sampling, logprobs=logprobs, timeout_s=timeout_s)[0]

    def generate_batch(
        self,
        prompts: Sequence[PromptLike],
        sampling: Sampling | Sequence[Sampling] = Sampling(),  # noqa: B008 - frozen
        *,
        logprobs: LogprobOptions = LogprobOptions(),  # noqa: B008 - frozen
        timeout_s: float | None = None,
    ) -> list[Answer]:
        """Continue all prompts together; `sampling` may be one for each. Raises the first error."""
        samplings = [sampling] * len(prompts) if isinstance(sampling, Sampling) else sampling
        requests = [
            GenerateRequest(
                rid=_new_rid(),
                prompt=_to_prompt(prompt),
                sampling=own,
                logprobs=logprobs,
                timeout_s=timeout_s,
            )
            for prompt, own in zip(prompts, samplings, strict=True)
        ]
        return self._loop.run(self._gather(requests))

    def stream(
        self,
        prompt: PromptLike,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        *,
        logprobs: LogprobOptions = LogprobOptions(),  # noqa: B008 - frozen
    ) -> Iterator[GenerateDelta]:
        """Deltas as they come; closing the iterator aborts."""
        request = GenerateRequest(
            rid=_new_rid(), prompt=_to_prompt(prompt), sampling=sampling, logprobs=logprobs
        )
        return self._loop.iterate(self.async_generate(request))

    def score(
        self,
        prompt: PromptLike,
        continuations: Sequence[PromptLike],
        *,
        unconditional: bool = False,
    ) -> ScoreResult:
        """Log-probability of each token of each continuation after `prompt`."""
        request = ScoreRequest(
            rid=_new_rid(),
            prompt=_to_prompt(prompt),
            continuations=tuple(_to_prompt(continuation) for continuation in continuations),
            unconditional=unconditional,
        )
        return self._loop.run(self.async_score(request))

    def flush_cache(self) -> None:
        """Forget every cached prefix that no running request uses."""
        self._worker.flush_cache().result()

    def stats(self) -> EngineStats:
        """Gauges of this moment and counters since start."""
        return self._worker.stats()

    def check(self) -> None:
        """Raise `Unavailable`, with the reason, unless requests are taken."""
        self._worker.check()

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text` as the start of a prompt."""
        return self._tokenizer.encode(text, is_first=True)

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """Text of `token_ids`, special tokens included."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=False)

    def token_text(self, token_id: int) -> str:
        """Text of one token; a token that is part of a character shows U+FFFD."""
        return self.detokenize([token_id])

    def close(self) -> None:
        """End what runs with finish `abort`, then release the model."""
        self._worker.close()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # ----------------------------------------------------------------------------------------------

    async def _gather(self, requests: Sequence[GenerateRequest]) -> list[Answer]:
        async def one(request: GenerateRequest) -> Answer:
            return collect(request.rid, [delta async for delta in self.async_generate(request)])

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(request)) for request in requests]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    def _check(self, request: GenerateRequest) -> None:
        request.sampling.check()
        request.logprobs.check()
        check_token_ids(request.sampling, self._info.vocab_size)
        if request.timeout_s is not None and not request.timeout_s > 0:
            raise InvalidRequest(
                f"timeout_s={request.timeout_s}: must be positive, or absent for no limit",
                code="out_of_range",
                param="timeout_s",
            )

    async def _encode(self, prompt: Prompt, *, is_first: bool = True) -> list[int]:
        if sum(len(s.text) for s in prompt if isinstance(s, TextSegment)) <= OFF_LOOP_CHARS:
            return self._tokenizer.encode_prompt(prompt, is_first=is_first)
        return await asyncio.to_thread(self._tokenizer.encode_prompt, prompt, is_first=is_first)

    def _sequences(
        self, request: GenerateRequest, token_ids: tuple[int, ...]
    ) -> tuple[TokenRequest, ...]:
        seed = request.sampling.seed
        sampling = msgspec.structs.replace(
            request.sampling,
            seed=next(self._seeds) if seed is None else seed,
            n=1,
            stop=(),
            stop_regex=(),
        )
        deadline = _deadline(request.timeout_s)
        return tuple(
            TokenRequest(
                rid=request.rid,
                index=index,
                token_ids=token_ids,
                sampling=sampling,
                logprobs=request.logprobs,
                eos_token_ids=self._info.eos_token_ids,
                priority=request.priority,
                deadline=deadline,
                namespace=request.namespace,
                group=request.group,
            )
            for index in range(request.sampling.n)
        )


def _make_config(
    model: str | PathLike[str] | None, config: EngineConfig | None, options: dict[str, Any]
) -> EngineConfig:
    if config is not None:
        if model is not None or options:
            raise ConfigError("give either config= or single options, not both")
        return config
    if model is not None:
        options["model"] = fspath(model)
    for name in options:
        if name not in EngineConfig.__dataclass_fields__:
            raise unknown_argument(name, frozenset(EngineConfig.__dataclass_fields__), "Engine()")
    return EngineConfig(**options)


def _to_prompt(prompt: PromptLike) -> Prompt:
    if isinstance(prompt, str):
        return text_prompt(prompt)
    if all(isinstance(item, int) for item in prompt):
        return token_prompt(prompt)  # type: ignore[arg-type]
    return tuple(prompt)  # type: ignore[arg-type]


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s


def _with_relaxed(delta: GenerateDelta, relaxed: tuple[RelaxedKeyword, ...]) -> GenerateDelta:
    """The delta; the last one of a sequence says what its grammar does not enforce."""
    if not relaxed or delta.finish is None:
        return delta
    return msgspec.structs.replace(delta, relaxed=relaxed)


def _new_rid() -> str:
    return uuid.uuid4().hex
