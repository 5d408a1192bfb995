"""The application: every route, in one table."""

from aiohttp import web

from ramify.runtime.api import admin, middleware, native, wire
from ramify.runtime.api.openai import chat, completions, models
from ramify.runtime.api.state import STATE, ServerState

HEADER_BYTES = 16384  # longest header line or field
MAX_HEADERS = 100
BACKLOG = 4096  # connections not yet accepted: a batch of programs connects all at once

ROUTES = (
    ("GET", "/health", admin.health),
    ("GET", "/ready", admin.health),
    ("GET", "/metrics", admin.metrics),
    ("GET", "/model_info", admin.model_info),
    ("GET", "/get_model_info", admin.model_info),
    ("GET", "/server_info", admin.server_info),
    ("GET", "/get_server_info", admin.server_info),
    ("POST", "/flush_cache", admin.flush_cache),
    ("POST", "/abort_request", admin.abort_request),
    ("POST", "/tokenize", admin.tokenize),
    ("POST", "/detokenize", admin.detokenize),
    ("POST", "/generate", native.generate),
    ("POST", "/v1/ramify/generate", wire.generate),
    ("POST", "/v1/ramify/score", wire.score),
    ("POST", "/v1/completions", completions.create),
    ("POST", "/v1/chat/completions", chat.create),
    ("GET", "/v1/models", models.list_models),
    ("GET", "/v1/models/{id:.+}", models.get_model),
)


def build_app(state: ServerState) -> web.Application:
    """The application that serves `state`'s engine, once it has one."""
    app = web.Application(
        middlewares=[middleware.log_request, middleware.answer_errors, middleware.guard],
        client_max_size=state.config.max_body_mib * 2**20,
    )
    app[STATE] = state
    app.on_response_prepare.append(middleware.add_request_id)
    for method, path, handler in ROUTES:
        app.router.add_route(method, path, handler, expect_handler=middleware.expect)
    return app


class Runner(web.AppRunner):
    """Runs an application under our limits: no decompression, JSON errors, abort on disconnect."""

    def __init__(self, app: web.Application) -> None:
        super().__init__(app, access_log=None, shutdown_timeout=1.0)

    async def listen(self, host: str, port: int) -> int:
        """Accept connections; the port, which is the system's choice if `port` is 0."""
        await web.TCPSite(self, host, port, backlog=BACKLOG).start()
        found: int = self.addresses[0][1]
        return found

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        return middleware.JsonErrorServer(
            server.request_handler,
            request_factory=server.request_factory,
            handler_cancellation=True,
            auto_decompress=False,
            max_line_size=HEADER_BYTES,
            max_field_size=HEADER_BYTES,
            max_headers=MAX_HEADERS,
            access_log=None,
        )
