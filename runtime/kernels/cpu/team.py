"""Threads that run one compiled function together.

OpenMP would start and end a parallel region for every loop, 150 times a token. Here each thread
runs the whole function and they meet at barriers inside it, which cost a fraction of a microsecond
while all of them run.
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ramify.runtime.kernels.cpu.intrinsics import atomic_add, atomic_load, sched_yield
from ramify.runtime.kernels.cpu.jit import jit

_SPINS = 4096  # looks at the barrier before offering the core to somebody else


@jit
def barrier(arrivals, meeting, num_threads):
    """Wait until all threads are here; the number of the next meeting.

    `meeting` counts a function's barriers from 1. arrivals: [1] int64, zero when it was started.
    """
    atomic_add(arrivals, 0, 1)
    spins = 0
    while atomic_load(arrivals, 0) < meeting * num_threads:
        spins += 1
        if spins % _SPINS == 0:
            sched_yield()
    return meeting + 1


class ThreadTeam:
    """`num_threads` threads, the caller's among them. Used by one caller at a time."""

    def __init__(self, num_threads: int) -> None:
        assert num_threads >= 1, num_threads
        self.num_threads = num_threads
        self._job: tuple[Callable[..., None], tuple[Any, ...]] | None = None
        self._wake = [threading.Semaphore(0) for _ in range(num_threads - 1)]
        for index, wake in enumerate(self._wake, start=1):
            threading.Thread(
                target=self._help, args=(index, wake), name=f"ramify-cpu-{index}", daemon=True
            ).start()

    def run(self, function: Callable[..., None], *args: Any) -> None:
        """Call function(thread, arrivals, num_threads, *args) on every thread.

        The function must release the GIL and end with a barrier: `run` returns when the caller's
        own part does.
        """
        arrivals = np.zeros(1, np.int64)
        shared = (arrivals, self.num_threads, *args)
        self._job = (function, shared)
        for wake in self._wake:
            wake.release()
        function(0, *shared)

    def close(self) -> None:
        """End the helper threads."""
        self._job = None
        for wake in self._wake:
            wake.release()

    def _help(self, index: int, wake: threading.Semaphore) -> None:
        while True:
            wake.acquire()
            job = self._job
            if job is None:
                return
            function, shared = job
            function(index, *shared)
            del job, function, shared  # the arrays may be freed while this thread waits
