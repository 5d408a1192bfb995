"""Reading is written once, as a generator of futures to wait for; here are its two drivers."""

import asyncio
from collections.abc import Generator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from ramify.interpreter.loop import io_loop
from ramify.lang.errors import InvalidRequest

T = TypeVar("T")
Steps = Generator["Future[Any]", None, T]  # yields what it must wait for, returns the result


def block(future: "Future[Any]", *, is_async: bool) -> None:
    """Wait on this thread, unless that would stop an event loop that others need."""
    if future.done():
        return
    if io_loop().is_current() or (is_async and _in_event_loop()):
        raise would_block("await s.get(name), or await s.wait() before reading")
    wait([future])


def would_block(instead: str) -> InvalidRequest:
    """The error for waiting on an event loop's own thread."""
    return InvalidRequest(
        f"waiting here would block the event loop; in an async program write {instead}",
        code="would_block",
    )


async def pause(future: "Future[Any]") -> None:
    """Wait on the running event loop."""
    await asyncio.gather(asyncio.wrap_future(future), return_exceptions=True)


def finish(steps: Steps[T], *, is_async: bool) -> T:
    """Drive `steps` to their result, blocking this thread."""
    try:
        while True:
            block(next(steps), is_async=is_async)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def afinish(steps: Steps[T]) -> T:
    """Drive `steps` to their result on the running event loop."""
    try:
        while True:
            await pause(next(steps))
    except StopIteration as stop:
        result: T = stop.value
        return result


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
