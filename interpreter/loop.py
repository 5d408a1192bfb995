"""The one event loop thread on which all programs do their I/O, and how other threads wait for it.

Every future made here is already running in the sense of `concurrent.futures`: nobody who waits
for it, on whatever thread or loop, can cancel it for the others.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop running for ever in a daemon thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="ramify-io", daemon=True
        )
        self._thread.start()

    def submit(self, coroutine: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run a coroutine as a task of the loop; cancelling the future cancels the task."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call a plain function on the loop, soon and in order; nothing once it is closed."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *args)

    def is_current(self) -> bool:
        """Whether the caller runs on this loop's thread, where waiting would be a deadlock."""
        return threading.current_thread() is self._thread


_lock = threading.Lock()
_threads: dict[int, LoopThread] = {}  # by process id: a forked child starts its own


def io_loop() -> LoopThread:
    """The loop thread of this process, started on first use."""
    found = _threads.get(os.getpid())
    if found is None:
        with _lock:
            found = _threads.setdefault(os.getpid(), LoopThread())
    return found


def new_future() -> "Future[None]":
    """A future that waiters cannot cancel."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future


class Watch:
    """Wakes all who wait for the next change of something.

    Take `next_change()` first, look second, wait third: then no change is missed.
    """

    __slots__ = ("_lock", "_waiters")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: list[Future[None]] = []

    def next_change(self) -> "Future[None]":
        """A future that the next `fire()` resolves."""
        future = new_future()
        with self._lock:
            self._waiters.append(future)
        return future

    def fire(self) -> None:
        """Tell all who wait."""
        if not self._waiters:  # a waiter that comes now has yet to look
            return
        with self._lock:
            waiters, self._waiters = self._waiters, []
        for future in waiters:
            future.set_result(None)
