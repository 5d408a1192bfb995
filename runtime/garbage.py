"""Garbage collection in a process that serves: never for long at a time while somebody waits.

A full collection looks through every container object alive, and holds all threads up meanwhile:
0.3 s for what start makes, 0.7 s once many grammars are kept. So what has survived one is frozen,
and the next looks through what is new since. What has no cycles is freed at once, as ever; cycles
among what was frozen (grammars that were let go of) wait for a thorough collection. That one waits
in turn until nobody is served; a server that is never quiet has it all the same, before the frozen
garbage can pass a gigabyte or so: 6 MB between two full collections, measured.
"""

import gc
import threading
import time
from collections.abc import Callable

from ramify.runtime.core import EngineStats

DUE_AFTER = 16  # full collections; each after at least 12,000 more objects
FORCED_AFTER = 128
QUIET_S = 2.0  # without a request, before it is taken that none comes at once


def settle(stats: Callable[[], EngineStats]) -> None:
    """What start made stays, and from now on what survives a full collection. Call it once.

    `stats` is the engine's: it tells when nobody is served."""
    gc.collect()
    gc.freeze()
    freezer = Freezer()
    gc.callbacks.append(freezer)
    tidier = Tidier(freezer, stats)
    threading.Thread(target=tidier.run, name="ramify-garbage", daemon=True).start()


class Freezer:
    """Called by the collector before and after each collection."""

    def __init__(self) -> None:
        self.num_full = 0  # collections since the last thorough one

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """After a full collection: freeze. It may come within anything: no locks here."""
        if phase == "stop" and info["generation"] == 2:
            self.num_full += 1
            gc.freeze()

    def collect_all(self) -> None:
        """Look through everything, once."""
        gc.unfreeze()
        gc.collect()
        self.num_full = 0


class Tidier:
    """Has everything looked through when it is due and nobody is served."""

    def __init__(self, freezer: Freezer, stats: Callable[[], EngineStats]) -> None:
        self._freezer = freezer
        self._stats = stats
        self._before = stats()  # as of the last look

    def run(self) -> None:
        """Look every `QUIET_S`, for as long as the process lives."""
        while True:
            time.sleep(QUIET_S)
            self.look()

    def look(self) -> None:
        """Collect if it is time to: nothing runs, nor has anything since the last look."""
        now, before = self._stats(), self._before
        self._before = now
        is_quiet = now == before and now.num_running == now.num_waiting == 0
        limit = DUE_AFTER if is_quiet else FORCED_AFTER
        if self._freezer.num_full >= limit:
            self._freezer.collect_all()
