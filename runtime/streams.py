"""Who waits for which sequence: from the worker's one list of deltas to each caller's queue."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from ramify.lang.errors import ErrorInfo, InvalidRequest, Unavailable
from ramify.lang.protocol import RelaxedKeyword
from ramify.runtime.core import EngineStats, TokenDelta, TokenRequest
from ramify.runtime.worker import Worker


class Stream:
    """The deltas of one request, read on the event loop that sent it."""

    def __init__(self, num_sequences: int) -> None:
        self.live = set(range(num_sequences))  # sequences not ended; the worker's thread updates it
        self.relaxed: tuple[RelaxedKeyword, ...] = ()  # known once the worker took it
        self.loop = asyncio.get_running_loop()
        self._deltas: asyncio.Queue[TokenDelta] = asyncio.Queue()
        self._num_unread = num_sequences  # sequences whose last delta was not read yet

    async def __aiter__(self) -> AsyncIterator[TokenDelta]:
        while self._num_unread:
            delta = await self._deltas.get()
            self._num_unread -= is_last(delta)
            yield delta

    def put(self, delta: TokenDelta) -> None:
        """Called on `loop`."""
        self._deltas.put_nowait(delta)


def is_last(delta: TokenDelta) -> bool:
    """Whether its sequence ends with this delta."""
    return delta.finish is not None or delta.error is not None


class Streams:
    """All live requests of an engine, by rid.

    An entry is made on the caller's loop and, once accepted, removed only by the worker's thread
    when the last delta goes by. So a rid is free again only when nothing of it can arrive any more.
    """

    def __init__(self) -> None:
        self._live: dict[str, Stream] = {}
        self._lock = threading.Lock()  # no request is sent while `fail` ends those that were

    def is_live(self, rid: str) -> bool:
        """Whether anything of this request can still arrive."""
        return rid in self._live

    def publish(self, deltas: list[TokenDelta], _: EngineStats, /) -> None:
        """Hand deltas to their callers' loops: one wake-up per loop. Called by the worker."""
        self._hand_out(deltas)

    def _hand_out(self, deltas: list[TokenDelta]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Stream, TokenDelta]]] = {}
        for delta in deltas:
            stream = self._live[delta.rid]
            by_loop.setdefault(stream.loop, []).append((stream, delta))
            if is_last(delta):
                stream.live.discard(delta.index)
                if not stream.live:
                    del self._live[delta.rid]
        for loop, batch in by_loop.items():
            with suppress(RuntimeError):  # a closed loop: its readers are gone
                loop.call_soon_threadsafe(_deliver, batch)

    def fail(self, error: ErrorInfo) -> None:
        """End every live sequence with `error`. Called by the worker when it dies."""
        with self._lock:
            self._hand_out(
                [
                    TokenDelta(rid, index, (), error=error)
                    for rid, stream in self._live.items()
                    for index in sorted(stream.live)
                ]
            )

    @asynccontextmanager
    async def open(self, worker: Worker, specs: tuple[TokenRequest, ...]) -> AsyncIterator[Stream]:
        """Submit one request's sequences; on leaving, whatever still runs is aborted."""
        rid = specs[0].rid
        stream = Stream(len(specs))
        with self._lock:
            if self.is_live(rid):
                raise InvalidRequest(
                    f"rid {rid!r} is in use by a running request: send another, or none",
                    code="duplicate_rid",
                    param="rid",
                )
            self._live[rid] = stream  # before the first delta can come
            try:
                accepted = worker.submit(specs)
            except BaseException:
                del self._live[rid]
                raise
        try:
            stream.relaxed = await asyncio.wrap_future(accepted)
        except BaseException:  # refused, or the caller went away before it was known
            accepted.add_done_callback(partial(self._abandon, worker, rid, stream))
            raise
        try:
            yield stream
        finally:
            if stream.live:
                with suppress(Unavailable):
                    worker.abort(rid)

    def _abandon(self, worker: Worker, rid: str, stream: Stream, accepted: "Future[Any]") -> None:
        if accepted.exception() is None:
            with suppress(Unavailable):  # it died since, and its last words end the stream
                worker.abort(rid)
        elif self._live.get(rid) is stream:  # the worker never took it
            del self._live[rid]


def _deliver(batch: list[tuple[Stream, TokenDelta]]) -> None:
    for stream, delta in batch:
        stream.put(delta)
