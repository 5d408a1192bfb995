"""Many runs of one program, a bounded number at a time, each with its own outcome."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Literal, NamedTuple

from ramify.interpreter.core import StateCore
from ramify.interpreter.loop import io_loop
from ramify.lang.errors import InvalidRequest

AUTO_THREADS = 128  # waiting threads are cheap, and the engine batches what waits in them
Limit = int | Literal["auto"]


class Invocation(NamedTuple):
    """One run that is about to begin."""

    core: StateCore
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def start_threads(
    runner: Callable[[Invocation], None], calls: Sequence[Invocation], num_threads: Limit
) -> list["Future[None]"]:
    """Run each on a pool of at most `num_threads` threads."""
    limit = _checked(num_threads) or AUTO_THREADS
    if not calls:
        return []
    pool = ThreadPoolExecutor(min(limit, len(calls)), thread_name_prefix="ramify-program")
    futures = [pool.submit(runner, call) for call in calls]
    pool.shutdown(wait=False)  # its threads end when the futures are done
    return futures


def start_tasks(
    runner: Callable[[Invocation], Coroutine[Any, Any, None]],
    calls: Sequence[Invocation],
    num_threads: Limit,
) -> list["Future[None]"]:
    """Run each as a task of the I/O loop, at most `num_threads` at once."""
    slots = asyncio.Semaphore(_checked(num_threads) or max(len(calls), 1))

    async def one(call: Invocation) -> None:
        async with slots:
            await runner(call)

    return [io_loop().submit(one(call)) for call in calls]


def finished_in_order(
    calls: Sequence[Invocation], futures: Sequence["Future[None]"]
) -> Iterator[StateCore]:
    """The state of each run when it is over; what it raised is in the state.

    Closing the iterator early cancels the runs that are left.
    """
    try:
        for call, future in zip(calls, futures, strict=True):
            wait([future])
            yield call.core
    finally:
        for call, future in zip(calls, futures, strict=True):
            if not future.done():
                future.cancel()
                call.core.run.cancel()


def show_progress(futures: Sequence["Future[None]"]) -> None:
    """A bar that counts finished runs."""
    from tqdm import tqdm

    bar = tqdm(total=len(futures))

    def advance(_: object) -> None:
        bar.update()
        if bar.n == bar.total:
            bar.close()

    for future in futures:
        future.add_done_callback(advance)


def _checked(num_threads: Limit) -> int | None:
    """The limit, None for "auto"."""
    if num_threads == "auto":
        return None
    if not isinstance(num_threads, int) or num_threads < 1:
        raise InvalidRequest(
            f'num_threads={num_threads!r}: must be "auto" or at least 1', param="num_threads"
        )
    return num_threads
