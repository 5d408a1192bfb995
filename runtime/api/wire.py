"""Ramify's own routes: the structs of `lang/protocol.py` as they are, for `RuntimeEndpoint`."""

from contextlib import aclosing

import msgspec
from aiohttp import web

from ramify.lang.protocol import GenerateRequest, ScoreRequest
from ramify.runtime.api.body import json_response, read_json
from ramify.runtime.api.generation import check_rid, run_with_errors
from ramify.runtime.api.sse import EventStream
from ramify.runtime.api.state import STATE, TRACE


async def generate(request: web.Request) -> web.StreamResponse:
    """Handle `POST /v1/ramify/generate`: `GenerateRequest` in, one `GenerateDelta` per event out.

    An error of one sequence is its last delta; the others go on.
    """
    asked = await read_json(request, GenerateRequest)
    check_rid(asked.rid)
    if asked.timeout_s is None:
        timeout = request.app[STATE].config.request_timeout
        asked = msgspec.structs.replace(asked, timeout_s=timeout)
    steps = run_with_errors(request, [asked])
    async with EventStream(request) as stream, aclosing(steps):
        async for step in steps:
            await stream.send(msgspec.json.encode(step.delta))
    return stream.response


async def score(request: web.Request) -> web.StreamResponse:
    """Handle `POST /v1/ramify/score`: `ScoreRequest` in, `ScoreResult` out."""
    asked = await read_json(request, ScoreRequest)
    request[TRACE].rids = [check_rid(asked.rid)]
    if asked.timeout_s is None:
        timeout = request.app[STATE].config.request_timeout
        asked = msgspec.structs.replace(asked, timeout_s=timeout)
    return json_response(await request.app[STATE].loaded().engine.async_score(asked))
