"""A backend with scripted replies, for tests of programs: no model, no network.

Its tokens are the bytes of UTF-8, and one special token that ends a message.
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Sequence

from ramify.interpreter.backends.base import Backend
from ramify.lang.errors import Aborted, InvalidRequest
from ramify.lang.protocol import (
    CONSTRAINTS,
    ContinuationScore,
    FinishReason,
    GenerateDelta,
    GenerateRequest,
    ModelInfo,
    Prompt,
    Sampling,
    ScoreRequest,
    ScoreResult,
    TextSegment,
    TokenLogprob,
    Usage,
)
from ramify.lang.results import REGEX_BOOL, REGEX_FLOAT, REGEX_INT, REGEX_STR

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
EOS = 256
LIKELY, UNLIKELY = -0.1, -5.0  # log-probability of each token of the scripted choice, of others

Request = GenerateRequest | ScoreRequest
Reply = str | BaseException


class MockBackend(Backend):
    """Answers with `replies`: a list, used up in the order of the requests, or a function.

    A function is given the prompt's text, and gives the reply. Without replies, every answer is
    "mock". A reply that is an exception is raised. A `select` chooses the choice that is the reply
    (without replies, the first). Replies are cut at stop strings and at `max_tokens`, which counts
    bytes. `requests` are all requests so far, in order.
    """

    def __init__(
        self,
        replies: Sequence[Reply] | Callable[[str], Reply] | None = None,
        *,
        delay_s: float = 0.0,  # before the first token of each answer
        chunk_size: int = 4,  # tokens per delta
        chat_template: str | None = CHATML,
        context_length: int = 1 << 20,
    ) -> None:
        self.requests: list[Request] = []
        self._replies = replies if callable(replies) or replies is None else list(replies)
        self._num_used = 0
        self._lock = threading.Lock()
        self._delay_s = delay_s
        self._chunk_size = chunk_size
        self._is_closed = False
        self._info = ModelInfo(
            model="mock",
            context_length=context_length,
            vocab_size=EOS + 1,
            eos_token_ids=(EOS,),
            chat_template=chat_template,
            special_tokens={"eos_token": "<|im_end|>"},
        )

    async def model_info(self) -> ModelInfo:
        """A model named "mock" with 257 tokens."""
        return self._info

    async def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateDelta]:
        """The next scripted reply, or `n` of them one after the other."""
        prompt = self._begin(request)
        request.sampling.check()
        num_prompt = len(prompt.encode())
        for index in range(request.sampling.n):
            text = self._reply(prompt, lambda: _example(request.sampling))
            await asyncio.sleep(self._delay_s)
            for delta in _deltas(request, index, text, num_prompt, self._chunk_size):
                yield delta
                await asyncio.sleep(0)

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Scores in which the scripted reply is the likeliest continuation."""
        prompt = self._begin(request)
        choices = [prompt_text(continuation) for continuation in request.continuations]
        reply = self._reply(prompt, lambda: choices[0])
        if reply not in choices:
            raise InvalidRequest(f"the scripted reply {reply!r} is none of the choices {choices!r}")
        await asyncio.sleep(self._delay_s)
        scores = tuple(
            _score(choice, LIKELY if choice == reply else UNLIKELY, request.unconditional)
            for choice in choices
        )
        num_scored = sum(len(score.token_ids) for score in scores)
        usage = Usage(
            prompt_tokens=len(prompt.encode()) + num_scored, cached_tokens=0, completion_tokens=0
        )
        return ScoreResult(rid=request.rid, scores=scores, usage=usage)

    async def flush_cache(self) -> None:
        """Nothing is cached."""

    async def close(self) -> None:
        """Refuse later requests."""
        self._is_closed = True

    def _begin(self, request: Request) -> str:
        with self._lock:
            self.requests.append(request)
        if self._is_closed:
            raise Aborted("the mock backend is closed")
        return prompt_text(request.prompt)

    def _reply(self, prompt: str, default: Callable[[], str]) -> str:
        if callable(self._replies):
            reply = self._replies(prompt)
        elif self._replies is None:
            reply = default()
        else:
            with self._lock:
                index, self._num_used = self._num_used, self._num_used + 1
            if index >= len(self._replies):
                raise InvalidRequest(
                    f"the mock backend has {len(self._replies)} replies, and this is request "
                    f"{index + 1}; script more",
                    code="no_reply",
                )
            reply = self._replies[index]
        if isinstance(reply, BaseException):
            raise reply
        return reply


def prompt_text(prompt: Prompt) -> str:
    """A mock prompt as text."""
    data = b"".join(
        segment.text.encode() if isinstance(segment, TextSegment) else bytes(segment.token_ids)
        for segment in prompt
    )
    return data.decode(errors="replace")


_EXAMPLES = {REGEX_INT: "0", REGEX_FLOAT: "0.0", REGEX_BOOL: "False", REGEX_STR: '""'}


def _example(sampling: Sampling) -> str:
    """What is answered without a script; constraints other than a `dtype` need one."""
    if sampling.regex is not None and sampling.regex in _EXAMPLES:
        return _EXAMPLES[sampling.regex]
    if any(getattr(sampling, name) is not None for name in CONSTRAINTS):
        raise InvalidRequest(
            "the mock backend cannot invent an answer for a regex, schema, grammar or structural "
            "tag; script it: MockBackend([...])",
            code="no_reply",
        )
    return "mock"


def _cut(text: str, sampling: Sampling) -> tuple[str, FinishReason]:
    """The reply up to the first stop string, or the last whole character within max_tokens."""
    limit = text.encode()[: sampling.max_tokens].decode(errors="ignore")
    found = [(at, stop) for stop in sampling.stop if (at := text.find(stop)) >= 0]
    found += [
        (match.start(), match.group())
        for pattern in sampling.stop_regex
        if (match := re.search(pattern, text))
    ]
    if found and len(text[: min(found)[0]].encode()) <= sampling.max_tokens:
        at, stop = min(found)
        return text[:at], FinishReason(type="stop", matched=stop)
    if limit != text:
        return limit, FinishReason(type="length")
    return text, FinishReason(type="stop", matched=EOS)


def _deltas(
    request: GenerateRequest, index: int, reply: str, num_prompt: int, chunk_size: int
) -> list[GenerateDelta]:
    text, finish = _cut(reply, request.sampling)
    token_ids = tuple(text.encode())
    prompt_logprobs = None
    if request.logprobs.prompt_start is not None:
        data = prompt_text(request.prompt).encode()
        prompt_logprobs = tuple(
            TokenLogprob(LIKELY if at else None, data[at])
            for at in range(request.logprobs.prompt_start, len(data))
        )
    deltas, sent = [], ""
    for start in range(0, len(token_ids), chunk_size):
        chunk = token_ids[start : start + chunk_size]
        whole = bytes(token_ids[: start + len(chunk)]).decode(errors="ignore")
        logprobs = tuple(TokenLogprob(LIKELY, token_id) for token_id in chunk)
        deltas.append(
            GenerateDelta(
                rid=request.rid,
                index=index,
                text=whole[len(sent) :],
                token_ids=chunk,
                logprobs=logprobs if request.logprobs.output else (),
            )
        )
        sent = whole
    usage = Usage(
        prompt_tokens=num_prompt, cached_tokens=0, completion_tokens=max(len(token_ids), 1)
    )
    last = GenerateDelta(
        rid=request.rid, index=index, finish=finish, usage=usage, prompt_logprobs=prompt_logprobs
    )
    return [*deltas, last]


def _score(choice: str, logprob: float, unconditional: bool) -> ContinuationScore:
    token_ids = tuple(choice.encode())
    logprobs = (logprob,) * len(token_ids)
    return ContinuationScore(
        token_ids=token_ids,
        logprobs=logprobs,
        top_token_ids=token_ids if logprob == LIKELY else (EOS,) * len(token_ids),
        unconditional_logprobs=(UNLIKELY,) * len(token_ids) if unconditional else None,
    )
