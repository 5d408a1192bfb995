import gc

import pytest

from ramify.runtime import garbage


@pytest.fixture
def freezer():
    """Every third full collection looks through everything."""
    found = garbage.Freezer(thorough_every=3)
    gc.disable()
    gc.callbacks.append(found)
    yield found
    gc.callbacks.remove(found)
    gc.enable()
    gc.unfreeze()


class Node:
    """In a cycle with itself."""

    num_alive = 0

    def __init__(self) -> None:
        self.me = self
        Node.num_alive += 1

    def __del__(self) -> None:
        Node.num_alive -= 1


def test_what_survives_a_full_collection_is_not_looked_through_again(freezer):
    gc.collect()
    assert gc.get_freeze_count() > 1000
    assert len(gc.get_objects()) < 1000  # frozen ones are not among them


def test_cycles_are_collected_at_once_while_they_are_new_and_by_a_thorough_collection_later(
    freezer,
):
    gc.collect()
    new = Node()
    assert Node.num_alive == 1
    del new
    gc.collect(1)
    assert Node.num_alive == 0
    old = Node()
    gc.collect()
    del old  # frozen by now
    assert Node.num_alive == 1
    gc.collect()
    assert Node.num_alive == 1  # the third: after it nothing is frozen
    gc.collect()
    assert Node.num_alive == 0


def test_settling_freezes_what_there_is():
    num_callbacks = len(gc.callbacks)
    garbage.settle()
    try:
        assert gc.get_freeze_count() > 1000
        assert isinstance(gc.callbacks[-1], garbage.Freezer)
    finally:
        del gc.callbacks[num_callbacks:]
        gc.unfreeze()
