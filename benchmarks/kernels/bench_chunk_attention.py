"""Attention of long chunks, K and V put in order first, beside torch's cuDNN; 8B head shape."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.kernels.measure import Bench, error_of, rate
from ramify.runtime.kernels.chunk_attention import chunk_attention, chunk_attention_ref

HEADS, KV_HEADS, SIZE = 32, 8, 128
SCALE = SIZE**-0.5
CHUNKS = [(1024, 1024), (2048, 2048), (8192, 8192), (2048, 8192), (512, 16384), (8192, 32768)]


def bench_chunk_attention(bench: Bench) -> None:
    """(rows, positions): the kernel alone and with K and V gathered from slots at random."""
    for rows, end in ((24, 70),) if bench.smoke else CHUNKS:
        _bench_chunk(bench, rows, end)


def _bench_chunk(bench: Bench, rows: int, end: int) -> None:
    qkv = bench.randn(rows, HEADS + 2 * KV_HEADS, SIZE)
    q, out = qkv[:, :HEADS], torch.empty_like(qkv[:, :HEADS])
    k_pool, v_pool = (bench.randn(end, KV_HEADS, SIZE) for _ in range(2))
    slots = torch.randperm(end, device=bench.device).int()
    k, v = k_pool.index_select(0, slots), v_pool.index_select(0, slots)

    def alone() -> None:
        chunk_attention(q, k, v, out, scale=SCALE)

    def gathered() -> None:
        in_order = (x.index_select(0, slots) for x in (k_pool, v_pool))
        chunk_attention(q, *in_order, out, scale=SCALE)

    gathered()
    error = _check(q, k, v, out)
    us, gathered_us = bench.time_us([alone]), bench.time_us([gathered])
    flops = 4.0 * HEADS * SIZE * (rows * (end - rows) + rows * (rows + 1) / 2)
    more: dict[str, object] = {
        "tflops": rate(flops, us, 1e12),
        "gathered_us": round(gathered_us, 1),
        "gathered_tflops": rate(flops, gathered_us, 1e12),
    }
    if rows == end:
        more["cudnn_tflops"] = rate(flops, _cudnn_us(bench, q, k, v), 1e12)
    bench.add(
        "chunk_attention", f"{rows} rows of {end}", us, limit_us=bench.flops_us(flops),
        error=error, **more,
    )  # fmt: skip


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor) -> float:
    """Relative error of rows spread over the chunk."""
    rows, end = len(q), len(k)
    picked = sorted({0, 1, rows // 2, rows - 1})
    expected = torch.empty(len(picked), *q.shape[1:], device=q.device)
    for at, row in enumerate(picked):
        seen = end - rows + row + 1
        chunk_attention_ref(
            q[row : row + 1], k[:seen], v[:seen], expected[at : at + 1], scale=SCALE
        )
    return error_of(out[picked], expected, 1e-2)


def _cudnn_us(bench: Bench, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> float:
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    backend = SDPBackend.MATH if bench.smoke else SDPBackend.CUDNN_ATTENTION
    with sdpa_kernel(backend):
        return bench.time_us(
            [lambda: scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)]
        )
