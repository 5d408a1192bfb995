"""Finished masks, within some bytes."""

from collections.abc import Hashable

import numpy as np

MAX_BYTES = 64 << 20
ENTRY_BYTES = 300  # of a mask beside its row


class MaskCache:
    """Masks by key. Those not asked for lately go first: what was not asked for since the younger
    half filled up is dropped while it fills up again, some with each that comes: to drop thousands
    at once takes milliseconds."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._half = max(max_bytes // 2, 1)
        self._young: dict[Hashable, np.ndarray] = {}
        self._old: dict[Hashable, np.ndarray] = {}
        self._leaving: list[Hashable] = []  # keys of the old, the next to go last
        self._leaving_per_byte = 0.0
        self._rows = set[int]()  # of the young, by id: many share one
        self._num_bytes = 0  # of the young

    def get(self, key: Hashable) -> np.ndarray | None:
        """[num_words] int32, if it is kept."""
        found = self._young.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: Hashable, mask: np.ndarray) -> None:
        """Keep a mask."""
        self._young[key] = mask
        self._num_bytes += ENTRY_BYTES
        if id(mask) not in self._rows:
            self._rows.add(id(mask))
            self._num_bytes += mask.nbytes
        if self._leaving:
            self._drop(int((self._half - self._num_bytes) * self._leaving_per_byte))
        if self._num_bytes > self._half:
            self._turn()

    def _drop(self, num_kept: int) -> None:
        leaving, old = self._leaving, self._old
        while len(leaving) > num_kept and leaving:
            old.pop(leaving.pop(), None)

    def _turn(self) -> None:
        """The young are the old from now on."""
        self._drop(0)
        self._old, self._young, self._num_bytes = self._young, {}, 0
        self._leaving = list(reversed(self._old))
        self._leaving_per_byte = len(self._leaving) / self._half
        self._rows = set()
