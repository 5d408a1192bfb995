"""Which graph runs a batch."""

from ramify.runtime.executor.decode_step import graph_size


def test_small_batches_have_graphs_of_their_own_size():
    assert [graph_size(n) for n in (1, 31, 32)] == [1, 31, 32]
    assert (graph_size(33), graph_size(64), graph_size(65), graph_size(80)) == (40, 64, 80, 80)
