"""Matrix product for few rows, bound by reading the weight once: y = x w^T (+ bias).

M rows (at most 64), N outputs, K inputs; w is [N, K], as in torch's linear. One row runs as a
matrix-vector product without tensor cores. Where N alone gives too few programs, K is split: the
parts go to float32 memory, and the program that finishes a tile last adds them up in order, so the
result does not depend on timing. With an activation w holds gates and what they gate, [2 N, K], and
y = act(x w_gate^T) * x w_up^T.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ramify.runtime.kernels.dependent_launch import (
    dependent_launch,
    let_next_begin,
    wait_for_previous,
)
from ramify.runtime.kernels.gated import ACTIVATIONS, activate, gated_ref

MAX_ROWS = 64
_MAX_TILES = 1 << 16


class LinearTiles(NamedTuple):
    """Tile shape: outputs and inputs of a step, parts K is cut into, warps, pipeline stages."""

    block_n: int
    block_k: int
    split_k: int
    num_warps: int
    num_stages: int


def choose_linear_tiles(
    num_rows: int, outputs: int, inputs: int, *, gated: bool = False
) -> LinearTiles:
    """The best measured on an H200 in bf16 (benchmarks/gpu/results), within a few percent."""
    if num_rows == 1:
        return _choose_vector_tiles(outputs, inputs, gated)
    if gated:
        return LinearTiles(64, 64, 1, 4, 4)
    if num_rows > 32 and outputs > 16384:
        return LinearTiles(64, 64, 1, 4, 3) if outputs > 65536 else LinearTiles(128, 64, 1, 8, 6)
    split = 1 if outputs > 4096 or inputs <= 1024 else 4 if outputs <= 2048 else 2
    while split > 1 and inputs % (128 * split):
        split //= 2
    if split == 4 and num_rows <= 32:
        return LinearTiles(32, 128, split, 4, 5)
    is_long = num_rows > 32 and inputs // split >= 4096
    return LinearTiles(64, 128, split, 4, 6 if is_long else 4)


def _choose_vector_tiles(outputs: int, inputs: int, gated: bool) -> LinearTiles:
    if gated and inputs <= 1024:
        return LinearTiles(8, 512, 1, 4, 3)
    if not gated:
        if outputs <= 2048 or (outputs > 65536 and inputs > 2048):
            return LinearTiles(2, 2048, 1, 8, 3)
        if 4096 < outputs <= 65536:
            return LinearTiles(2, 1024, 1, 4, 4)
    return LinearTiles(4, 1024, 1, 4, 3)


def linear_small_ref(x_MK, w_NK, y_MN, *, bias_N=None, activation=None, tiles=None) -> None:
    """The same in torch."""
    y = x_MK.float() @ w_NK.float().t()
    y = y if bias_N is None else y + bias_N.float()
    if activation is None:
        y_MN.copy_(y)
    else:
        gated_ref(y, y_MN, activation=activation)


@triton.jit
def _gemv_kernel(
    x_ptr,
    w_ptr,
    bias_ptr,
    y_ptr,
    N,
    K,
    stride_w,
    HAS_BIAS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """With an ACTIVATION every other row of a program is a gate, the next one what it gates."""
    let_next_begin(DEPENDENT)
    i = tl.arange(0, BLOCK_N)
    if ACTIVATION is not None:
        n = tl.program_id(0) * (BLOCK_N // 2) + i // 2
        at_n = n + i % 2 * N
    else:
        n = tl.program_id(0) * BLOCK_N + i
        at_n = n
    live_n = n < N
    row = w_ptr + at_n.to(tl.int64)[:, None] * stride_w
    # The weight's first part is under way before x is there.
    k = tl.arange(0, BLOCK_K)
    live = live_n[:, None] & (k < K)[None, :]
    w = tl.load(row + k[None, :], mask=live, other=0.0, eviction_policy="evict_first")
    wait_for_previous(DEPENDENT)
    x = tl.load(x_ptr + k, mask=k < K, other=0.0).to(tl.float32)
    acc = w.to(tl.float32) * x[None, :]
    for k0 in range(BLOCK_K, K, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        live = live_n[:, None] & (k < K)[None, :]
        w = tl.load(row + k[None, :], mask=live, other=0.0, eviction_policy="evict_first")
        x = tl.load(x_ptr + k, mask=k < K, other=0.0).to(tl.float32)
        acc += w.to(tl.float32) * x[None, :]
    y = tl.sum(acc, 1)
    if HAS_BIAS:
        y += tl.load(bias_ptr + at_n, mask=live_n, other=0.0).to(tl.float32)
    if ACTIVATION is not None:
        gate, up = tl.split(tl.reshape(y, [BLOCK_N // 2, 2]))
        y = activate(gate, ACTIVATION) * up
        n = tl.program_id(0) * (BLOCK_N // 2) + tl.arange(0, BLOCK_N // 2)
        live_n = n < N
    tl.store(y_ptr + n, y.to(y_ptr.dtype.element_ty), mask=live_n)


@triton.jit
def _linear_small_kernel(
    x_ptr,
    w_ptr,
    bias_ptr,
    y_ptr,
    parts_ptr,
    arrived_ptr,
    M,
    N,
    K,
    stride_x,
    stride_w,
    stride_y,
    HAS_BIAS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SPLIT_K: tl.constexpr,
    PRECISION: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    let_next_begin(DEPENDENT)
    tile, part = tl.program_id(0), tl.program_id(1)
    n = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    m = tl.arange(0, BLOCK_M)
    live_n, live_m = n < N, m < M
    span = tl.cdiv(tl.cdiv(K, SPLIT_K), BLOCK_K) * BLOCK_K
    acc = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    acc_up = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    row_w = w_ptr + n.to(tl.int64)[:, None] * stride_w
    row_up = w_ptr + (n + N).to(tl.int64)[:, None] * stride_w
    row_x = x_ptr + m[None, :] * stride_x
    wait_for_previous(DEPENDENT)
    for k0 in range(part * span, min(K, (part + 1) * span), BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        live_w = live_n[:, None] & (k < K)[None, :]
        w = tl.load(row_w + k[None, :], mask=live_w, other=0.0, eviction_policy="evict_first")
        x = tl.load(row_x + k[:, None], mask=live_m[None, :] & (k < K)[:, None], other=0.0)
        acc = tl.dot(w, x, acc, input_precision=PRECISION)
        if ACTIVATION is not None:
            up = tl.load(row_up + k[None, :], mask=live_w, other=0.0, eviction_policy="evict_first")
            acc_up = tl.dot(up, x, acc_up, input_precision=PRECISION)
    live = live_n[:, None] & live_m[None, :]
    if SPLIT_K > 1:
        # One part per (tile, part): [BLOCK_N, BLOCK_M] side by side.
        at = tl.arange(0, BLOCK_N)[:, None] * BLOCK_M + m[None, :]
        first = parts_ptr + tile.to(tl.int64) * SPLIT_K * BLOCK_N * BLOCK_M + at
        tl.store(first + part * BLOCK_N * BLOCK_M, acc, mask=live)
        tl.debug_barrier()  # all threads' parts are written before the arrival is counted
        if tl.atomic_add(arrived_ptr + tile, 1, sem="acq_rel") < SPLIT_K - 1:
            return
        tl.debug_barrier()
        tl.store(arrived_ptr + tile, 0)
        acc = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        for i in tl.static_range(SPLIT_K):  # .cg: other SMs wrote these
            at_part = first + i * BLOCK_N * BLOCK_M
            acc += tl.load(at_part, mask=live, other=0.0, cache_modifier=".cg")
    if HAS_BIAS:
        acc += tl.load(bias_ptr + n, mask=live_n, other=0.0).to(tl.float32)[:, None]
    if ACTIVATION is not None:
        if HAS_BIAS:
            acc_up += tl.load(bias_ptr + N + n, mask=live_n, other=0.0).to(tl.float32)[:, None]
        acc = activate(acc, ACTIVATION) * acc_up
    at_y = y_ptr + m[None, :] * stride_y + n[:, None]
    tl.store(at_y, acc.to(y_ptr.dtype.element_ty), mask=live)


@lru_cache(maxsize=64)
def _scratch(size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Room for split parts and the count of those that arrived, shared by one stream's calls."""
    arrived = torch.zeros(_MAX_TILES, dtype=torch.int32, device=device)
    return torch.empty(size, dtype=torch.float32, device=device), arrived


def linear_small(
    x_MK, w_NK, y_MN, *, bias_N=None, activation=None, tiles: LinearTiles | None = None
) -> None:
    """y_MN [M, N] = x_MK [M, K] @ w_NK [N, K]^T + bias_N, for M <= 64; rows may be strided.

    With an `activation` (see `gated`) w_NK and bias_N have 2 N rows, and what `gated` makes of
    their product is written. Calls with split K share scratch memory: run them on one stream.
    """
    rows, inputs = x_MK.shape
    outputs = y_MN.shape[1]
    _check(x_MK, w_NK, y_MN, activation)
    if not rows:
        return
    tiles = tiles or choose_linear_tiles(rows, outputs, inputs, gated=activation is not None)
    assert activation is None or tiles.split_k == 1, tiles
    options = {
        "HAS_BIAS": bias_N is not None,
        "ACTIVATION": activation,
        "BLOCK_N": tiles.block_n,
        "BLOCK_K": tiles.block_k,
        "num_warps": tiles.num_warps,
        "num_stages": tiles.num_stages,
        **dependent_launch(x_MK.device),
    }
    bias = x_MK if bias_N is None else bias_N
    if rows == 1 and tiles.block_n < 16:
        at_once = tiles.block_n if activation is None else tiles.block_n // 2
        grid = (triton.cdiv(outputs, at_once),)
        _gemv_kernel[grid](x_MK, w_NK, bias, y_MN, outputs, inputs, w_NK.stride(0), **options)
        return
    num_tiles = triton.cdiv(outputs, tiles.block_n)
    block_m = max(16, triton.next_power_of_2(rows))
    parts, arrived = x_MK, x_MK
    if tiles.split_k > 1:
        assert num_tiles <= _MAX_TILES, (num_tiles, _MAX_TILES)
        size = num_tiles * tiles.split_k * tiles.block_n * block_m
        parts, arrived = _scratch(triton.next_power_of_2(size), x_MK.device)
    _linear_small_kernel[(num_tiles, tiles.split_k)](
        x_MK,
        w_NK,
        bias,
        y_MN,
        parts,
        arrived,
        rows,
        outputs,
        inputs,
        x_MK.stride(0),
        w_NK.stride(0),
        y_MN.stride(0),
        BLOCK_M=block_m,
        SPLIT_K=tiles.split_k,
        PRECISION="ieee" if x_MK.dtype == torch.float32 else "tf32",
        **options,
    )


def _check(x_MK, w_NK, y_MN, activation) -> None:
    rows, inputs = x_MK.shape
    if rows > MAX_ROWS:
        raise ValueError(f"{rows} rows: at most {MAX_ROWS}; use torch's linear above")
    if activation is not None and activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r}: must be one of {', '.join(ACTIVATIONS)}")
    outputs = w_NK.shape[0] // (1 if activation is None else 2)
    if w_NK.shape[1] != inputs or y_MN.shape != (rows, outputs):
        raise ValueError(f"x {tuple(x_MK.shape)}, w {tuple(w_NK.shape)}, y {tuple(y_MN.shape)}")
    if not (x_MK.stride(1) == w_NK.stride(1) == y_MN.stride(1) == 1):
        raise ValueError("x, w and y must be contiguous along their last dimension")
