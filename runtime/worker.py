"""The seam between an engine and what runs its steps: a thread of the same process, or a process.

Whoever implements `Worker` calls the engine's `Sink` with what each step gave, in order. The
engine cannot tell which of the two it has.
"""

from concurrent.futures import Future
from typing import Any, Protocol

from ramify.lang.errors import ErrorInfo, Unavailable
from ramify.lang.protocol import RelaxedKeyword
from ramify.runtime.core import EngineStats, TokenDelta, TokenRequest


class Worker(Protocol):
    """Runs steps until closed. All methods may be called from any thread.

    Futures cannot be cancelled: what a worker was asked it answers, or its death does.
    """

    def submit(self, specs: tuple[TokenRequest, ...]) -> "Future[tuple[RelaxedKeyword, ...]]":
        """Queue the sequences of one request before the next step, all or none, their grammar
        compiled before; the future says what of it is not enforced, or raises the refusal.

        Raises `Unavailable` where no worker runs: restarting, given up, closed.
        """
        ...

    def abort(self, rid: str, index: int | None = None) -> "Future[int]":
        """End the request's sequences (or one of them); the future says how many were live."""
        ...

    def flush_cache(self) -> "Future[int]":
        """Drop every cached prefix nobody uses; the future says how many slots that freed."""
        ...

    def check(self) -> None:
        """Raise `Unavailable` unless requests are taken."""
        ...

    def stats(self) -> EngineStats:
        """The counters as of the last published delta, or later."""
        ...

    def close(self) -> None:
        """Abort what runs, publish the last deltas and end the worker."""
        ...


class Sink(Protocol):
    """Where a worker's deltas go."""

    def publish(self, deltas: list[TokenDelta], stats: EngineStats, /) -> None:
        """What one step gave, and the counters after it."""
        ...

    def fail(self, error: ErrorInfo) -> None:
        """The worker died: no delta of what it held will come any more."""
        ...


def pending() -> "Future[Any]":
    """A future that cannot be cancelled."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


def engine_closed() -> Unavailable:
    """The refusal of everything asked after `close`."""
    return Unavailable("the engine is closed: start a new one", code="engine_closed")
