"""What a graph holds is done once, also when it is captured: a step's end changes its beginning."""

from types import SimpleNamespace

import pytest
import torch

from ramify.runtime.executor import replay as replay_module
from ramify.runtime.executor.replay import Graphs, Replay


class Recorded:
    """A graph of what was launched while it was captured."""

    def __init__(self, launch):
        self.replay = launch


@pytest.fixture
def captured(monkeypatch):
    """The keys that were captured, in order."""
    keys = []
    monkeypatch.setattr(Graphs, "__init__", lambda self: setattr(self, "_captured", {}))
    monkeypatch.setattr(Graphs, "_capture", lambda self, launch: keys.append(1) or Recorded(launch))
    return keys


def replay(**options):
    table = SimpleNamespace(slots=torch.zeros(4))
    options = {"max_rows": 8, "patience": 0, "graphs": True} | options
    return table, Replay(table, None, **options)


def test_each_run_does_it_once(captured):
    _, runs = replay()
    done = []
    for step in range(3):
        runs.run("eight rows", lambda: done.append("step"))
        assert len(done) == step + 1
    runs.run("nine rows", lambda: done.append("another"))
    assert done == ["step"] * 3 + ["another"]
    assert len(captured) == 2


def test_a_patient_one_captures_what_comes_again(captured):
    _, runs = replay(patience=1)
    done = []
    for step in range(4):
        runs.run("eight rows", lambda: done.append("step"))
        assert len(done) == step + 1
        assert len(captured) == min(step, 1)


def test_graphs_are_captured_anew_where_the_slot_table_moved(captured):
    table, runs = replay()
    done = []
    for slots in (table.slots, table.slots, torch.zeros(8)):
        table.slots = slots
        runs.run("eight rows", lambda: done.append("step"))
    assert len(done) == 3
    assert len(captured) == 2


def test_without_graphs_nothing_is_captured(captured):
    _, runs = replay(graphs=False)
    done = []
    for _ in range(3):
        runs.run("eight rows", lambda: done.append("step"))
    assert len(done) == 3 and not captured


def test_all_graphs_are_captured_on_one_stream(monkeypatch):
    made = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda: made.append(1) or object())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    replay_module._capture_stream.cache_clear()
    for _ in range(3):
        Graphs()
    replay_module._capture_stream.cache_clear()
    assert len(made) == 1
