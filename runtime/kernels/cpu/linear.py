"""Matrix products: out[m, n] = sum_k x[m, k] * w[n, k]. M rows, N outputs, K inputs.

For few rows what counts is to read every weight once, in order, ahead of its use; for many, to keep
the multipliers fed from the caches. The sum of each output is made in the same order in all cases.
"""

import numpy as np
import torch

from ramify.runtime.kernels.cpu.intrinsics import atomic_add
from ramify.runtime.kernels.cpu.jit import jit, kernel
from ramify.runtime.kernels.cpu.team import ThreadTeam, barrier
from ramify.runtime.kernels.cpu.tiles import make_tile

ROWS = 128  # rows of x a thread takes at a time: they fit the second-level cache
_COLUMNS = 64  # outputs it takes with them

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
    """out[m, n] for num_x rows of x and num_w rows of w, both k long and contiguous.

    Rows of x are taken 8 at a time and stay in the nearest cache while w passes by; the caller
    keeps num_w * k small enough for w to stay in the next one.
    """
    m = 0
    while m < num_x:
        left = num_x - m
        rows = 8 if left >= 8 else 4 if left >= 4 else 2 if left >= 2 else 1
        x_row, out_row = x_at + m * k, out_at + m * out_stride
        n = 0
        while n + 4 <= num_w:
            w_row, to = w_at + n * k, out_row + n
            if rows == 8:
                _tile_8x2(x, x_row, k, w, w_row, k, k, out, to, out_stride)
                _tile_8x2(x, x_row, k, w, w_row + 2 * k, k, k, out, to + 2, out_stride)
            elif rows == 4:
                _tile_4x4(x, x_row, k, w, w_row, k, k, out, to, out_stride)
            elif rows == 2:
                _tile_2x4(x, x_row, k, w, w_row, k, k, out, to, out_stride)
            else:
                _tile_1x4(x, x_row, k, w, w_row, k, k, out, to, out_stride)
            n += 4
        while n < num_w:
            for row in range(rows):
                x_one, to = x_row + row * k, out_row + row * out_stride + n
                _tile_1x1(x, x_one, k, w, w_at + n * k, k, k, out, to, out_stride)
            n += 1
        m += rows


@kernel
def _linear_kernel(thread, arrivals, num_threads, x, w, out, taken, num_x, num_w, k):
    columns = (num_w + _COLUMNS - 1) // _COLUMNS
    units = columns * ((num_x + ROWS - 1) // ROWS)
    while True:
        unit = atomic_add(taken, 0, 1)
        if unit >= units:
            break
        row, column = unit // columns * ROWS, unit % columns * _COLUMNS
        rows, width = min(ROWS, num_x - row), min(_COLUMNS, num_w - column)
        dot_rows(x, row * k, rows, w, column * k, width, k, out, row * num_w + column, num_w)
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
