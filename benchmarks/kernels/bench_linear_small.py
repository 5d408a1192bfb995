"""Products with few rows: bytes of weight per second, beside torch's linear; 8B and 0.6B shapes.

Then the product of an MLP's gates with the gate as its last step, beside two launches.
"""

import torch
from torch.nn.functional import linear

from benchmarks.kernels.measure import Bench, error_of, rate
from ramify.runtime.kernels.gated import gated
from ramify.runtime.kernels.linear_small import (
    LinearTiles,
    choose_linear_tiles,
    linear_small,
    linear_small_ref,
)

# name, outputs, inputs
SHAPES = [
    ("qkv 8B", 6144, 4096),
    ("o 8B", 4096, 4096),
    ("gate_up 8B", 28672, 4096),
    ("down 8B", 4096, 14336),
    ("lm_head 8B", 128256, 4096),
    ("qkv 0.6B", 4096, 1024),
    ("o 0.6B", 1024, 2048),
    ("gate_up 0.6B", 6144, 1024),
    ("down 0.6B", 1024, 3072),
    ("lm_head 0.6B", 151936, 1024),
]
# block_n, block_k, split_k, num_warps, num_stages
VECTOR_TILES = [
    LinearTiles(2, 2048, 1, 8, 3),
    LinearTiles(1, 2048, 1, 4, 3),
    LinearTiles(4, 1024, 1, 4, 3),
    LinearTiles(2, 1024, 1, 4, 4),
    LinearTiles(8, 512, 1, 4, 3),
    LinearTiles(4, 512, 1, 4, 4),
]
GATED_SHAPES = [("8B", 14336, 4096), ("0.6B", 3072, 1024)]
GATED_TILES = [
    LinearTiles(64, 64, 1, 4, 3),
    LinearTiles(64, 64, 1, 4, 4),
    LinearTiles(64, 64, 1, 4, 5),
    LinearTiles(64, 64, 1, 8, 4),
    LinearTiles(64, 128, 1, 4, 3),
    LinearTiles(64, 128, 1, 8, 4),
    LinearTiles(32, 128, 1, 4, 4),
]
DOT_TILES = [
    LinearTiles(64, 128, 1, 4, 4),
    LinearTiles(64, 128, 2, 4, 4),
    LinearTiles(64, 128, 4, 4, 4),
    LinearTiles(64, 128, 8, 4, 4),
    LinearTiles(32, 256, 1, 4, 4),
    LinearTiles(32, 128, 2, 4, 5),
    LinearTiles(32, 128, 4, 4, 5),
    LinearTiles(64, 256, 4, 4, 3),
    LinearTiles(128, 64, 4, 4, 5),
    LinearTiles(16, 256, 1, 4, 4),
]
MANY_ROWS_TILES = [  # more, where x takes as much room as the weight
    LinearTiles(128, 128, 1, 8, 3),
    LinearTiles(128, 64, 1, 4, 5),
    LinearTiles(128, 64, 1, 8, 6),
    LinearTiles(128, 64, 2, 4, 5),
    LinearTiles(256, 64, 1, 8, 4),
    LinearTiles(64, 64, 1, 4, 8),
    LinearTiles(64, 64, 2, 4, 8),
    LinearTiles(64, 128, 1, 4, 6),
    LinearTiles(64, 128, 2, 4, 6),
    LinearTiles(64, 128, 1, 8, 4),
]


def bench_many_rows(bench: Bench) -> None:
    """The 8B's products where cuBLAS begins to win."""
    bench_linear_small(bench, [shape for shape in SHAPES if "8B" in shape[0]], (32, 48, 64))


def bench_linear_small(bench: Bench, shapes=SHAPES, all_rows=(1, 4, 8, 16, 32, 64)) -> None:
    """The default tiles, the best found and cuBLAS for each shape and number of rows."""
    shapes = [("tiny", 96, 256)] if bench.smoke else shapes
    for name, outputs, inputs in shapes:
        num_bytes = 2.0 * outputs * inputs
        weights = [bench.randn(outputs, inputs) * 0.02 for _ in range(bench.copies(num_bytes))]
        for rows in (1, 3) if bench.smoke else all_rows:
            x = bench.randn(rows, inputs)
            default = choose_linear_tiles(rows, outputs, inputs)
            tried = {}
            for tiles in {default: 0, **dict.fromkeys(_candidates(rows), 0)}:
                try:
                    tried[tiles] = _run(bench, x, weights, tiles)
                except (RuntimeError, ValueError) as error:  # does not fit the device
                    print(f"skipped {name} {tuple(tiles)}: {str(error)[:100]}", flush=True)
            best = min(tried, key=lambda t: tried[t][0])
            torch_us = bench.time_us([lambda x=x, w=w: linear(x, w) for w in weights])
            us, error = tried[default]
            bench.add(
                "linear_small", f"{name} M={rows}", us, limit_us=bench.bytes_us(num_bytes),
                error=error, gbs=rate(num_bytes, us, 1e9),
                torch_us=round(torch_us, 2), best_us=round(tried[best][0], 2), best=tuple(best),
            )  # fmt: skip


def bench_gated_linear(bench: Bench) -> None:
    """The gate as the product's last step: default tiles, the best found, two launches."""
    shapes = [("tiny", 96, 256)] if bench.smoke else GATED_SHAPES
    for name, outputs, inputs in shapes:
        num_bytes = 4.0 * outputs * inputs
        weights = [bench.randn(2 * outputs, inputs) * 0.02 for _ in range(bench.copies(num_bytes))]
        for rows in (1, 3) if bench.smoke else (1, 4, 16, 32, 64):
            x = bench.randn(rows, inputs)
            default = choose_linear_tiles(rows, outputs, inputs, gated=True)
            others = [t for t in VECTOR_TILES if t.block_n > 1] if rows == 1 else GATED_TILES
            tried = {
                tiles: _run(bench, x, weights, tiles, "silu")
                for tiles in dict.fromkeys([default, *others])
            }
            best = min(tried, key=lambda t: tried[t][0])
            both = torch.empty(rows, 2 * outputs, device=x.device, dtype=x.dtype)
            act = torch.empty(rows, outputs, device=x.device, dtype=x.dtype)

            def two(w, x=x, both=both, act=act):
                linear_small(x, w, both)
                gated(both, act)

            two_us = bench.time_us([lambda w=w, two=two: two(w) for w in weights])
            us, error = tried[default]
            bench.add(
                "linear gated", f"{name} M={rows}", us, limit_us=bench.bytes_us(num_bytes),
                error=error, two_launches_us=round(two_us, 2), best_us=round(tried[best][0], 2),
                best=tuple(best),
            )  # fmt: skip


def _candidates(rows: int) -> list[LinearTiles]:
    if rows == 1:
        return VECTOR_TILES + DOT_TILES
    return DOT_TILES + (MANY_ROWS_TILES if rows >= 32 else [])


def _run(
    bench: Bench,
    x: torch.Tensor,
    weights: list[torch.Tensor],
    tiles: LinearTiles,
    activation: str | None = None,
) -> tuple[float, float]:
    outputs = weights[0].shape[0] // (1 if activation is None else 2)
    y = torch.full((x.shape[0], outputs), float("nan"), device=x.device, dtype=x.dtype)
    expected = torch.empty_like(y, dtype=torch.float32)
    linear_small_ref(x, weights[0], expected, activation=activation)

    def launch(w: torch.Tensor) -> None:
        linear_small(x, w, y, activation=activation, tiles=tiles)

    launch(weights[0])
    error = error_of(y, expected, 1e-2)
    return bench.time_us([lambda w=w: launch(w) for w in weights]), error
