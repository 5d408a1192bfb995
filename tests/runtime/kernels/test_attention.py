"""The attention kernel in Triton's interpreter, against plain softmax over each request's slots."""

import random
from typing import NamedTuple

import pytest
import torch

from ramify.runtime.kernels import work_list
from ramify.runtime.kernels.attention import attention, attention_ref
from ramify.runtime.kernels.attention_tiles import StepTiles, Tiles
from ramify.runtime.kernels.work_buffers import WorkBuffers
from ramify.runtime.kernels.work_list import SMALL_ROWS, Query, plan_work

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
STRIDE = 256  # table entries per request


class Node(NamedTuple):
    """A radix node: a name and where it ends."""

    name: object
    end: int


class Case:
    """Requests as (shared prefix, position, rows), with random slots, and their plain answer."""

    def __init__(
        self, requests, *, heads=4, kv_heads=2, size=16, dtype=torch.float32, seed=0, runs=False
    ):
        generator = torch.Generator().manual_seed(seed)
        total = sum(r[1] + r[2] for r in requests) + 64

        def make(*shape):
            return torch.randn(*shape, generator=generator).to(DEVICE, dtype)

        self.k, self.v = make(total, kv_heads, size), make(total, kv_heads, size)
        # Slot order is random; entries past a request's end hold slots it must not read.
        order = torch.arange(total) if runs else torch.randperm(total, generator=generator)
        free = iter(order.tolist())
        self.slots = torch.full((len(requests) * STRIDE,), total - 1, dtype=torch.int32)
        self.queries, positions, prefixes = [], [], {}
        row = 0
        for index, (prefix, position, rows) in enumerate(requests):
            base = index * STRIDE
            if prefix not in prefixes:
                prefixes[prefix] = [next(free) for _ in range(prefix)]
            own = [next(free) for _ in range(position + rows - prefix)]
            slots = torch.tensor(prefixes[prefix] + own, dtype=torch.int32)
            self.slots[base : base + len(slots)] = slots
            path = (Node(prefix, prefix),) if prefix else ()
            on_host = self.slots[base : base + STRIDE].numpy()
            self.queries.append(Query(row, rows, position, base, path, on_host))
            positions += range(position, position + rows)
            row += rows
        self.num_rows = row
        self.positions = torch.tensor([*positions, 0, 0]).to(DEVICE)
        self.slots = self.slots.to(DEVICE)
        self.q = make(row + 2, heads, size)  # two padding rows
        self.group = heads // kv_heads

    def expected(self, scale, window=None, soft_cap=None):
        """[num_rows, heads, size] in float64, request by request, row by row."""
        out = []
        for query in self.queries:
            for r in range(query.num_rows):
                position = query.position + r
                low = 0 if window is None else max(0, position - window + 1)
                slots = self.slots[query.slot_base + low : query.slot_base + position + 1].long()
                k = self.k[slots].double().repeat_interleave(self.group, 1)
                v = self.v[slots].double().repeat_interleave(self.group, 1)
                score = torch.einsum("hd,jhd->hj", self.q[query.row + r].double(), k) * scale
                if soft_cap is not None:
                    score = soft_cap * torch.tanh(score / soft_cap)
                out.append(torch.einsum("hj,jhd->hd", score.softmax(-1), v))
        return torch.stack(out)

    def plan(self, **options):
        options = {"split_len": 32, "share_min": 1, "room": 3, "tile_rows": 32} | options
        self.work = plan_work(
            self.queries,
            num_rows=self.num_rows + 2,
            num_kv_heads=self.k.shape[1],
            group=self.group,
            num_ctas=3,
            **options,
        )
        self.num_tiles = len(self.work.large_items)
        self.buffers = WorkBuffers.holding(
            self.work,
            num_heads=self.q.shape[1],
            num_kv_heads=self.k.shape[1],
            head_size=self.q.shape[2],
            device=DEVICE,
        )
        self.buffers.parts.fill_(float("nan"))

    def run(self, fn=attention, tile_rows=32, **options):
        out = torch.full(self.q.shape, float("nan"), dtype=self.q.dtype, device=DEVICE)
        if fn is attention:
            small = Tiles(SMALL_ROWS, 16, 4, 2, 1) if len(self.work.small_items) else None
            large = Tiles(tile_rows, 16, 4, 2, 1) if self.num_tiles else None
            options |= {"tiles": StepTiles(small, large), "num_sms": 3}
        fn(self.q, self.k, self.v, self.slots, self.positions, self.buffers, out, **options)
        assert out[self.num_rows :].isnan().all()  # padding rows are left alone
        assert not self.buffers.arrived.any()  # ready for the next launch
        return out[: self.num_rows]


MIXED = [(40, 47, 1), (40, 60, 1), (40, 41, 1), (0, 20, 9), (0, 0, 1), (0, 100, 1), (40, 50, 3)]


def close(out, expected, tolerance=1e-5):
    error = (out.double() - expected).norm() / expected.norm()
    assert error < tolerance, error


def test_mixed_step_equals_plain_softmax():
    case = Case(MIXED)
    case.plan()
    assert case.num_tiles and case.work.num_parts
    expected = case.expected(0.3)
    close(case.run(scale=0.3), expected)
    close(case.run(attention_ref, scale=0.3), expected)


def test_shared_items_change_nothing_but_rounding():
    case = Case(MIXED)
    case.plan()
    shared = case.run(scale=0.3)
    case.plan(share_min=None)
    close(shared, case.run(scale=0.3).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_runs_of_consecutive_slots(monkeypatch, dtype):
    monkeypatch.setattr(work_list, "_MIN_RUN", 16)
    case = Case(MIXED, runs=True, dtype=dtype)
    case.plan()
    offsets = case.work.large_items[:, 7]
    assert (offsets >= 0).any() and (case.work.small_items[:, 7] < 0).all()
    close(case.run(scale=0.3), case.expected(0.3), 1e-5 if dtype == torch.float32 else 2e-3)


def test_one_part_per_row_is_written_without_a_merge():
    case = Case([(0, 30, 1), (0, 5, 12)])
    case.plan(split_len=64)
    assert case.work.num_parts == 0
    close(case.run(scale=0.3), case.expected(0.3))


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size"), [(2, 2, 64), (3, 1, 80), (7, 1, 96), (4, 1, 128), (2, 1, 256)]
)
def test_head_shapes(heads, kv_heads, size):
    case = Case([(0, 35, 1), (0, 10, 5)], heads=heads, kv_heads=kv_heads, size=size)
    case.plan()
    close(case.run(scale=size**-0.5), case.expected(size**-0.5))


@pytest.mark.parametrize("window", [1, 7, 64])
def test_sliding_window(window):
    case = Case(MIXED)
    case.plan(window=window)
    close(case.run(scale=0.3, window=window), case.expected(0.3, window=window))
    close(case.run(attention_ref, scale=0.3, window=window), case.expected(0.3, window=window))


def test_soft_cap():
    case = Case(MIXED)
    case.plan()
    close(case.run(scale=1.0, soft_cap=2.5), case.expected(1.0, soft_cap=2.5))


def test_many_forks_fill_several_tiles():
    case = Case([(48, 48 + i % 3, 1) for i in range(21)])
    case.plan(tile_rows=16 * 2)
    assert case.num_tiles == 2  # the last 5 forks fit a small tile
    close(case.run(scale=0.3), case.expected(0.3))


def test_more_parts_than_are_merged_at_a_time():
    case = Case([(0, 150, 1), (0, 140, 9)], heads=4, kv_heads=1, size=64)
    case.plan(split_len=4)
    close(case.run(scale=0.1), case.expected(0.1))


def test_requests_grow_within_their_room():
    case = Case([(40, 47, 1), (40, 63, 1)])
    case.plan(room=2)
    case.queries = [q._replace(position=q.position + 2) for q in case.queries]
    free = 100  # slots of the two new tokens of each
    for query in case.queries:
        at = query.slot_base + query.position
        case.slots[at - 1 : at + 1] = torch.tensor([free, free + 1], dtype=torch.int32)
        free += 2
    case.positions[:2] += 2
    close(case.run(scale=0.3), case.expected(0.3))


def test_strided_queries_and_pools():
    case = Case(MIXED)
    wide = torch.randn(case.q.shape[0], 10, 16, device=DEVICE)
    wide[:, 3:7] = case.q
    case.q = wide[:, 3:7]
    pool = torch.stack([case.k, case.v], 1)
    case.k, case.v = pool[:, 0], pool[:, 1]
    case.plan()
    close(case.run(scale=0.3), case.expected(0.3))


def test_half_precision(half):
    case = Case(MIXED, dtype=half)
    case.plan()
    close(case.run(scale=0.3), case.expected(0.3), tolerance=1e-2)


def test_empty_step_writes_nothing():
    case = Case([(0, 3, 1)])
    case.queries = []
    case.num_rows = 0
    case.plan()
    assert case.run(scale=1.0).shape[0] == 0


def test_random_trees():
    rng = random.Random(0)
    for seed in range(4):
        prefixes = [0, rng.randint(1, 60), rng.randint(1, 60)]
        requests = [
            (p := rng.choice(prefixes), p + rng.randint(0, 40), rng.choice((1, 1, 3, 12)))
            for _ in range(6)
        ]
        case = Case(requests, seed=seed)
        case.plan(split_len=rng.choice((16, 64)), room=rng.choice((0, 9)))
        close(case.run(scale=0.3), case.expected(0.3))


def test_lists_that_do_not_fit_are_refused():
    case = Case(MIXED)
    case.plan(split_len=64)
    small = case.buffers
    case.plan(split_len=4)
    assert small.has_room(case.work) is False
    with pytest.raises(ValueError, match="room for"):
        small.load(case.work)


def test_a_list_planned_for_larger_tiles_is_refused():
    case = Case([(0, 3, 30)])
    case.plan(tile_rows=64)
    with pytest.raises(ValueError, match="30 x 2 rows: tiles of 32"):
        case.run(scale=1.0)
