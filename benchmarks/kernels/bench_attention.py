"""Attention over a work list, alone: decode, forks of one prefix, prefill; 8B head shape."""

import itertools
from typing import NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.kernels.measure import Bench, error_of, rate
from ramify.runtime.kernels.attention import attention
from ramify.runtime.kernels.attention_tiles import StepTiles, Tiles, choose_tiles
from ramify.runtime.kernels.work_buffers import WorkBuffers
from ramify.runtime.kernels.work_list import SHARE_MIN, Query, plan_work

HEADS, KV_HEADS, SIZE = 32, 8, 128
SCALE = SIZE**-0.5

# rows, block, num_warps, num_stages, ctas_per_sm
DECODE_TILES = [
    Tiles(16, 64, 4, 3, 3),
    Tiles(16, 64, 4, 3, 2),
    Tiles(16, 64, 4, 5, 2),
    Tiles(16, 32, 4, 5, 3),
    Tiles(16, 32, 4, 7, 3),
    Tiles(16, 128, 4, 3, 2),
    Tiles(16, 64, 8, 5, 1),
    Tiles(16, 32, 2, 5, 4),
    Tiles(16, 32, 1, 5, 6),
]
LARGE_TILES = [
    Tiles(128, 64, 8, 5, 1),
    Tiles(128, 64, 8, 3, 1),
    Tiles(64, 64, 4, 5, 1),
    Tiles(64, 64, 4, 3, 1),
    Tiles(64, 64, 4, 3, 2),
    Tiles(64, 32, 4, 5, 2),
    Tiles(128, 128, 8, 3, 1),
    Tiles(64, 128, 4, 3, 1),
]
BESIDE_TILES = [Tiles(16, 32, 2, 5, 4), Tiles(16, 32, 2, 5, 3), Tiles(16, 32, 1, 5, 6)]


class Node(NamedTuple):
    """A radix node: a name and where it ends."""

    name: object
    end: int


class Case(NamedTuple):
    """`groups` prefixes of `prefix` tokens, each with `forks` requests of `own` more, the last
    `rows` of which are this step's."""

    name: str
    groups: int
    forks: int
    prefix: int
    own: int
    rows: int
    split_lens: tuple[int | None, ...]
    target_us: float | None = None  # of the issue; None = no target
    shared: bool = True
    runs: bool = False  # slots stand one after the other, as in a pool not yet scattered


DECODE_SPLITS = (None, 128, 256, 512, 1024, 2048)
CASES = [
    Case("decode B=1 4k", 1, 1, 0, 4096, 1, (64, 128, 256, 512), 10.0),
    Case("decode B=1 32k", 1, 1, 0, 32768, 1, (256, 512, 1024, 2048)),
    Case("decode B=8 4k", 8, 1, 0, 4096, 1, DECODE_SPLITS),
    Case("decode B=32 4k", 32, 1, 0, 4096, 1, DECODE_SPLITS, 32 * 4096 * 4096 / 4236e3 / 0.90),
    Case("decode B=128 4k", 128, 1, 0, 4096, 1, DECODE_SPLITS, 128 * 4096 * 4096 / 4236e3 / 0.97),
    Case("decode B=128 1k", 128, 1, 0, 1024, 1, (None, 256, 512, 1024)),
    Case("64 forks of 2k + 128", 1, 64, 2048, 128, 1, (None, 128, 256, 512), 35.0),
    Case("64 forks of 8k + 128", 1, 64, 8192, 128, 1, (None, 256, 512, 1024), 55.0),
    Case("64 forks of 32k + 128", 1, 64, 32768, 128, 1, (None, 1024, 2048), 130.0),
    Case("64 forks of 2k + 128, runs", 1, 64, 2048, 128, 1, (None,), 35.0, runs=True),
    Case("64 forks of 8k + 128, runs", 1, 64, 8192, 128, 1, (None,), 55.0, runs=True),
    Case("64 forks of 32k + 128, runs", 1, 64, 32768, 128, 1, (None,), 130.0, runs=True),
    Case("64 forks of 2k, unshared", 1, 64, 2048, 128, 1, (None, 512), None, False),
    Case("64 forks of 8k, unshared", 1, 64, 8192, 128, 1, (None, 1024), None, False),
    Case("16 x 16 forks of 2k + 128", 16, 16, 2048, 128, 1, (None, 512, 1024)),
    Case("64 x 16 forks of 2k + 128", 64, 16, 2048, 128, 1, (None, 1024, 2048)),
    Case("8 forks of 4k + 128", 1, 8, 4096, 128, 1, (None, 128, 256, 512)),
    Case("prefill 1k", 1, 1, 0, 1024, 1024, (None, 16384)),
    Case("prefill 8k", 1, 1, 0, 8192, 8192, (None, 16384)),
    Case("prefill 1k, runs", 1, 1, 0, 1024, 1024, (None,), runs=True),
    Case("prefill 8k, runs", 1, 1, 0, 8192, 8192, (None,), runs=True),
    Case("chunk of 2k at 8k, runs", 1, 1, 0, 8192, 2048, (None,), runs=True),
    Case("chunk of 2k at 8k", 1, 1, 0, 8192, 2048, (None, 16384)),
    Case("chunk of 128 at 32k", 1, 1, 0, 32768, 128, (None, 4096, 8192)),
]
SHARE_PREFIXES = (512, 1024, 2048, 4096, 8192)
SMOKE_CASES = [
    Case("decode", 2, 1, 0, 70, 1, (None, 32)),
    Case("forks", 1, 6, 64, 9, 1, (None, 32)),
    Case("prefill", 1, 1, 0, 24, 24, (None,)),
    Case("runs", 1, 1, 0, 600, 9, (None,), runs=True),
]


class Inputs:
    """Tensors of a case: slots scattered at random over the pool, pools rotated past the L2."""

    def __init__(self, bench: Bench, case: Case) -> None:
        self.case = case
        self.num_requests = case.groups * case.forks
        length = case.prefix + case.own
        num_slots = case.groups * (case.prefix + case.forks * case.own)
        self.read_bytes = 2.0 * num_slots * KV_HEADS * SIZE * 2
        order = torch.randperm(num_slots, device=bench.device, dtype=torch.int32)
        if case.runs:
            order = order.sort().values
        prefixes = order[: case.groups * case.prefix].view(case.groups, 1, case.prefix)
        own = order[case.groups * case.prefix :].view(case.groups, case.forks, case.own)
        table = torch.cat([prefixes.expand(-1, case.forks, -1), own], -1)
        self.slots = table.reshape(-1).contiguous()
        on_host = self.slots.cpu().numpy()
        self.queries = []
        for index in range(self.num_requests):
            path = (Node(index // case.forks, case.prefix),) if case.prefix else ()
            position = length - case.rows
            row, base = index * case.rows, index * length
            slots = on_host[base : base + length] if case.runs else None
            self.queries.append(Query(row, case.rows, position, base, path, slots))
        first = torch.arange(length - case.rows, length, device=bench.device, dtype=torch.int32)
        self.positions = first.repeat(self.num_requests)
        self.num_rows = self.num_requests * case.rows
        self.q = bench.randn(self.num_rows, HEADS, SIZE)
        self.pools = [
            (bench.randn(num_slots, KV_HEADS, SIZE), bench.randn(num_slots, KV_HEADS, SIZE))
            for _ in range(bench.copies(self.read_bytes))
        ]

    def expected(self, rows: list[int]) -> torch.Tensor:
        """[rows, HEADS, SIZE] fp32: plain softmax over each row's own slots, first pool."""
        k_pool, v_pool = self.pools[0]
        out = []
        for row in rows:
            query = self.queries[row // self.case.rows]
            end = query.slot_base + query.position + row % self.case.rows + 1
            slots = self.slots[query.slot_base : end].long()
            k = k_pool[slots].float().repeat_interleave(HEADS // KV_HEADS, 1)
            v = v_pool[slots].float().repeat_interleave(HEADS // KV_HEADS, 1)
            p = (torch.einsum("hd,jhd->hj", self.q[row].float(), k) * SCALE).softmax(-1)
            out.append(torch.einsum("hj,jhd->hd", p, v))
        return torch.stack(out)


def bench_attention(bench: Bench) -> None:
    """Every case, the best of its tiles and split lengths; then torch's own prefill beside ours."""
    torch.backends.cuda.matmul.allow_tf32 = False
    for case in SMOKE_CASES if bench.smoke else CASES:
        inputs = Inputs(bench, case)
        tried = []
        for tiles, split_len in itertools.product(_tiles(bench, case), case.split_lens):
            try:
                tried.append((*_run(bench, inputs, tiles, split_len), tiles, split_len))
            except (RuntimeError, ValueError) as error:  # does not fit the device
                print(f"skipped {case.name} {tuple(tiles)}: {str(error)[:100]}", flush=True)
        us, error, tiles, split_len = min(tried, key=lambda t: t[0] if t[0] == t[0] else 0.0)
        more: dict[str, object] = {"tiles": tuple(tiles), "split_len": split_len}
        if case.target_us:
            more |= {"target_us": round(case.target_us, 1), "met": us <= case.target_us}
        reads = inputs.read_bytes if case.shared else _unshared_bytes(case)
        limit = max(bench.bytes_us(reads), bench.flops_us(_flops(case)))
        if case.rows > 1:
            more["tflops"] = rate(_flops(case), us, 1e12)
        others = sorted((round(t[0], 1), tuple(t[2]), t[3] or 0) for t in tried)[1:4]
        more["next"] = others
        bench.add("attention", case.name, us, limit_us=limit, error=error, **more)
    for length in (64,) if bench.smoke else (1024, 8192):
        _bench_sdpa(bench, length)
    for forks, prefix in itertools.product((2, 4, 8, 16), () if bench.smoke else SHARE_PREFIXES):
        _bench_sharing(bench, forks, prefix)


def _bench_sharing(bench: Bench, forks: int, prefix: int) -> None:
    """One prefix as an item of its own against none: where does sharing begin to pay?"""
    name = f"{forks} forks of {prefix} + 128"
    shared = Case(name, 1, forks, prefix, 128, 1, ())
    alone = shared._replace(shared=False)
    inputs = Inputs(bench, shared)
    us, error = _run(
        bench,
        inputs,
        choose_tiles(SIZE, forks, has_large=forks > 4),
        None,
        share_min=1,
    )
    inputs.case = alone
    alone_us, _ = _run(bench, inputs, choose_tiles(SIZE, forks, has_large=False), None)
    bench.add(
        "sharing", name, us, limit_us=bench.bytes_us(inputs.read_bytes), error=error,
        alone_us=round(alone_us, 2), gain=round(alone_us / us, 2),
        saved_tokens=(forks - 1) * prefix,
    )  # fmt: skip


def _tiles(bench: Bench, case: Case) -> list[StepTiles]:
    if case.rows <= 4 and (case.forks <= 4 or not case.shared):
        shapes = [Tiles(16, 16, 4, 2, 1)] if bench.smoke else DECODE_TILES
        return [StepTiles(shape, None) for shape in shapes]
    small, large = BESIDE_TILES, LARGE_TILES
    if bench.smoke:
        small, large = [Tiles(16, 16, 4, 2, 1)], [Tiles(32, 16, 4, 2, 1)]
    pairs = itertools.product(small[:1] if case.rows > 4 else small, large)
    return [StepTiles(*pair) for pair in pairs]


def _run(
    bench: Bench,
    inputs: Inputs,
    tiles: StepTiles,
    split_len: int | None,
    share_min: int = SHARE_MIN,
) -> tuple[float, float]:
    """Check one tile shape on rows spread over the batch, then time it."""
    num_sms = 3
    if bench.device == "cuda":
        num_sms = torch.cuda.get_device_properties(0).multi_processor_count
    work = plan_work(
        inputs.queries,
        num_rows=inputs.num_rows,
        num_kv_heads=KV_HEADS,
        group=HEADS // KV_HEADS,
        tile_rows=tiles.large.rows if tiles.large else 16,
        num_ctas=num_sms * tiles.small.ctas_per_sm,
        num_large_ctas=num_sms * tiles.large.ctas_per_sm if tiles.large else None,
        split_len=split_len,
        share_min=(1 if bench.smoke else share_min) if inputs.case.shared else None,
    )
    buffers = WorkBuffers.holding(
        work, num_heads=HEADS, num_kv_heads=KV_HEADS, head_size=SIZE, device=bench.device
    )
    if not len(work.small_items):
        tiles = tiles._replace(small=None)
    buffers.parts.fill_(float("nan"))
    out = torch.full_like(inputs.q, float("nan"))

    def launch(k: torch.Tensor, v: torch.Tensor) -> None:
        attention(
            inputs.q, k, v, inputs.slots, inputs.positions, buffers, out,
            scale=SCALE, tiles=tiles, num_sms=num_sms,
        )  # fmt: skip

    launch(*inputs.pools[0])
    step = max(1, inputs.num_rows // 7)
    rows = sorted({0, inputs.num_rows - 1, *range(0, inputs.num_rows, step)})
    assert not out.isnan().any(), "rows were not written"
    error = error_of(out[rows], inputs.expected(rows), 1e-2)
    return bench.time_us([lambda pool=pool: launch(*pool) for pool in inputs.pools]), error


def _flops(case: Case) -> float:
    length = case.prefix + case.own
    seen = sum(range(length - case.rows + 1, length + 1))
    return 4.0 * HEADS * SIZE * seen * case.groups * case.forks


def _unshared_bytes(case: Case) -> float:
    return 4.0 * KV_HEADS * SIZE * (case.prefix + case.own) * case.groups * case.forks


def _bench_sdpa(bench: Bench, length: int) -> None:
    """torch's causal attention on contiguous K and V: what a chunk without prefix could use."""
    case = Case(f"prefill {length}", 1, 1, 0, length, length, ())
    q = bench.randn(1, HEADS, length, SIZE)
    k, v = bench.randn(1, HEADS, length, SIZE), bench.randn(1, HEADS, length, SIZE)
    backends = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}
    for name, backend in {"math": SDPBackend.MATH}.items() if bench.smoke else backends.items():
        with sdpa_kernel(backend):
            us = bench.time_us([lambda: scaled_dot_product_attention(q, k, v, is_causal=True)])
        bench.add(
            f"torch {name}", case.name, us, limit_us=bench.flops_us(_flops(case)), error=0.0,
            tflops=rate(_flops(case), us, 1e12),
        )  # fmt: skip
