"""Decode of many requests of unequal lengths, as in a busy server: every tile shape."""

import numpy as np
import torch

from benchmarks.kernels.bench_attention import DECODE_TILES
from benchmarks.kernels.measure import Bench
from ramify.runtime.kernels.attention import attention
from ramify.runtime.kernels.attention_tiles import StepTiles, Tiles
from ramify.runtime.kernels.work_buffers import WorkBuffers
from ramify.runtime.kernels.work_list import Query, plan_work

SIZE = 128
ROOM = 16
# name, query heads, KV heads, requests, shortest, longest
MIXES = [
    ("8B B=512", 32, 8, 512, 256, 1100),
    ("8B B=64", 32, 8, 64, 256, 1100),
    ("0.6B B=256", 16, 8, 256, 120, 1100),
    ("0.6B B=256 later", 16, 8, 256, 600, 1600),
    ("0.6B B=64", 16, 8, 64, 600, 2000),
    ("0.6B B=8", 16, 8, 8, 1000, 2000),
]
MORE_TILES = [Tiles(16, 32, 1, 7, 6), Tiles(16, 64, 2, 5, 3), Tiles(16, 64, 1, 5, 4)]


def bench_decode_mix(bench: Bench) -> None:
    """Times of the best tiles, and of all others beside them."""
    mixes = [("smoke", 4, 2, 3, 5, 40)] if bench.smoke else MIXES
    num_sms = 3
    if bench.device == "cuda":
        num_sms = torch.cuda.get_device_properties(0).multi_processor_count
    for name, heads, kv_heads, count, shortest, longest in mixes:
        lengths = np.random.default_rng(0).integers(shortest, longest, count)
        bases = np.concatenate(([0], np.cumsum(lengths + ROOM)))
        queries = [
            Query(row, 1, int(lengths[row]) - 1, int(bases[row]), ()) for row in range(count)
        ]
        num_slots = int(bases[-1])
        slots = torch.randperm(num_slots, device=bench.device, dtype=torch.int32)
        positions = torch.from_numpy(lengths - 1).to(bench.device, torch.int32)
        q = bench.randn(count, heads, SIZE)
        read_bytes = 4.0 * int(lengths.sum()) * kv_heads * SIZE
        pools = [
            (bench.randn(num_slots, kv_heads, SIZE), bench.randn(num_slots, kv_heads, SIZE))
            for _ in range(min(4, bench.copies(read_bytes)))
        ]
        out, found = torch.empty_like(q), {}
        shapes = [Tiles(16, 16, 4, 2, 1)] if bench.smoke else DECODE_TILES + MORE_TILES
        for tiles in shapes:
            work = plan_work(
                queries,
                num_rows=count,
                num_kv_heads=kv_heads,
                group=heads // kv_heads,
                tile_rows=16,
                num_ctas=num_sms * tiles.ctas_per_sm,
                room=ROOM,
            )
            buffers = WorkBuffers.holding(
                work, num_heads=heads, num_kv_heads=kv_heads, head_size=SIZE, device=bench.device
            )

            def launch(
                k, v, tiles=tiles, buffers=buffers, q=q, out=out, slots=slots, pos=positions
            ):
                attention(
                    q, k, v, slots, pos, buffers, out,
                    scale=SIZE**-0.5, tiles=StepTiles(tiles, None), num_sms=num_sms,
                )  # fmt: skip

            found[tiles] = bench.time_us([lambda pool=pool, f=launch: f(*pool) for pool in pools])
        best = min(found, key=lambda tiles: found[tiles])
        others = sorted((round(us, 1), tuple(tiles)) for tiles, us in found.items())[1:6]
        bench.add(
            "decode_mix", name, found[best], limit_us=bench.bytes_us(read_bytes),
            error=0.0, tiles=tuple(best), next=others,
        )  # fmt: skip
