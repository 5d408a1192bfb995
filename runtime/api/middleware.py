"""Around every handler: request id, access log, keys, draining, and one shape for all errors."""

import hmac
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from ramify.lang.errors import InvalidRequest, Unavailable
from ramify.runtime.api.errors import error_response, http_error, shown_error
from ramify.runtime.api.sse import ClientStalled
from ramify.runtime.api.state import STATE, TRACE, ServerState, Trace

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PROBES = ("/health", "/ready")  # answered without a key, also while draining
ADMIN_PATHS = ("/flush_cache",)
CLIENT_CLOSED = 499  # logged only: nobody is there to read it
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_log = logging.getLogger("ramify.access")


@web.middleware
async def log_request(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id; log and count it once, however it ends."""
    given = request.headers.get("X-Request-Id", "")
    trace = Trace(given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex)
    request[TRACE] = trace
    started = time.monotonic()
    status = CLIENT_CLOSED
    try:
        response = await handler(request)
        status = response.status
        if trace.outcome == "client_closed":
            trace.outcome = "done"
        return response
    finally:
        state = request.app[STATE]
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unmatched"
        state.metrics.http_requests.labels(route, str(status)).inc()
        level = logging.DEBUG if request.path in (*PROBES, "/metrics") else logging.INFO
        _log.log(
            level,
            "%s %s %d %s %.3fs id=%s rid=%s",
            request.method,
            ascii(request.path[:200])[1:-1],
            status,
            trace.outcome,
            time.monotonic() - started,
            trace.request_id,
            ",".join(trace.rids) or "-",
        )


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into a reply of the one shape."""
    try:
        return await handler(request)
    except ClientStalled:
        request[TRACE].outcome = "client_stalled"
        raise
    except ConnectionError:
        raise
    except web.HTTPException as raised:
        error = http_error(raised.status, request.method, request.path, raised.reason)
        response = error_response(error)
        if "Allow" in raised.headers:
            response.headers["Allow"] = raised.headers["Allow"]
    except Exception as raised:  # noqa: BLE001 - the top loop of a request
        error = shown_error(raised, request)
        response = error_response(error)
    request[TRACE].outcome = f"error {error.code}"
    return response


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let in whom the options let in, and nobody new while draining."""
    state = request.app[STATE]
    check_host(request, state)
    if request.path in PROBES:
        return await handler(request)
    check_key(request, state)
    if state.is_draining and request.path != "/metrics":
        raise Unavailable("the server is shutting down", code="draining")
    with state.open_request():
        return await handler(request)


def check_key(request: web.Request, state: ServerState) -> None:
    """Raise unless the request brings the key its route needs; the admin key opens all."""
    config = state.config
    is_admin = request.path in ADMIN_PATHS
    needed = (config.admin_api_key if is_admin else None) or config.api_key
    if needed is None:
        return
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        if _same(key, needed) or (config.admin_api_key and _same(key, config.admin_api_key)):
            return
        if is_admin and config.api_key and _same(key, config.api_key):
            raise InvalidRequest(f"{request.path} needs the admin key", code="admin_required")
    raise InvalidRequest(
        "no valid key: send it as 'Authorization: Bearer KEY'", code="invalid_api_key"
    )


def _same(key: str, expected: str) -> bool:
    """Whether two keys are equal, in time that does not tell how far they agree."""
    left = key.strip().encode("utf-8", "surrogateescape")
    return hmac.compare_digest(left, expected.encode("utf-8", "surrogateescape"))


def check_host(request: web.Request, state: ServerState) -> None:
    """Raise unless the Host header is one we answer to.

    A page in a browser can make its own name resolve to 127.0.0.1 (DNS rebinding); its requests
    then carry that name as Host.
    """
    config = state.config
    if config.allowed_hosts is not None:
        allowed = tuple(name.strip() for name in config.allowed_hosts.split(","))
    elif config.host in _LOOPBACK:
        allowed = _LOOPBACK
    else:
        return
    name = re.sub(r":\d*$", "", request.host)
    if name.lower() not in allowed:
        raise InvalidRequest(
            f"Host {name[:100]!a} is not allowed; the server's operator can add it with "
            "--allowed-hosts",
            code="host_not_allowed",
        )


async def add_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """A signal handler: every reply carries its request's id."""
    if TRACE in request:
        response.headers["X-Request-Id"] = request[TRACE].request_id


async def expect(request: web.Request) -> web.StreamResponse | None:
    """Handle an Expect header: `100-continue` is answered, others are refused."""
    wanted = request.headers["Expect"]
    if wanted.lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # what the reply has sent so far
        return None
    request[TRACE] = Trace(uuid.uuid4().hex)
    return error_response(http_error(417, request.method, request.path, f"{wanted[:100]!a}"))


class _JsonErrorHandler(RequestHandler):
    """Answers what is not even HTTP (bad line, too many headers) in the one shape too."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, ConnectionError):  # nobody is left to answer
            raise exc
        if status >= 500:
            _log.error("connection of %s failed", request.remote, exc_info=exc)
            return super().handle_error(request, status, exc, message)
        too_large = "LineTooLong" in type(exc).__name__ or "Too many" in str(exc)
        reason = (message or "").splitlines()[0] if message else "cannot be parsed"
        error = http_error(status, request.method, request.path, reason)
        if too_large:
            error = InvalidRequest(f"request headers: {reason}", code="headers_too_large")
        response = error_response(error)
        response.headers["X-Request-Id"] = uuid.uuid4().hex
        response.force_close()
        return response


class JsonErrorServer(web.Server):
    """An aiohttp server whose every error reply is JSON."""

    def __call__(self) -> RequestHandler:
        """The protocol of one connection."""
        return _JsonErrorHandler(self, loop=self._loop, **self._kwargs)
