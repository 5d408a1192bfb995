import numpy as np
import pytest

from ramify.runtime.cache.slot_pool import OutOfSlots, SlotPool


def test_every_slot_is_handed_out_once_until_freed():
    pool = SlotPool(10)
    first, second = pool.allocate(4), pool.allocate(6)
    assert sorted([*first, *second]) == list(range(10))
    assert first.dtype == np.int32
    pool.free(first)
    assert sorted(pool.allocate(4)) == sorted(first)
    pool.check_invariants()


def test_more_slots_than_are_free_is_an_error_that_takes_nothing():
    pool = SlotPool(4)
    pool.allocate(3)
    with pytest.raises(OutOfSlots, match="2 slots wanted, 1 of 4 free"):
        pool.allocate(2)
    assert pool.num_free == 1


def test_freeing_twice_is_caught():
    pool = SlotPool(4)
    slots = pool.allocate(2)
    pool.free(slots)
    with pytest.raises(AssertionError, match="freed twice"):
        pool.free(slots)


def test_nothing_can_be_allocated_and_freed():
    pool = SlotPool(1)
    pool.free(pool.allocate(0))
    assert pool.num_free == 1
