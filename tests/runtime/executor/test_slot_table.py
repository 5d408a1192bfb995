"""Rows and regions are stable, told to the device once, and taken back when room is needed."""

import numpy as np
import pytest
import torch

from ramify.runtime.core import PlannedRows
from ramify.runtime.executor.decode_step import graph_size
from ramify.runtime.executor.slot_table import SlotTable
from tests.runtime.executor.plans import make_request

CPU = torch.device("cpu")


def request(slots, rid="r"):
    made = make_request(range(len(slots)), slots, rid=rid)
    made.node = object()  # as of a request that runs
    return made


def send(table, made, end):
    at, slots = table.unsent([PlannedRows(made, 0, end, 0, True)])
    table.slots[torch.from_numpy(at).long()] = torch.from_numpy(slots)
    return len(at)


def listed(table, made, end):
    base = table.place(made).base
    return table.slots[base : base + end].tolist()


def test_each_position_is_sent_once():
    table = SlotTable(max_requests=2, num_entries=1024, device=CPU)
    made = request([5, 3, 9, 7])
    assert [send(table, made, end) for end in (2, 2, 4)] == [2, 0, 2]
    assert listed(table, made, 4) == [5, 3, 9, 7]


def test_a_retracted_request_is_sent_anew():
    table = SlotTable(max_requests=2, num_entries=1024, device=CPU)
    made = request([5, 3, 9])
    send(table, made, 3)
    made.slots = np.array([1, 2, 4], np.int32)
    assert send(table, made, 3) == 3
    assert listed(table, made, 3) == [1, 2, 4]


def test_rows_of_ended_requests_are_given_again():
    table = SlotTable(max_requests=2, num_entries=1024, device=CPU)
    first, second, third = (request([at, at + 1], str(at)) for at in range(3))
    rows = {table.place(first).row, table.place(second).row}
    assert rows == {0, 1} and table.padding_row not in rows
    first.node = None
    row = table.place(first).row
    assert table.place(third).row == row
    assert table.place(second).row != row


def test_the_table_grows_and_keeps_what_it_holds():
    table = SlotTable(max_requests=8, num_entries=300, device=CPU)
    requests = [request(list(range(at, at + 9)), str(at)) for at in range(8)]
    for made in requests:
        send(table, made, 9)
    assert len(table.slots) >= 8 * 256
    for at, made in enumerate(requests):
        assert listed(table, made, 9) == list(range(at, at + 9))


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (31, 31), (33, 40), (64, 64), (65, 80)])
def test_small_batches_have_their_own_graph(rows, size):
    assert graph_size(rows) == size
