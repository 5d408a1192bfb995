"""The planner against brute force: each row is given each position it sees exactly once."""

import random
from typing import NamedTuple

import numpy as np
import pytest

from ramify.runtime.kernels.work_list import (
    SMALL_ROWS,
    Query,
    WorkList,
    plan_work,
)
from ramify.runtime.kernels.work_split import choose_cut, deal


class Node(NamedTuple):
    """A radix node: a name and where it ends."""

    name: object
    end: int


def random_queries(rng: random.Random) -> list[Query]:
    """Requests below a random tree: decoding ones, short and long chunks, some outside the tree."""
    tree = {(): 0}
    for _ in range(rng.randint(0, 6)):
        parent = rng.choice(list(tree))
        tree[(*parent, len(tree))] = tree[parent] + rng.randint(1, 200)
    queries, row = [], 0
    for index in range(rng.randint(1, 12)):
        leaf = rng.choice(list(tree))
        path = tuple(Node(leaf[: i + 1], tree[leaf[: i + 1]]) for i in range(len(leaf)))
        num_rows = rng.choice((1, 1, 1, 2, 5, 40))
        position = tree[leaf] + rng.randint(0, 300)
        if rng.random() < 0.2:  # its own rows are in the tree too, as planned slots are
            path += (Node(("own", index), position + num_rows),)
        queries.append(Query(row, num_rows, position, 1000 * index, path))
        row += num_rows
    return queries


def seen_by_row(work: WorkList, queries: list[Query]) -> dict[int, list[tuple[int, int, int]]]:
    """Row -> its (slot_base, start, end) from all items, in order of position."""
    found: dict[int, list[tuple[int, int, int]]] = {}
    for row_start, num_rows, _, _, base, start, end, _ in work.items.tolist():
        for row in work.item_rows[row_start : row_start + num_rows].tolist():
            found.setdefault(row, []).append((base, start, end))
    return {row: sorted(ranges, key=lambda r: r[1]) for row, ranges in found.items()}


@pytest.mark.parametrize("seed", range(60))
def test_each_row_sees_each_position_once(seed):
    rng = random.Random(seed)
    queries = random_queries(rng)
    num_rows = sum(q.num_rows for q in queries)
    group, room = rng.choice((1, 2, 3, 4, 7)), rng.choice((0, 33))
    split_len = rng.choice((None, 16, 64))
    work = plan_work(
        queries,
        num_rows=num_rows,
        num_kv_heads=2,
        group=group,
        tile_rows=64,
        num_ctas=8,
        room=room,
        split_len=split_len,
        share_min=rng.choice((None, 0, 100)),
    )
    found = seen_by_row(work, queries)
    shares = {  # query -> (node, end) it may read through another query's slots
        i: {(p.name, p.end) for p in q.path} for i, q in enumerate(queries)
    }
    for index, query in enumerate(queries):
        for r in range(query.num_rows):
            need = query.position + r + 1
            at = 0
            for base, start, end in found[query.row + r]:
                assert start == at
                at = end
                owner = base // 1000
                if owner != index:  # these slots are the same in both requests' tables
                    assert any(
                        end <= e and node in shares[owner]
                        for node, e in shares[index]
                        for node in [(node, e)]
                    )
                    assert end <= query.position
            assert at >= need + (room if query.num_rows == 1 else 0)


@pytest.mark.parametrize("seed", range(20))
def test_parts_are_contiguous_and_in_order_of_position(seed):
    queries = random_queries(random.Random(seed))
    num_rows = sum(q.num_rows for q in queries) + 3  # padding rows of a graph
    work = plan_work(
        queries,
        num_rows=num_rows,
        num_kv_heads=2,
        group=2,
        tile_rows=64,
        num_ctas=4,
        split_len=32,
        share_min=50,
    )
    starts = np.repeat(work.items[:, 5], work.items[:, 1])
    used = []
    for row in range(num_rows):
        mine = np.flatnonzero(work.item_rows == row)
        first, count = work.row_parts[row]
        assert count == len(mine)
        parts = work.item_parts[mine[np.argsort(starts[mine])]]
        if count == 1:
            assert parts[0] == -1
        else:
            assert parts.tolist() == list(range(first, first + count))
            used += parts.tolist()
    assert sorted(used) == list(range(work.num_parts))


def test_tiles_come_first_and_fit():
    queries = [Query(0, 100, 50, 0), Query(100, 1, 900, 1000), Query(101, 1, 3000, 5000)]
    work = plan_work(queries, num_rows=102, num_kv_heads=8, group=4, tile_rows=128, num_ctas=132)
    rows = work.items[:, 1] * 4
    is_tile = rows > SMALL_ROWS
    assert (rows <= 128).all() and is_tile.any() and not is_tile.all()
    assert (np.diff(is_tile.astype(int)) <= 0).all()


def test_shared_prefix_is_read_once():
    forks = [Query(i, 1, 8192 + i, 10000 * i, (Node("p", 8192),)) for i in range(64)]
    options = {"num_rows": 64, "num_kv_heads": 8, "group": 4, "tile_rows": 128, "num_ctas": 132}
    shared = plan_work(forks, **options)
    alone = plan_work(forks, **options, share_min=None)

    def reads(w):
        return int((w.items[:, 6] - w.items[:, 5]).sum())

    assert reads(shared) == 2 * 8192 + sum(i + 1 for i in range(64))  # two row tiles
    assert reads(alone) == sum(8192 + i + 1 for i in range(64))


def test_neighbouring_nodes_with_the_same_forks_are_one_range():
    path = (Node("a", 5000), Node("b", 5003), Node("c", 9000))
    forks = [Query(i, 1, 9000, 10000 * i, path) for i in range(5)]
    work = plan_work(
        forks, num_rows=5, num_kv_heads=1, group=4, tile_rows=64, num_ctas=1, split_len=16384
    )
    assert work.items[:, 5:7].tolist() == [[0, 9000], *[[9000, 9001]] * 5]


def test_a_few_forks_share_only_a_long_prefix():
    def is_shared(length):
        forks = [Query(i, 1, length, 50000 * i, (Node("p", length),)) for i in range(3)]
        options = {"num_rows": 3, "num_kv_heads": 8, "group": 4, "tile_rows": 64, "num_ctas": 132}
        return bool((plan_work(forks, **options).items[:, 1] > 1).any())

    assert [is_shared(length) for length in (4000, 20000, 30000)] == [False, False, True]


def test_programs_get_equal_shares_of_unequal_requests():
    lengths = np.random.default_rng(0).integers(100, 1200, 256)
    queries = [Query(i, 1, int(n), 2000 * i) for i, n in enumerate(lengths)]
    work = plan_work(
        queries, num_rows=256, num_kv_heads=8, group=4, tile_rows=16, num_ctas=512, split_len=4096
    )
    reads = np.repeat(work.items[:, 6] - work.items[:, 5], 8)  # of each unit: an item and KV head
    shares = np.bincount(np.arange(len(reads)) % 512, weights=reads)
    assert shares.max() < 1.05 * shares.mean()


def test_window_drops_what_no_row_sees():
    work = plan_work(
        [Query(0, 1, 1000, 0)],
        num_rows=1,
        num_kv_heads=1,
        group=1,
        tile_rows=64,
        num_ctas=1,
        window=100,
        split_len=128,
    )
    assert work.items[:, 5].min() == 901


def test_a_fixed_split_does_not_depend_on_the_neighbours():
    one = Query(0, 1, 5000, 0, (Node("p", 4000),))
    more = [one, *(Query(i, 1, 300 * i, 8000 * i, (Node("p", 4000),)) for i in range(14, 18))]
    options = {"num_kv_heads": 2, "group": 4, "tile_rows": 64, "num_ctas": 16, "split_len": 512}
    alone = plan_work([one], num_rows=1, share_min=None, **options)
    among = plan_work(more, num_rows=18, share_min=None, **options)
    assert seen_by_row(alone, [one])[0] == seen_by_row(among, more)[0]


def test_a_split_keeps_programs_busy():
    def choose(num_items, length, num_slots):
        start, end = np.zeros(num_items, int), np.full(num_items, length)
        chosen = choose_cut(
            start, end, end, np.ones(num_items, int), num_slots, bound_by_reads=True
        )
        return int((chosen.end - chosen.start).max())

    assert choose(1, 4096, 16) <= 256  # one long item, for sixteen programs
    assert choose(128, 4096, 33) >= 2048  # many long ones: parts cost more than they bring
    assert choose(64, 150, 66) == 150  # one for each program


@pytest.mark.parametrize("num_items", [0, 1, 5, 7, 40, 143])
def test_items_are_dealt_out_evenly_and_each_once(num_items):
    cost = np.random.default_rng(num_items).integers(100, 2000, num_items)
    order = deal(cost, 7)
    assert sorted(order.tolist()) == list(range(num_items))
    if num_items > 35:
        load = np.bincount(np.arange(num_items) % 7, weights=cost[order], minlength=7)
        assert load.max() < 1.1 * load.mean()
