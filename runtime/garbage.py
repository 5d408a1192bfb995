"""Garbage collection in a process that serves: never for long at a time.

A full collection looks through every container object alive, and holds all threads up meanwhile:
0.3 s for what start makes, 0.6 s once large grammars are kept. So what has survived one is frozen,
and the next looks through what is new since. Cycles among what was frozen wait for a thorough one;
everything else is freed at once, as ever.
"""

import gc

THOROUGH_EVERY = 64  # full collections; each after at least 77,000 more objects


def settle() -> None:
    """What start made stays, and from now on what survives a full collection. Call it once."""
    gc.collect()
    gc.freeze()
    gc.callbacks.append(Freezer())


class Freezer:
    """Called by the collector before and after each collection."""

    def __init__(self, thorough_every: int = THOROUGH_EVERY) -> None:
        self._thorough_every = thorough_every
        self._num_full = 0

    def __call__(self, phase: str, info: dict[str, int]) -> None:
        """After a full collection: freeze, or let the next one look through everything."""
        if phase != "stop" or info["generation"] < 2:
            return
        self._num_full += 1
        if self._num_full % self._thorough_every:
            gc.freeze()
        else:
            gc.unfreeze()
