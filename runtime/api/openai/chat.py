"""`POST /v1/chat/completions`: messages rendered by the model's own template, then continued."""

import asyncio
from contextlib import aclosing
from typing import Any, Literal

import msgspec
from aiohttp import web

from ramify.lang.errors import InvalidRequest, NotSupported
from ramify.lang.protocol import (
    GenerateDelta,
    GenerateRequest,
    LogprobOptions,
    TokenLogprob,
    token_prompt,
)
from ramify.runtime.api.body import json_response, lenient, read_lenient_json
from ramify.runtime.api.generation import answers, new_rid, run
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
from ramify.runtime.api.state import STATE, Loaded, ServedEngine


class ContentPart(msgspec.Struct, kw_only=True):
    """A piece of a message's content; only text is served."""

    type: str
    text: str | None = None


class Message(msgspec.Struct, kw_only=True):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    tool_calls: Any = None


class ChatBody(CommonBody, kw_only=True, forbid_unknown_fields=True):
    """Body of `/v1/chat/completions`."""

    messages: list[Message]
    max_completion_tokens: int | None = None  # wins over max_tokens
    logprobs: bool | None = None
    top_logprobs: int | None = None
    parallel_tool_calls: Any = None  # no effect without tools
    reasoning_effort: Any = None
    # Refused unless trivial.
    tool_choice: Any = None
    tools: Any = None
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    web_search_options: Any = None
    chat_template: Any = None
    chat_template_kwargs: Any = None
    continue_final_message: Any = None


_UNSERVED = ChatBody.__struct_fields__[ChatBody.__struct_fields__.index("tool_choice") :]
_TRIVIAL: dict[str, tuple[object, ...]] = {
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
}
_Lenient = lenient(ChatBody)


async def create(request: web.Request) -> web.StreamResponse:
    """Handle `POST /v1/chat/completions`."""
    body = await read_lenient_json(request, ChatBody, _Lenient)
    state = request.app[STATE]
    state.check_model(body.model)
    asked = await make_request(request, body, state.loaded(), state.config.request_timeout)
    engine = state.loaded().engine
    id = f"chatcmpl-{asked.rid}"
    if body.stream:
        head = envelope(id, "chat.completion.chunk", state.model_name)
        return await _stream(request, body, asked, head)
    answer = (await answers(request, [asked]))[0]
    usage = UsageSum()
    choices = []
    for index, completion in enumerate(answer.completions):
        usage.add(0, completion.usage)
        choices.append(
            {
                "index": index,
                "message": {"role": "assistant", "content": completion.text, "refusal": None},
                "logprobs": _logprobs(engine, asked, completion.logprobs),
                **finish_fields(completion.finish, completion.relaxed),
            }
        )
    head = envelope(id, "chat.completion", state.model_name)
    return json_response({**head, "choices": choices, "usage": usage.render()})


async def _stream(
    request: web.Request, body: ChatBody, asked: GenerateRequest, head: dict[str, Any]
) -> web.StreamResponse:
    engine = request.app[STATE].loaded().engine
    if wants_usage(body):
        head["usage"] = None
    usage = UsageSum()
    started: set[int] = set()
    async with EventStream(request) as stream, aclosing(run(request, [asked])) as steps:
        async for _, delta in steps:
            usage.add(0, delta.usage)
            if delta.index not in started:
                started.add(delta.index)
                opening = _choice(delta.index, {"role": "assistant", "content": ""})
                await stream.send(msgspec.json.encode({**head, "choices": [opening]}))
            chunk = {**head, "choices": [_delta_choice(engine, asked, delta)]}
            await stream.send(msgspec.json.encode(chunk))
        if wants_usage(body):
            last = {**head, "choices": [], "usage": usage.render()}
            await stream.send(msgspec.json.encode(last))
    return stream.response


def _choice(index: int, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _delta_choice(
    engine: ServedEngine, asked: GenerateRequest, delta: GenerateDelta
) -> dict[str, Any]:
    choice = _choice(delta.index, {"content": delta.text} if delta.text else {})
    choice["logprobs"] = _logprobs(engine, asked, delta.logprobs)
    if delta.finish is not None:
        choice |= finish_fields(delta.finish, delta.relaxed)
    return choice


async def make_request(
    request: web.Request, body: ChatBody, loaded: Loaded, timeout: float | None
) -> GenerateRequest:
    """The `GenerateRequest` of a body; templates and tokenizers run off the event loop."""
    names = [name for name in _UNSERVED if getattr(body, name) not in _TRIVIAL.get(name, ())]
    refuse_unserved(body, names)
    is_new_name = body.max_completion_tokens is not None
    max_tokens = body.max_completion_tokens if is_new_name else body.max_tokens
    max_tokens_name = "max_completion_tokens" if is_new_name else "max_tokens"
    sampling = read_common(request, body, max_tokens, max_tokens_name)
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest(
            "top_logprobs without logprobs=true: set logprobs too", param="top_logprobs"
        )
    logprobs = LogprobOptions(output=bool(body.logprobs), top=body.top_logprobs or 0)
    checked_logprobs(logprobs, "top_logprobs")
    token_ids = await asyncio.to_thread(_encode, loaded.engine, read_messages(body.messages))
    if max_tokens is None:
        room = loaded.info.context_length - len(token_ids)
        sampling = msgspec.structs.replace(sampling, max_tokens=max(room, 1))
    return GenerateRequest(
        rid=new_rid(),
        prompt=token_prompt(token_ids),
        sampling=sampling,
        logprobs=logprobs,
        priority=body.priority or 0,
        timeout_s=timeout,
        namespace=body.cache_salt or "",
    )


def read_messages(messages: list[Message]) -> list[dict[str, Any]]:
    """Messages as the template takes them: role and text."""
    if not messages:
        raise InvalidRequest("messages is empty: give at least one", param="messages")
    found = []
    for i, message in enumerate(messages):
        path = f"messages[{i}]"
        if message.tool_calls or message.role in ("tool", "function"):
            raise NotSupported(f"{path}: tools are not served here", param=path)
        role = "system" if message.role == "developer" else message.role
        found.append({"role": role, "content": _text(message, path)})
    return found


def _text(message: Message, path: str) -> str:
    if isinstance(message.content, str):
        return message.content
    if message.content is None:
        raise InvalidRequest(f"{path}.content is null", param=f"{path}.content")
    parts = []
    for i, part in enumerate(message.content):
        at = f"{path}.content[{i}]"
        if part.type != "text":
            raise NotSupported(f"{at}.type={part.type[:50]!r}: only 'text' is served", param=at)
        if part.text is None:
            raise InvalidRequest(f"{at}.text is missing", code="missing_field", param=f"{at}.text")
        parts.append(part.text)
    return "".join(parts)


def _encode(engine: ServedEngine, messages: list[dict[str, Any]]) -> list[int]:
    template = engine.chat_template
    if template is None:
        raise NotSupported("this model has no chat template; use /v1/completions", param="messages")
    return engine.tokenize(template.render(messages, add_generation_prompt=True))


def _logprobs(
    engine: ServedEngine, asked: GenerateRequest, entries: tuple[TokenLogprob, ...]
) -> dict[str, Any] | None:
    if not asked.logprobs.output:
        return None
    content = []
    for entry in entries:
        found = _token(engine, entry.token_id, entry.logprob)
        found["top_logprobs"] = [_token(engine, token, lp) for lp, token in entry.top]
        content.append(found)
    return {"content": content, "refusal": None}


def _token(engine: ServedEngine, token_id: int, logprob: float | None) -> dict[str, Any]:
    text = engine.token_text(token_id)
    # A token that is part of a character has no text of its own; its bytes are not known here.
    known = "\ufffd" not in text
    return {
        "token": text,
        "logprob": logprob,
        "bytes": list(text.encode()) if known else None,
    }
