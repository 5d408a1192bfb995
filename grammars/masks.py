"""Finished masks, of all grammars over a vocabulary, within some bytes."""

import numpy as np

MAX_BYTES = 64 << 20
ENTRY_BYTES = 200  # of a mask beside its row


class MaskCache:
    """Masks by (machine, state). Those not asked for lately go first: what was not asked for since
    the younger half filled up is dropped, whole, when it does so again."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._half = max_bytes // 2
        self._young: dict[tuple[int, int], np.ndarray] = {}
        self._old: dict[tuple[int, int], np.ndarray] = {}
        self._num_bytes = 0  # of the young

    def get(self, machine: int, state: int) -> np.ndarray | None:
        """[num_words] int32, if it is kept."""
        key = (machine, state)
        found = self._young.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is not None:
                self.put(machine, state, found)
        return found

    def put(self, machine: int, state: int, mask: np.ndarray) -> None:
        """Keep a mask."""
        self._young[machine, state] = mask
        self._num_bytes += mask.nbytes + ENTRY_BYTES
        if self._num_bytes > self._half:
            self._old, self._young, self._num_bytes = self._young, {}, 0
