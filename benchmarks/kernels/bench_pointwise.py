"""What stands between the products of a layer: norm, gate, rotation with the KV store; 8B shape."""

import torch

from benchmarks.kernels.measure import Bench, error_of
from ramify.runtime.kernels.gated import gated, gated_ref
from ramify.runtime.kernels.rms_norm import rms_norm, rms_norm_ref
from ramify.runtime.kernels.rope_store import rope_store, rope_store_ref


def bench_pointwise(bench: Bench) -> None:
    """Times of one launch with inputs out of L2; the limit is each byte once."""
    hidden, inner = (64, 96) if bench.smoke else (4096, 14336)
    for rows in (2,) if bench.smoke else (1, 64, 2048, 8192):
        _bench_rms_norm(bench, rows, hidden)
        _bench_gated(bench, rows, inner)
        for norms in (False, True):
            _bench_rope_store(bench, rows, norms)


def _bench_rms_norm(bench: Bench, rows: int, size: int) -> None:
    num_bytes = 4 * 2.0 * rows * size
    weight = bench.randn(size)
    sets = [
        (bench.randn(rows, size), bench.randn(rows, size)) for _ in range(bench.copies(num_bytes))
    ]
    out, expected = torch.empty_like(sets[0][0]), torch.empty_like(sets[0][0])
    x, residual = sets[0]
    rms_norm_ref(x, weight, expected, eps=1e-5, residual_TC=residual.clone())
    rms_norm(x, weight, out, eps=1e-5, residual_TC=residual.clone())
    error = error_of(out, expected, 1e-2)
    calls = [lambda x=x, r=r: rms_norm(x, weight, out, eps=1e-5, residual_TC=r) for x, r in sets]
    us = bench.time_us(calls)
    bench.add("rms_norm", f"T={rows}", us, limit_us=bench.bytes_us(num_bytes), error=error)


def _bench_gated(bench: Bench, rows: int, size: int) -> None:
    num_bytes = 3 * 2.0 * rows * size
    sets = [bench.randn(rows, 2 * size) for _ in range(bench.copies(num_bytes))]
    out, expected = (
        torch.full((rows, size), float("nan"), device=bench.device, dtype=bench.dtype)
        for _ in range(2)
    )
    gated(sets[0], out)
    gated_ref(sets[0], expected)
    error = error_of(out, expected, 1e-2)
    us = bench.time_us([lambda x=x: gated(x, out) for x in sets])
    bench.add("gated", f"T={rows}", us, limit_us=bench.bytes_us(num_bytes), error=error)


def _bench_rope_store(bench: Bench, rows: int, norms: bool) -> None:
    heads, kv_heads, size = (4, 2, 64) if bench.smoke else (32, 8, 128)
    num_slots = max(64, 2 * rows)
    num_bytes = 2 * 2.0 * rows * (heads + 2 * kv_heads) * size
    sets = [bench.randn(rows, heads + 2 * kv_heads, size) for _ in range(bench.copies(num_bytes))]
    pools = [bench.randn(num_slots, kv_heads, size) for _ in range(4)]
    positions = torch.randint(0, 512, (rows,), dtype=torch.int32, device=bench.device)
    out_loc = torch.randperm(num_slots, device=bench.device)[:rows].int()
    angles = torch.rand(512, size // 2, device=bench.device) * 6
    options = {}
    if norms:
        options = {"q_norm_D": bench.randn(size), "k_norm_D": bench.randn(size), "eps": 1e-6}
    fixed = (positions, out_loc, angles.cos(), angles.sin())
    ours, theirs = sets[0].clone(), sets[0].clone()
    rope_store(ours, *fixed, pools[0], pools[1], **options)
    rope_store_ref(theirs, *fixed, pools[2], pools[3], **options)
    error = error_of(ours, theirs, 1e-2)
    slots = out_loc.long()
    error_of(pools[0][slots], pools[2][slots], 1e-2)
    error_of(pools[1][slots], pools[3][slots], 0.0)
    us = bench.time_us([lambda x=x: rope_store(x, *fixed, *pools[:2], **options) for x in sets])
    name = f"T={rows}, {'qk-norm' if norms else 'no norm'}"
    bench.add("rope_store", name, us, limit_us=bench.bytes_us(num_bytes), error=error)
