"""`GET /v1/models` and `GET /v1/models/{id}` (ids may contain slashes)."""

from typing import Any

from aiohttp import web

from ramify.runtime.api.body import json_response
from ramify.runtime.api.state import STATE, ServerState


async def list_models(request: web.Request) -> web.StreamResponse:
    """Handle `GET /v1/models`."""
    return json_response({"object": "list", "data": [_card(request.app[STATE])]})


async def get_model(request: web.Request) -> web.StreamResponse:
    """Handle `GET /v1/models/{id}`."""
    state = request.app[STATE]
    state.check_model(request.match_info["id"])
    return json_response(_card(state))


def _card(state: ServerState) -> dict[str, Any]:
    return {
        "id": state.model_name,
        "object": "model",
        "created": int(state.started),
        "owned_by": "ramify",
        "max_model_len": state.loaded().info.context_length,
    }
