"""`RuntimeEndpoint`: a Ramify server as a backend, over HTTP.

Requests and answers are the structs of `lang/protocol.py`, deltas come as server-sent events: no
text is tokenized again on this side. Errors of the server are raised as themselves; what is not
its protocol (no connection, HTML, half an answer) is a `BackendError` that names the URL.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

import httpx
import msgspec

from ramify.interpreter.backends.base import Backend
from ramify.interpreter.backends.http_pool import HttpPool
from ramify.interpreter.backends.sse import events
from ramify.lang.errors import (
    Aborted,
    BackendError,
    ConfigError,
    ErrorInfo,
    RamifyError,
    error_from_info,
)
from ramify.lang.protocol import (
    GenerateDelta,
    GenerateRequest,
    ModelInfo,
    ScoreRequest,
    ScoreResult,
)

Answer = TypeVar("Answer", bound=msgspec.Struct)

CONNECT_S = 5.0
SILENCE_S = 60.0  # in a stream: the server writes a comment every 15 s
RETRIES = 3  # of what the server has not begun to answer
BACKOFF_S = 0.1
MAX_RETRY_AFTER_S = 5.0


class _ErrorBody(msgspec.Struct):
    """What every failed request is answered with, and the last event of a failed stream."""

    error: ErrorInfo


class _Flushed(msgspec.Struct):
    flushed: bool


class RuntimeEndpoint(Backend):
    """The Ramify server at `base_url`, such as "http://127.0.0.1:30000".

    `timeout` limits, in seconds, an answer that comes whole (a score); a stream may last as long as
    the server shows that it is alive. Safe on any number of event loops.
    """

    def __init__(
        self, base_url: str, *, api_key: str | None = None, timeout: float = 600.0
    ) -> None:
        self.base_url = _checked_url(base_url)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = timeout
        self._pool = HttpPool(self.base_url, headers)
        self._info: ModelInfo | None = None
        self._is_closed = False

    async def model_info(self) -> ModelInfo:
        """What the server serves; asked once."""
        if self._info is None:
            self._info = await self._call("GET", "/model_info", None, ModelInfo)
        return self._info

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[GenerateDelta, None]:
        """Deltas as the server streams them; closing the iterator cuts the connection."""
        path = "/v1/ramify/generate"
        num_ended = 0
        async with (
            self._opened("POST", path, msgspec.json.encode(request), SILENCE_S) as response,
            aclosing(events(response.aiter_raw())) as stream,
        ):
            self._check_type(response, path, "text/event-stream")
            async for event in stream:
                if event == b"[DONE]":  # read on: a connection left before its end is lost
                    continue
                delta = self._decode_event(path, event)
                num_ended += delta.finish is not None or delta.error is not None
                yield delta
        if num_ended != request.sampling.n:
            raise self._broken(
                path, f"the stream ended after {num_ended} of {request.sampling.n} final answers"
            )

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Log-probabilities of the given continuations; cancelling it cuts the connection."""
        body = msgspec.json.encode(request)
        return await self._call("POST", "/v1/ramify/score", body, ScoreResult)

    async def flush_cache(self) -> None:
        """Have the server forget every cached prefix that no running request uses."""
        await self._call("POST", "/flush_cache", b"", _Flushed)

    async def close(self) -> None:
        """Close every connection; what still runs on them ends with `Aborted`."""
        self._is_closed = True
        await self._pool.close()

    def __repr__(self) -> str:
        return f"RuntimeEndpoint({self.base_url!r})"

    async def _call(
        self, method: str, path: str, body: bytes | None, answer_type: type[Answer]
    ) -> Answer:
        """One request whose answer comes whole."""
        async with self._opened(method, path, body, self._timeout) as response:
            raw = await response.aread()
            self._check_type(response, path, "application/json")
        try:
            return msgspec.json.decode(raw, type=answer_type)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._broken(path, f"not an answer of a Ramify server: {error}") from error

    @asynccontextmanager
    async def _opened(
        self, method: str, path: str, body: bytes | None, silence_s: float
    ) -> AsyncIterator[httpx.Response]:
        """A response that began well. Network errors, then or later, become `BackendError`."""
        try:
            async with self._pool.client() as client:
                response = await self._send(client, method, path, body, silence_s)
                try:
                    if response.status_code != 200:
                        raise self._refusal(path, response, await response.aread())
                    yield response
                finally:
                    await response.aclose()
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            if self._is_closed:
                raise Aborted(f"{self.base_url}: this endpoint was closed") from error
            raise self._broken(path, f"{type(error).__name__}: {error}") from error
        except RuntimeError as error:  # what httpx raises where its client was closed meanwhile
            if self._is_closed and not isinstance(error, RamifyError):
                raise Aborted(f"{self.base_url}: this endpoint was closed") from error
            raise

    async def _send(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        body: bytes | None,
        silence_s: float,
    ) -> httpx.Response:
        """Send until the server takes it: again only where it has not begun to work on it."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        timeout = httpx.Timeout(silence_s, connect=CONNECT_S, pool=None)
        for attempt in range(RETRIES + 1):
            if self._is_closed:
                raise Aborted(f"{self.base_url}: this endpoint was closed")
            request = client.build_request(
                method, self.base_url + path, content=body, headers=headers, timeout=timeout
            )
            is_last = attempt == RETRIES
            wait = BACKOFF_S * 2**attempt
            try:
                response = await client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if is_last:
                    raise
            else:
                retry_after = response.headers.get("Retry-After", "")
                if response.status_code != 503 or not retry_after.isdecimal() or is_last:
                    return response
                await response.aclose()
                wait = max(wait, min(float(retry_after), MAX_RETRY_AFTER_S))
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _decode_event(self, path: str, event: bytes) -> GenerateDelta:
        try:
            return msgspec.json.decode(event, type=GenerateDelta)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            failure = _read_error(event)
            if failure is not None:
                raise error_from_info(failure) from None
            raise self._broken(path, f"not an event of a Ramify server: {error}") from error

    def _refusal(self, path: str, response: httpx.Response, raw: bytes) -> RamifyError:
        """The server's own error, or a `BackendError` where the reply is somebody else's."""
        failure = _read_error(raw)
        if failure is not None:
            return error_from_info(failure)
        return self._broken(path, f"HTTP {response.status_code}: {raw[:200]!r}")

    def _check_type(self, response: httpx.Response, path: str, wanted: str) -> None:
        found = response.headers.get("Content-Type", "none")
        if found.partition(";")[0].strip() != wanted:
            raise self._broken(path, f"Content-Type {found!r} in place of {wanted!r}")

    def _broken(self, path: str, cause: str) -> BackendError:
        return BackendError(
            f"{self.base_url}{path}: {cause}; check that `ramify serve` runs at that address"
        )


def _checked_url(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(
            f"base_url={base_url!r}: must be a URL with scheme and host, such as "
            "'http://127.0.0.1:30000'"
        )
    return base_url.rstrip("/")


def _read_error(raw: bytes) -> ErrorInfo | None:
    try:
        return msgspec.json.decode(raw, type=_ErrorBody).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
