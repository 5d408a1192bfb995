"""`POST /v1/completions`: text or token prompts, one or many, continued."""

from contextlib import aclosing
from typing import Any

import msgspec
from aiohttp import web

from ramify.lang.errors import InvalidRequest
from ramify.lang.protocol import (
    GenerateDelta,
    GenerateRequest,
    LogprobOptions,
    Prompt,
    TextSegment,
    TokenLogprob,
    TokenSegment,
    text_prompt,
    token_prompt,
)
from ramify.runtime.api.body import json_response, lenient, read_lenient_json
from ramify.runtime.api.generation import MAX_PROMPTS, answers, new_rid, run
from ramify.runtime.api.openai.common import (
    CommonBody,
    UsageSum,
    checked_logprobs,
    envelope,
    finish_fields,
    read_common,
    refuse_unserved,
    wants_usage,
)
from ramify.runtime.api.sse import EventStream
from ramify.runtime.api.state import STATE, ServedEngine

DEFAULT_MAX_TOKENS = 16  # OpenAI's


class CompletionBody(CommonBody, kw_only=True, forbid_unknown_fields=True):
    """Body of `/v1/completions`."""

    prompt: str | list[str | int | list[int]]
    echo: bool | None = None
    logprobs: int | None = None  # how many of the likeliest tokens to list
    suffix: Any = None


_Lenient = lenient(CompletionBody)


async def create(request: web.Request) -> web.StreamResponse:
    """Handle `POST /v1/completions`."""
    body = await read_lenient_json(request, CompletionBody, _Lenient)
    state = request.app[STATE]
    state.check_model(body.model)
    asked = make_requests(request, body, state.config.request_timeout)
    head = envelope(f"cmpl-{asked[0].rid}", "text_completion", state.model_name)
    choices = _Choices(state.loaded().engine, asked, echo=bool(body.echo))
    if body.stream:
        return await _stream(request, body, asked, choices, head)
    usage = UsageSum()
    found = []
    for prompt, answer in enumerate(await answers(request, asked)):
        for number, completion in enumerate(answer.completions):
            usage.add(prompt, completion.usage)
            whole = GenerateDelta(
                rid=answer.rid,
                index=number,
                text=completion.text,
                token_ids=completion.token_ids,
                logprobs=completion.logprobs,
                prompt_logprobs=completion.prompt_logprobs,
                finish=completion.finish,
                relaxed=completion.relaxed,
            )
            found.append(choices.render(prompt, whole))
    return json_response({**head, "choices": found, "usage": usage.render()})


async def _stream(
    request: web.Request,
    body: CompletionBody,
    asked: list[GenerateRequest],
    choices: "_Choices",
    head: dict[str, Any],
) -> web.StreamResponse:
    if wants_usage(body):
        head["usage"] = None
    usage = UsageSum()
    async with EventStream(request) as stream, aclosing(run(request, asked)) as steps:
        async for step in steps:
            usage.add(step.prompt, step.delta.usage)
            chunk = {**head, "choices": [choices.render(step.prompt, step.delta)]}
            await stream.send(msgspec.json.encode(chunk))
        if wants_usage(body):
            last = {**head, "choices": [], "usage": usage.render()}
            await stream.send(msgspec.json.encode(last))
    return stream.response


def make_requests(
    request: web.Request, body: CompletionBody, timeout: float | None
) -> list[GenerateRequest]:
    """One `GenerateRequest` per prompt."""
    refuse_unserved(body, ("suffix",))
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    sampling = read_common(request, body, max_tokens)
    logprobs = LogprobOptions(
        output=body.logprobs is not None,
        prompt_start=0 if body.echo and body.logprobs is not None else None,
        top=body.logprobs or 0,
    )
    checked_logprobs(logprobs, "logprobs")
    return [
        GenerateRequest(
            rid=new_rid(),
            prompt=prompt,
            sampling=sampling,
            logprobs=logprobs,
            priority=body.priority or 0,
            timeout_s=timeout,
            namespace=body.cache_salt or "",
        )
        for prompt in read_prompts(body.prompt)
    ]


def read_prompts(given: str | list[str | int | list[int]]) -> list[Prompt]:
    """The prompts of `prompt`: a string, strings, token ids, or lists of token ids."""
    if isinstance(given, str):
        return [text_prompt(given)]
    if given and all(isinstance(entry, int) for entry in given):
        return [token_prompt(given)]  # type: ignore[arg-type]
    if not 1 <= len(given) <= MAX_PROMPTS:
        raise InvalidRequest(
            f"{len(given)} prompts in one request: must be 1 to {MAX_PROMPTS}",
            code="out_of_range",
            param="prompt",
        )
    kind = type(given[0])
    prompts: list[Prompt] = []
    for i, entry in enumerate(given):
        if type(entry) is not kind or isinstance(entry, int):
            raise InvalidRequest(
                f"prompt[{i}]: strings, token ids and lists of token ids cannot be mixed",
                code="invalid_type",
                param=f"prompt[{i}]",
            )
        prompts.append(text_prompt(entry) if isinstance(entry, str) else token_prompt(entry))
    return prompts


class _Choices:
    """Renders deltas as `choices`, keeping what must be remembered between chunks."""

    def __init__(self, engine: ServedEngine, asked: list[GenerateRequest], *, echo: bool) -> None:
        self._engine = engine
        self._asked = asked
        self._echo = echo
        self._offsets: dict[int, int] = {}  # index -> characters of all its tokens so far

    def render(self, prompt: int, delta: GenerateDelta) -> dict[str, Any]:
        """The `choices` entry of one delta, or of a whole answer given as one delta."""
        asked = self._asked[prompt]
        index = prompt * asked.sampling.n + delta.index
        is_first = index not in self._offsets
        self._offsets.setdefault(index, 0)
        text = delta.text
        entries: tuple[TokenLogprob, ...] = delta.logprobs
        if self._echo and is_first:
            text = self._prompt_text(asked.prompt) + text
        if self._echo and delta.prompt_logprobs is not None:
            entries = delta.prompt_logprobs + entries
        choice: dict[str, Any] = {"index": index, "text": text, "logprobs": None}
        choice["finish_reason"] = None
        if asked.logprobs.output:
            choice["logprobs"] = self._logprobs(index, entries)
        if delta.finish is not None:
            choice |= finish_fields(delta.finish, delta.relaxed)
        return choice

    def _logprobs(self, index: int, entries: tuple[TokenLogprob, ...]) -> dict[str, Any]:
        name = self._engine.token_text
        tokens = [name(entry.token_id) for entry in entries]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(token)
        tops = [{name(token): lp for lp, token in entry.top} or None for entry in entries]
        return {
            "tokens": tokens,
            "token_logprobs": [entry.logprob for entry in entries],
            "top_logprobs": tops,
            "text_offset": offsets,
        }

    def _prompt_text(self, prompt: Prompt) -> str:
        parts = []
        for segment in prompt:
            if isinstance(segment, TextSegment):
                parts.append(segment.text)
            elif isinstance(segment, TokenSegment):
                parts.append(self._engine.detokenize(list(segment.token_ids)))
        return "".join(parts)
