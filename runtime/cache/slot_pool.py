"""Who hands out slots: room for one token's K and V in every layer."""

import numpy as np
import numpy.typing as npt

SlotArray = npt.NDArray[np.int32]


class OutOfSlots(RuntimeError):
    """More slots were asked for than are free; evict or retract, then ask again."""


class SlotPool:
    """Slots `0..num_slots-1`, each free or owned by whoever allocated it.

    Free slots form a stack, so allocating and freeing n of them costs one copy of n numbers.
    """

    def __init__(self, num_slots: int) -> None:
        assert num_slots >= 1, f"{num_slots=}: a pool needs at least one slot"
        self.num_slots = num_slots
        self.num_free = num_slots
        self._stack = np.arange(num_slots - 1, -1, -1, dtype=np.int32)  # free: [0, num_free)
        self._is_free = np.ones(num_slots, dtype=np.bool_)

    def allocate(self, num_slots: int) -> SlotArray:
        """Take slots from the pool: [num_slots] int32, now the caller's."""
        if num_slots > self.num_free:
            raise OutOfSlots(f"{num_slots} slots wanted, {self.num_free} of {self.num_slots} free")
        start = self.num_free - num_slots
        slots = self._stack[start : self.num_free][::-1].copy()
        self.num_free = start
        self._is_free[slots] = False
        return slots

    def free(self, slots: SlotArray) -> None:
        """Give slots back: [n] int32, each of them allocated and named once."""
        assert not self._is_free[slots].any(), f"slots freed twice: {slots[self._is_free[slots]]}"
        end = self.num_free + len(slots)
        assert end <= self.num_slots, f"{end} slots free in a pool of {self.num_slots}"
        self._stack[self.num_free : end] = slots
        self._is_free[slots] = True
        self.num_free = end

    def free_slots(self) -> SlotArray:
        """Which slots are free, in no order: [num_free] int32. For checks and tests."""
        return self._stack[: self.num_free].copy()

    def check_invariants(self) -> None:
        """Assert that the stack holds each free slot once. Costs O(num_slots)."""
        stacked = self._stack[: self.num_free]
        assert len(np.unique(stacked)) == self.num_free, "a slot is free twice"
        assert self._is_free[stacked].all(), "a slot on the stack is marked as taken"
        assert int(self._is_free.sum()) == self.num_free, "a free slot is not on the stack"
