"""An engine without a model: bytes are tokens, answers are scripted.

Same interface, checks and errors as `ramify.runtime.engine.Engine`, so that what the server does
with each of them can be tested fast.
"""

import asyncio
import codecs
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from ramify.lang.chat import ChatTemplate
from ramify.lang.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    ErrorInfo,
    InvalidRequest,
    RamifyError,
    Unavailable,
)
from ramify.lang.protocol import (
    ContinuationScore,
    FinishReason,
    GenerateDelta,
    GenerateRequest,
    ModelInfo,
    Prompt,
    ScoreRequest,
    ScoreResult,
    TextSegment,
    TokenLogprob,
    Usage,
)
from ramify.runtime.config import EngineConfig
from ramify.runtime.core import EngineStats

EOS = 256
VOCAB = 257
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def echo(prompt: bytes, index: int) -> bytes:
    return b"[%d] " % index + prompt


@dataclass(eq=False)
class FakeEngine:
    reply: Callable[[bytes, int], bytes] = echo
    delay: float = 0.0  # seconds before each token
    fail_after: int | None = None  # tokens before `failure`
    failure: ErrorInfo | Exception = field(
        default_factory=lambda: ErrorInfo(message="boom", type="EngineError", code="boom")
    )
    refusal: RamifyError | None = None
    down: Unavailable | None = None  # what `check` says
    max_live: int = 2048
    context_length: int = 4096
    config: EngineConfig = field(default_factory=EngineConfig)
    chat_template: ChatTemplate | None = field(default_factory=lambda: ChatTemplate(TEMPLATE, {}))
    phases: tuple[tuple[str, float, str], ...] = (("weights", 0.1, "none"),)
    gate: asyncio.Event = field(default_factory=asyncio.Event)  # nothing is generated before
    requests: list[GenerateRequest] = field(default_factory=list)
    num_sent: dict[str, int] = field(default_factory=dict)  # tokens by rid
    aborted: list[str] = field(default_factory=list)  # iterators closed before their end
    num_flushed: int = 0
    is_closed: bool = False
    _live: dict[str, asyncio.Event] = field(default_factory=dict)
    _stats: EngineStats = field(default_factory=EngineStats)

    def __post_init__(self) -> None:
        self.gate.set()

    async def model_info(self) -> ModelInfo:
        return ModelInfo(
            model="org/fake-model",
            context_length=self.context_length,
            vocab_size=VOCAB,
            eos_token_ids=(EOS,),
            chat_template=TEMPLATE,
            special_tokens={},
        )

    async def async_generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateDelta, None]:
        prompt = self._accept(request)
        cancelled = self._live[request.rid] = asyncio.Event()
        done = False
        try:
            queue: asyncio.Queue[GenerateDelta | Exception] = asyncio.Queue(maxsize=1)
            tasks = [
                asyncio.create_task(self._sequence(request, prompt, i, cancelled, queue))
                for i in range(request.sampling.n)
            ]
            num_left = len(tasks)
            while num_left:
                delta = await queue.get()
                if isinstance(delta, Exception):
                    raise delta
                num_left -= delta.finish is not None or delta.error is not None
                done = not num_left
                self.num_sent[request.rid] = self.num_sent.get(request.rid, 0) + len(
                    delta.token_ids
                )
                yield delta
        finally:
            for task in tasks:
                task.cancel()
            del self._live[request.rid]
            if not done:
                self.aborted.append(request.rid)

    def _accept(self, request: GenerateRequest) -> bytes:
        if self.refusal is not None:
            raise self.refusal
        request.sampling.check()
        request.logprobs.check()
        if request.rid in self._live:
            raise InvalidRequest(f"rid {request.rid!r} is in use", code="duplicate_rid")
        if len(self._live) >= self.max_live:
            raise Unavailable("The request queue is full.", code="queue_full")
        prompt = self.encode(request.prompt)
        if not prompt:
            raise InvalidRequest("the prompt is empty", param="prompt")
        asked = len(prompt) + request.sampling.max_tokens
        if asked > self.context_length:
            raise ContextLengthExceeded(
                f"prompt {len(prompt)} + max_tokens {request.sampling.max_tokens} > "
                f"{self.context_length}"
            )
        self.requests.append(request)
        return prompt

    async def _sequence(self, request, prompt, index, cancelled, queue) -> None:
        started = time.monotonic()
        sampling, wanted = request.sampling, request.logprobs
        answer = [*self.reply(prompt, index)]
        finish = FinishReason(type="stop", matched=EOS)
        text = bytes(answer).decode(errors="ignore")
        for stop in sampling.stop:
            if stop in text:
                text = text[: text.index(stop)]
                answer, finish = [*text.encode()], FinishReason(type="stop", matched=stop)
        if len(answer) > sampling.max_tokens or sampling.max_tokens == 0:
            answer, finish = answer[: sampling.max_tokens], FinishReason(type="length")
        decoder = codecs.getincrementaldecoder("utf-8")()
        head = {"rid": request.rid, "index": index}
        prompt_logprobs = None
        if wanted.prompt_start is not None:
            entries = [self._logprob(token, wanted.top) for token in prompt]
            entries[0] = TokenLogprob(None, prompt[0])
            prompt_logprobs = tuple(entries[wanted.prompt_start :])
        await self.gate.wait()
        for place, token in enumerate(answer):
            if self.delay:
                await asyncio.sleep(self.delay)
            if place == self.fail_after:
                failed = self.failure
                if isinstance(failed, ErrorInfo):
                    failed = GenerateDelta(**head, error=failed)
                await queue.put(failed)
                return
            if cancelled.is_set():
                finish = FinishReason(type="abort")
                break
            if request.timeout_s is not None and time.monotonic() - started > request.timeout_s:
                late = DeadlineExceeded(f"not done within {request.timeout_s} s")
                await queue.put(GenerateDelta(**head, error=late.info()))
                return
            await queue.put(
                GenerateDelta(
                    **head,
                    text=decoder.decode(bytes([token])),
                    token_ids=(token,),
                    logprobs=(self._logprob(token, wanted.top),) if wanted.output else (),
                    prompt_logprobs=prompt_logprobs,
                )
            )
            prompt_logprobs = None
        usage = Usage(
            prompt_tokens=len(prompt), cached_tokens=len(prompt) // 2, completion_tokens=len(answer)
        )
        last = GenerateDelta(**head, finish=finish, usage=usage, prompt_logprobs=prompt_logprobs)
        await queue.put(last)

    def _logprob(self, token: int, top: int) -> TokenLogprob:
        value = -(token + 1) / 64
        return TokenLogprob(value, token, tuple((value - i, token + i) for i in range(top)))

    async def async_score(self, request: ScoreRequest) -> ScoreResult:
        cancelled = self._live[request.rid] = asyncio.Event()
        try:
            if not self.gate.is_set():
                waiting = [asyncio.create_task(one.wait()) for one in (self.gate, cancelled)]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self.aborted.append(request.rid)
            raise
        finally:
            del self._live[request.rid]
        scores = []
        for prompt in request.continuations:
            tokens = tuple(self.encode(prompt))
            logprobs = tuple(-(token + 1) / 64 for token in tokens)
            scores.append(
                ContinuationScore(
                    token_ids=tokens,
                    logprobs=logprobs,
                    top_token_ids=tokens,
                    unconditional_logprobs=logprobs if request.unconditional else None,
                )
            )
        num_prompt = len(self.encode(request.prompt)) + sum(len(s.token_ids) for s in scores)
        usage = Usage(prompt_tokens=num_prompt, cached_tokens=0, completion_tokens=0)
        return ScoreResult(rid=request.rid, scores=tuple(scores), usage=usage)

    async def async_flush_cache(self) -> None:
        self.num_flushed += 1

    async def abort(self, rid: str) -> int:
        if rid not in self._live:
            return 0
        self._live[rid].set()
        return 1

    def check(self) -> None:
        if self.down is not None:
            raise self.down

    def stats(self) -> EngineStats:
        return EngineStats(num_running=len(self._live), num_slots=1000, num_free_slots=900)

    def encode(self, prompt: Prompt) -> bytes:
        found = b""
        for segment in prompt:
            if isinstance(segment, TextSegment):
                found += segment.text.encode()
                continue
            for i, token in enumerate(segment.token_ids):
                if not 0 <= token < VOCAB:
                    raise InvalidRequest(f"token id {token} at {i}: must be below {VOCAB}")
            found += bytes(token for token in segment.token_ids if token != EOS)
        return found

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def detokenize(self, token_ids: list[int]) -> str:
        return bytes(token for token in token_ids if 0 <= token < 256).decode(errors="replace")

    def token_text(self, token_id: int) -> str:
        return self.detokenize([token_id])

    async def async_close(self) -> None:
        self.is_closed = True
        for cancelled in self._live.values():
            cancelled.set()
        self.gate.set()
