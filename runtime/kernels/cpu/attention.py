"""Attention of single rows over KV slots, split by position, merged by log-sum-exp.

A unit is one row, one key-value head and one split of SPLIT positions; splits begin at multiples of
SPLIT, so a row's arithmetic depends on its own length only. A unit leaves, per query head of the
group, the maximum score, the sum of exp(score - maximum) and the unnormalised output. D head size,
G query heads per key-value head. The torch reference is layers/attention.py.
"""

import numba
import numpy as np

from ramify.runtime.kernels.cpu.jit import jit
from ramify.runtime.kernels.cpu.numeric import exp32, get, put
from ramify.runtime.kernels.cpu.tiles import make_gather_tile, make_weighted_sum

SPLIT = 256  # positions per unit
_ROWS_AT_ONCE = 4  # most query heads a tile takes
_MINUS_INFINITY = np.float32(-np.inf)
_ZERO = np.float32(0.0)

_scores_1 = make_gather_tile(1, 4)
_scores_2 = make_gather_tile(2, 4)
_scores_4 = make_gather_tile(4, 4)
_values_1 = make_weighted_sum(1, 4)
_values_2 = make_weighted_sum(2, 4)
_values_4 = make_weighted_sum(4, 4)
_tail_1 = make_weighted_sum(1, 1)
_tail_2 = make_weighted_sum(2, 1)
_tail_4 = make_weighted_sum(4, 1)


@jit
def attend_split(
    q, q_at, group, dim, scale, k_pool, v_pool, pool_at, slot_stride, slots, slots_at, count,
    scores, scores_at, out, out_at, peaks, sums, stats_at,
):  # fmt: skip
    """One unit: `group` query rows from q_at, `count` positions whose slots begin at slots_at.

    scores: scratch of [G + 3, SPLIT + 4] float32 from scores_at. Writes out [G, D] from out_at and
    peaks, sums [G] from stats_at. Query rows are read up to the next multiple of 4.
    """
    stride = SPLIT + 4
    k, v, step = k_pool, v_pool, slot_stride
    for head in range(0, group, _ROWS_AT_ONCE):
        left = group - head
        q_row, score_row = q_at + head * dim, scores_at + head * stride
        for i in range(0, count, 4):
            at, to = slots_at + i, score_row + i
            if left >= 3:
                _scores_4(q, q_row, dim, k, pool_at, step, slots, at, dim, v, scores, to, stride)
            elif left == 2:
                _scores_2(q, q_row, dim, k, pool_at, step, slots, at, dim, v, scores, to, stride)
            else:
                _scores_1(q, q_row, dim, k, pool_at, step, slots, at, dim, v, scores, to, stride)
    for head in range(group):
        _softmax_row(scores, scores_at + head * stride, count, scale, peaks, sums, stats_at + head)
    for head in range(0, group, _ROWS_AT_ONCE):
        left = group - head
        p_at, to = scores_at + head * stride, out_at + head * dim
        if left >= 4:
            _weigh_4(scores, p_at, stride, count, v, pool_at, step, slots, slots_at, dim, out, to)
        elif left == 3:
            _weigh_3(scores, p_at, stride, count, v, pool_at, step, slots, slots_at, dim, out, to)
        elif left == 2:
            _weigh_2(scores, p_at, stride, count, v, pool_at, step, slots, slots_at, dim, out, to)
        else:
            _weigh_1(scores, p_at, stride, count, v, pool_at, step, slots, slots_at, dim, out, to)


@numba.njit(fastmath=True)
def _largest(scores, at, count):
    """Any number where one is NaN: exp of NaN less anything is NaN, which is how it is found."""
    peak = _MINUS_INFINITY
    for i in range(count):
        peak = max(peak, get(scores, at + i))
    return peak


@jit
def _softmax_row(scores, at, count, scale, peaks, sums, stat):
    """scores -> exp(score * scale - peak) in place, with peak and sum to the side."""
    peak = _largest(scores, at, count) * scale
    total = _ZERO
    for i in range(count):
        weight = exp32(get(scores, at + i) * scale - peak)
        put(scores, at + i, weight)
        total += weight
    peaks[stat] = peak
    sums[stat] = total


def _make_weigh(rows):
    """out[m, d] = sum_i p[m, i] v[slots[i], d] for a fixed number of rows m, any width `dim`."""
    block, tail = make_weighted_sum(rows, 4), make_weighted_sum(rows, 1)

    @jit
    def weigh(p, p_at, stride, count, v, v_at, v_stride, slots, slots_at, dim, out, to):
        d = 0
        while d + 64 <= dim:
            v_col, col = v_at + d, to + d
            block(p, p_at, stride, count, v, v_col, v_stride, slots, slots_at, 64, out, col, dim)
            d += 64
        while d < dim:
            v_col, col, width = v_at + d, to + d, min(dim - d, 16)
            tail(p, p_at, stride, count, v, v_col, v_stride, slots, slots_at, width, out, col, dim)
            d += 16

    return weigh


_weigh_1, _weigh_2, _weigh_3, _weigh_4 = (_make_weigh(rows) for rows in (1, 2, 3, 4))


@jit
def merge_splits(
    partial, peaks, sums, first, num_splits, num_heads, head, dim, scratch, scratch_at, out, out_at
):
    """Join the splits of one head of one row: out[D] in model dtype.

    partial: [splits, H, D], peaks and sums: [splits, H] float32; the row's splits are
    first .. first + num_splits. scratch: [D] float32 from scratch_at.
    """
    peak = _MINUS_INFINITY
    for split in range(first, first + num_splits):
        peak = max(peak, peaks[split * num_heads + head])
    total = _ZERO
    for d in range(dim):
        put(scratch, scratch_at + d, _ZERO)
    for split in range(first, first + num_splits):
        stat = split * num_heads + head
        weight = exp32(peaks[stat] - peak)
        total += weight * sums[stat]
        for d in range(dim):
            value = weight * get(partial, stat * dim + d)
            put(scratch, scratch_at + d, get(scratch, scratch_at + d) + value)
    for d in range(dim):
        put(out, out_at + d, get(scratch, scratch_at + d) / total)
