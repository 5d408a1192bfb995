"""`POST /generate`: SGLang's native dialect, by its names, over `GenerateRequest`."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from aiohttp import web

from ramify.lang.errors import InvalidRequest, NotSupported
from ramify.lang.protocol import (
    GenerateRequest,
    LogprobOptions,
    Prompt,
    Sampling,
    Segment,
    text_prompt,
    token_prompt,
)
from ramify.runtime.api.body import json_response, read_json
from ramify.runtime.api.generation import MAX_PROMPTS, check_rid, new_rid, run
from ramify.runtime.api.native_reply import Replies
from ramify.runtime.api.sampling import SamplingFields, check, make_sampling
from ramify.runtime.api.sse import EventStream
from ramify.runtime.api.state import STATE, TRACE

_NAMES = {"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens"}
_LOGPROB_NAMES = {"top_logprobs": "top_logprobs_num", "prompt_start": "logprob_start_len"}


_CONSTRAINTS = {
    name: f"sampling_params.{name}" for name in ("regex", "json_schema", "ebnf", "structural_tag")
} | {"max_tokens": "sampling_params.max_new_tokens"}


class SamplingParams(SamplingFields, kw_only=True, forbid_unknown_fields=True):
    """`sampling_params` of SGLang."""

    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    spaces_between_special_tokens: bool | None = None


class GenerateBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of `/generate`: exactly one of `text`, `input_ids` and `segments`, one or a batch."""

    text: str | list[str] | None = None
    input_ids: list[int | list[int]] | None = None
    segments: list[Segment | list[Segment]] | None = None
    sampling_params: SamplingParams | list[SamplingParams] | None = None
    return_logprob: bool | None = None
    logprob_start_len: int | None = None  # -1 = none of the prompt
    top_logprobs_num: int | None = None
    return_text_in_logprobs: bool | None = None
    stream: bool | None = None
    rid: str | list[str] | None = None
    priority: int | None = None
    timeout: float | None = None  # seconds
    # Fields of SGLang for what is not served here: null, false and empty pass, anything else is
    # refused by name.
    image_data: Any = None
    video_data: Any = None
    audio_data: Any = None
    input_embeds: Any = None
    lora_path: Any = None
    session_params: Any = None
    custom_logit_processor: Any = None
    return_hidden_states: Any = None
    token_ids_logprob: Any = None


_UNSERVED = GenerateBody.__struct_fields__[GenerateBody.__struct_fields__.index("image_data") :]


async def generate(request: web.Request) -> web.StreamResponse:
    """Handle `POST /generate`."""
    body = await read_json(request, GenerateBody)
    state = request.app[STATE]
    prompts, is_batch = read_prompts(body)
    asked = make_requests(body, prompts, state.config.request_timeout)
    request[TRACE].names.update(_CONSTRAINTS)
    is_list = is_batch or asked[0].sampling.n > 1
    replies = Replies(state.loaded().engine, asked, bool(body.return_text_in_logprobs))
    if not body.stream:
        async with aclosing(run(request, asked)) as steps:
            async for step in steps:
                replies.add(step)
        found = replies.all()
        return json_response(found if is_list else found[0])
    async with EventStream(request) as stream, aclosing(run(request, asked)) as steps:
        async for step in steps:
            progress = replies.add(step)
            event = replies.render(progress)
            if is_list:
                event["index"] = progress.index
            await stream.send(msgspec.json.encode(event))
    return stream.response


def read_prompts(body: GenerateBody) -> tuple[list[Prompt], bool]:
    """The prompts of a body, and whether they came as a batch."""
    fields = ("text", "input_ids", "segments")
    given = [name for name in fields if getattr(body, name) is not None]
    if len(given) != 1:
        raise InvalidRequest(
            f"{' and '.join(given) or 'none'} of {', '.join(fields)} given: give exactly one",
            code="missing_field" if not given else "invalid_request",
            param=given[1] if given else "text",
        )
    if isinstance(body.text, str):
        return [text_prompt(body.text)], False
    entries: Sequence[Any] = getattr(body, given[0])
    if body.text is not None:
        prompts, is_batch = [text_prompt(entry) for entry in entries], True
    elif not entries or not isinstance(entries[0], list):
        prompts, is_batch = [_one_prompt(entries, given[0])], False
    else:
        prompts = [_one_prompt(entry, f"{given[0]}[{i}]") for i, entry in enumerate(entries)]
        is_batch = True
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise InvalidRequest(
            f"{len(prompts)} prompts in one request: must be 1 to {MAX_PROMPTS}",
            code="out_of_range",
            param=given[0],
        )
    return prompts, is_batch


def _one_prompt(entries: Any, path: str) -> Prompt:
    """A prompt of token ids or of segments; `entries` must be all of one kind."""
    if not isinstance(entries, list) or any(isinstance(entry, list) for entry in entries):
        raise InvalidRequest(
            f"{path}: a batch is a list of lists, a single prompt a flat list; this mixes them",
            code="invalid_type",
            param=path,
        )
    if entries and isinstance(entries[0], int):
        return token_prompt(entries)
    return tuple(entries)


def make_requests(
    body: GenerateBody, prompts: Sequence[Prompt], default_timeout: float | None
) -> list[GenerateRequest]:
    """One `GenerateRequest` per prompt."""
    for name in _UNSERVED:
        value = getattr(body, name)
        if value not in (None, False, "", [], {}):
            raise NotSupported(f"{name} is not served here; leave it out", param=name)
    samplings = _samplings(body.sampling_params, len(prompts))
    logprobs = LogprobOptions(
        output=bool(body.return_logprob),
        prompt_start=_prompt_start(body),
        top=(body.top_logprobs_num or 0) if body.return_logprob else 0,
    )
    check(logprobs, path="", names=_LOGPROB_NAMES)
    return [
        GenerateRequest(
            rid=rid,
            prompt=prompt,
            sampling=sampling,
            logprobs=logprobs,
            priority=body.priority or 0,
            timeout_s=default_timeout if body.timeout is None else check_timeout(body.timeout),
        )
        for rid, prompt, sampling in zip(
            _rids(body.rid, len(prompts)), prompts, samplings, strict=True
        )
    ]


def check_timeout(timeout: float) -> float:
    """`timeout` in seconds, or `InvalidRequest`."""
    if not 0 < timeout <= 1e6:
        raise InvalidRequest(
            f"timeout={timeout}: must be more than 0 and at most 1000000 seconds",
            code="out_of_range",
            param="timeout",
        )
    return timeout


def _prompt_start(body: GenerateBody) -> int | None:
    start = body.logprob_start_len
    return None if not body.return_logprob or start in (None, -1) else start


def _per_prompt(values: list[Any], count: int, name: str) -> list[Any]:
    """`values`, or `InvalidRequest` unless there is one for each prompt."""
    if len(values) != count:
        raise InvalidRequest(
            f"{name} has {len(values)} entries for {count} prompts: give one value, or one per "
            "prompt",
            param=name,
        )
    return values


def _rids(rid: str | list[str] | None, count: int) -> list[str]:
    if rid is None:
        return [new_rid() for _ in range(count)]
    if isinstance(rid, str):
        rid = [rid] if count == 1 else [f"{rid}-{i}" for i in range(count)]
    return [check_rid(one) for one in _per_prompt(rid, count, "rid")]


def _samplings(params: SamplingParams | list[SamplingParams] | None, count: int) -> list[Sampling]:
    if isinstance(params, list):
        return [
            _sampling(one, f"sampling_params[{i}].")
            for i, one in enumerate(_per_prompt(params, count, "sampling_params"))
        ]
    return [_sampling(params or SamplingParams(), "sampling_params.")] * count


def _sampling(params: SamplingParams, path: str) -> Sampling:
    if params.spaces_between_special_tokens is False:
        name = "spaces_between_special_tokens"
        raise NotSupported(f"{name}=false is not served here; leave it out", param=path + name)
    return make_sampling(
        params, params.max_new_tokens, params.min_new_tokens, path=path, names=_NAMES
    )
