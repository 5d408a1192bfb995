"""Skinny matrix products: out[m, n] = sum_k x[m, k] * w[n, k] for a few rows m.

Every weight is read once, in order; 1 to 8 rows of x share each read. M rows, N outputs, K inputs.
"""

import numpy as np
import torch

from ramify.runtime.kernels.cpu.jit import jit, kernel
from ramify.runtime.kernels.cpu.simd import atomic_add, make_tile
from ramify.runtime.kernels.cpu.team import ThreadTeam, barrier

_UNIT = 128  # outputs a thread takes at a time

# Bytes a tile asks for ahead: at 8 rows the arithmetic between two loads is so long that without it
# one thread reads 14 GB/s of 40 (measured, Zen 5).
_tile_1x4 = make_tile(1, 4, 8192)
_tile_2x4 = make_tile(2, 4, 8192)
_tile_4x4 = make_tile(4, 4, 8192)
_tile_8x2 = make_tile(8, 2, 16384)
_tile_1x1 = make_tile(1, 1)


def linear_ref(x_MK: torch.Tensor, w_NK: torch.Tensor) -> torch.Tensor:
    """[M, N] float32."""
    return x_MK.float() @ w_NK.float().T


@jit
def dot_rows(x, x_at, num_x, w, w_at, num_w, k, out, out_at, out_stride):
    """out[m, n] for num_x rows of x and num_w rows of w, both k long and contiguous."""
    n = 0
    while n + 4 <= num_w:
        w_row = w_at + n * k
        out_column = out_at + n
        m = 0
        while m + 8 <= num_x:
            x_row, out_row = x_at + m * k, out_column + m * out_stride
            for half in range(0, 4, 2):
                w_half = w_row + half * k
                _tile_8x2(x, x_row, k, w, w_half, k, k, out, out_row + half, out_stride)
            m += 8
        if m + 4 <= num_x:
            out_row = out_column + m * out_stride
            _tile_4x4(x, x_at + m * k, k, w, w_row, k, k, out, out_row, out_stride)
            m += 4
        if m + 2 <= num_x:
            out_row = out_column + m * out_stride
            _tile_2x4(x, x_at + m * k, k, w, w_row, k, k, out, out_row, out_stride)
            m += 2
        if m < num_x:
            out_row = out_column + m * out_stride
            _tile_1x4(x, x_at + m * k, k, w, w_row, k, k, out, out_row, out_stride)
        n += 4
    while n < num_w:
        for m in range(num_x):
            out_row = out_at + m * out_stride + n
            _tile_1x1(x, x_at + m * k, k, w, w_at + n * k, k, k, out, out_row, out_stride)
        n += 1


@kernel
def _linear_kernel(thread, arrivals, num_threads, x, w, out, taken, num_x, num_w, k):
    while True:
        start = atomic_add(taken, 0, _UNIT)
        if start >= num_w:
            break
        count = min(_UNIT, num_w - start)
        dot_rows(x, 0, num_x, w, start * k, count, k, out, start, num_w)
    barrier(arrivals, 1, num_threads)


def linear(x_MK: torch.Tensor, w_NK: torch.Tensor, team: ThreadTeam) -> torch.Tensor:
    """[M, N] float32 on the team's threads. x and w: contiguous, both float32 or both bfloat16."""
    num_x, k = x_MK.shape
    num_w = w_NK.shape[0]
    assert w_NK.shape[1] == k and x_MK.dtype == w_NK.dtype, (x_MK.shape, w_NK.shape)
    out = torch.empty((num_x, num_w), dtype=torch.float32)
    taken = np.zeros(1, np.int64)
    x, w = flat_view(x_MK), flat_view(w_NK)
    team.run(_linear_kernel, x, w, out.numpy().reshape(-1), taken, num_x, num_w, k)
    return out


def flat_view(tensor: torch.Tensor) -> np.ndarray:
    """The tensor's memory as one flat array: float32, or uint16 for bfloat16."""
    assert tensor.is_contiguous(), tensor.shape
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    return tensor.numpy().reshape(-1)
