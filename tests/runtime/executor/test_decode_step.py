"""What a graph holds is done once, also when it is captured: a step's end changes its beginning."""

import pytest

from ramify.runtime.executor.decode_step import Graphs, graph_size


class Recorded:
    """A graph of what was launched while it was captured."""

    def __init__(self, launch):
        self.replay = launch


@pytest.fixture
def graphs(monkeypatch):
    monkeypatch.setattr(Graphs, "__init__", lambda self: setattr(self, "_captured", {}))
    monkeypatch.setattr(Graphs, "_capture", lambda self, launch: Recorded(launch))
    return Graphs()


def test_each_run_does_it_once(graphs):
    done = []
    for step in range(3):
        graphs.run("eight rows", lambda: done.append("step"))
        assert len(done) == step + 1
    graphs.run("nine rows", lambda: done.append("another"))
    assert done == ["step"] * 3 + ["another"]


def test_small_batches_have_graphs_of_their_own_size():
    assert [graph_size(n) for n in (1, 31, 32)] == [1, 31, 32]
    assert (graph_size(33), graph_size(64), graph_size(65), graph_size(80)) == (40, 64, 80, 80)
