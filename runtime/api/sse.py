"""Server-sent events: one reply stream and its rules.

Headers go out once the request is admitted, not with the first token: a refusal comes at once, so
whoever has not been refused within `ADMISSION_S` gets its headers. Each event is exactly one
`data: {one-line JSON}` and an empty line. A stream that ends well ends with `data: [DONE]`; one
that fails ends with an error event and no `[DONE]`.
"""

import asyncio
from types import TracebackType
from typing import Self

from aiohttp import ClientConnectionResetError, web

from ramify.runtime.api.errors import error_json, shown_error
from ramify.runtime.api.state import STATE, TRACE

ADMISSION_S = 0.1
KEEP_ALIVE_S = 15.0  # silence after which a comment line tells proxies and clients we are there
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


class ClientStalled(ConnectionResetError):
    """The client left its stream unread for too long; its connection was cut."""


class EventStream:
    """The events of one reply. Leaving the `async with` ends the stream, well or with its error.

    An error before the headers are out leaves the block as it came, to become a plain reply.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._stall_timeout = request.app[STATE].config.client_stall_timeout
        self._opening = asyncio.Lock()
        self._tender: asyncio.Task[None] | None = None
        self.response = web.StreamResponse(headers=HEADERS)

    async def send(self, payload: bytes) -> None:
        """Send one event; waits while the client does not read."""
        await self._write(b"data: " + payload + b"\n\n")

    async def __aenter__(self) -> Self:
        self._tender = asyncio.create_task(self._tend())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        assert self._tender is not None
        self._tender.cancel()
        if error is None:
            await self.send(b"[DONE]")
            await self.response.write_eof()
            return True
        if not self.response.prepared or isinstance(error, ConnectionError):
            return False
        if not isinstance(error, Exception):  # cancelled: the client is gone
            return False
        shown = shown_error(error, self._request)
        self._request[TRACE].outcome = f"error {shown.code}"
        self.response.force_close()
        await self.send(error_json(shown.info()))
        await self.response.write_eof()
        return True

    async def _tend(self) -> None:
        """Open the stream once admitted, then break long silences."""
        try:
            await asyncio.sleep(ADMISSION_S)
            await self._open()
            while True:
                await asyncio.sleep(KEEP_ALIVE_S)
                await self._write(b": keep-alive\n\n")
        except (ClientConnectionResetError, ClientStalled):
            return  # the handler is cancelled by the lost connection itself

    async def _open(self) -> None:
        async with self._opening:
            if not self.response.prepared:
                await self.response.prepare(self._request)

    async def _write(self, raw: bytes) -> None:
        if not self.response.prepared:
            await self._open()
        try:
            async with asyncio.timeout(self._stall_timeout):
                await self.response.write(raw)
        except TimeoutError:
            transport = self._request.transport
            if transport is not None:
                transport.abort()
            raise ClientStalled("the client stopped reading its stream") from None
