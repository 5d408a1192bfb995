"""Routes about the server itself: probes, metrics, what is served, cache, abort, tokenizer."""

import asyncio
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
from aiohttp import web

from ramify.lang.errors import NotSupported, Unavailable
from ramify.lang.protocol import ModelInfo
from ramify.runtime.api.body import json_response, read_json
from ramify.runtime.api.metrics import CONTENT_TYPE
from ramify.runtime.api.state import STATE
from ramify.runtime.options import public_values


class AbortBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of `/abort_request`."""

    rid: str
    abort_all: bool = False


class TokenizeBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of `/tokenize`."""

    prompt: str
    model: str | None = None


class DetokenizeBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of `/detokenize`."""

    tokens: list[int]
    model: str | None = None


async def health(request: web.Request) -> web.StreamResponse:
    """Handle `GET /health` and `/ready`: 200 while new requests are taken, else why not."""
    state = request.app[STATE]
    if state.phase != "ready":
        return _not_ready({"status": state.phase})
    try:
        state.loaded().engine.check()
    except Unavailable as error:
        return _not_ready({"status": error.code, "message": error.message})
    return json_response({"status": "ready"})


def _not_ready(reply: dict[str, str]) -> web.Response:
    response = json_response(reply)
    response.set_status(503)
    return response


async def metrics(request: web.Request) -> web.StreamResponse:
    """Handle `GET /metrics` in Prometheus' text format."""
    return web.Response(
        body=request.app[STATE].metrics.render(), headers={"Content-Type": CONTENT_TYPE}
    )


async def model_info(request: web.Request) -> web.StreamResponse:
    """Handle `GET /model_info`: `ModelInfo`, and the names that SGLang's clients read."""
    state = request.app[STATE]
    info: ModelInfo = msgspec.structs.replace(state.loaded().info, model=state.model_name)
    reply = msgspec.to_builtins(info)
    reply |= {"model_path": state.loaded().info.model, "is_generation": True}
    return json_response(reply)


async def server_info(request: web.Request) -> web.StreamResponse:
    """Handle `GET /server_info`: options in force (secrets masked) and the engine's figures."""
    state = request.app[STATE]
    engine = state.loaded().engine
    reply: dict[str, Any] = {
        "version": _version(),
        "uptime_s": time.time() - state.started,
        "engine": public_values(engine.config),
        "server": public_values(state.config),
        "stats": engine.stats(),
    }
    return json_response(reply)


def _version() -> str:
    try:
        return version("ramify")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"


async def flush_cache(request: web.Request) -> web.StreamResponse:
    """Handle `POST /flush_cache`: forget every cached prefix that nothing running uses."""
    await request.app[STATE].loaded().engine.async_flush_cache()
    return json_response({"flushed": True})


async def abort_request(request: web.Request) -> web.StreamResponse:
    """Handle `POST /abort_request`: end the request of exactly this rid."""
    body = await read_json(request, AbortBody)
    if body.abort_all:
        raise NotSupported("abort_all is not served here; abort by rid", param="abort_all")
    return json_response({"aborted": await request.app[STATE].loaded().engine.abort(body.rid)})


async def tokenize(request: web.Request) -> web.StreamResponse:
    """Handle `POST /tokenize`: text to token ids, as a prompt of that text would be."""
    body = await read_json(request, TokenizeBody)
    state = request.app[STATE]
    state.check_model(body.model)
    engine, info = state.loaded()
    tokens = await asyncio.to_thread(engine.tokenize, body.prompt)
    reply = {"tokens": tokens, "count": len(tokens), "max_model_len": info.context_length}
    return json_response(reply)


async def detokenize(request: web.Request) -> web.StreamResponse:
    """Handle `POST /detokenize`: token ids to text."""
    body = await read_json(request, DetokenizeBody)
    state = request.app[STATE]
    state.check_model(body.model)
    text = await asyncio.to_thread(state.loaded().engine.detokenize, body.tokens)
    return json_response({"text": text, "prompt": text})
