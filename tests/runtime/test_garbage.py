import gc
import threading

import msgspec
import pytest

from ramify.runtime import garbage
from ramify.runtime.core import EngineStats


@pytest.fixture
def freezer():
    found = garbage.Freezer()
    gc.disable()
    gc.callbacks.append(found)
    yield found
    gc.callbacks.remove(found)
    gc.enable()
    gc.unfreeze()


class Server:
    """What an engine tells of itself."""

    def __init__(self) -> None:
        self.now = EngineStats()

    def change(self, **fields: int) -> None:
        self.now = msgspec.structs.replace(self.now, **fields)

    def stats(self) -> EngineStats:
        return self.now


class Node:
    """In a cycle with itself."""

    num_alive = 0

    def __init__(self) -> None:
        self.me = self
        Node.num_alive += 1

    def __del__(self) -> None:
        Node.num_alive -= 1


def frozen_garbage(freezer: garbage.Freezer, num_full: int) -> None:
    """A cycle that nothing names any more, frozen, and `num_full` full collections over it."""
    old = Node()
    gc.collect()
    del old
    for _ in range(num_full - 1):
        gc.collect()
    assert freezer.num_full == num_full
    assert Node.num_alive == 1


def test_what_survives_a_full_collection_is_not_looked_through_again(freezer):
    gc.collect()
    assert gc.get_freeze_count() > 1000
    assert len(gc.get_objects()) < 1000  # frozen ones are not among them


def test_cycles_are_collected_at_once_while_they_are_new(freezer):
    gc.collect()
    new = Node()
    assert Node.num_alive == 1
    del new
    gc.collect(1)
    assert Node.num_alive == 0


def test_frozen_cycles_are_collected_once_nobody_is_served(freezer):
    server = Server()
    tidier = garbage.Tidier(freezer, server.stats)
    frozen_garbage(freezer, garbage.DUE_AFTER)
    for busy in ({"num_running": 1}, {"num_running": 0, "num_waiting": 1}, {"num_finished": 1}):
        server.change(**busy)
        tidier.look()
        assert Node.num_alive == 1
    server.change(num_waiting=0)
    tidier.look()  # the request may have gone just now
    assert Node.num_alive == 1
    tidier.look()
    assert Node.num_alive == 0
    assert gc.get_freeze_count() > 1000
    assert freezer.num_full == 0


def test_nothing_is_looked_through_before_it_is_due(freezer):
    tidier = garbage.Tidier(freezer, Server().stats)
    frozen_garbage(freezer, garbage.DUE_AFTER - 1)
    tidier.look()
    assert Node.num_alive == 1
    freezer.collect_all()


def test_a_server_that_is_never_quiet_is_tidied_in_the_end(freezer, monkeypatch):
    monkeypatch.setattr(garbage, "FORCED_AFTER", 20)
    server = Server()
    server.change(num_running=1)
    tidier = garbage.Tidier(freezer, server.stats)
    frozen_garbage(freezer, 19)
    tidier.look()
    assert Node.num_alive == 1
    gc.collect()
    tidier.look()
    assert Node.num_alive == 0


def test_settling_freezes_what_there_is_and_watches(monkeypatch):
    looked = threading.Event()
    monkeypatch.setattr(garbage.Tidier, "run", lambda tidier: looked.set())
    num_callbacks = len(gc.callbacks)
    garbage.settle(Server().stats)
    try:
        assert gc.get_freeze_count() > 1000
        assert isinstance(gc.callbacks[-1], garbage.Freezer)
        assert looked.wait(10)
    finally:
        del gc.callbacks[num_callbacks:]
        gc.unfreeze()
