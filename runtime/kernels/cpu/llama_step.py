"""The forward pass of a few rows of a Llama-family model as one compiled function.

Every thread of a team runs `_step`. Between barriers the threads share out units of work (heads,
attention splits, blocks of outputs) by an atomic counter, so a thread that is held up takes fewer.
Per layer: (1) norm, qkv, rope, K and V to their slots; (2) attention splits; (3) merge, output
projection; (4) norm, gate and up, SiLU; (5) down projection. K and V of all rows are stored before
the barrier that ends (1): a row may read what another row of this step wrote.

R rows, C hidden size, H query heads, K key-value heads, D head size, F feed-forward size, P number
of attention splits. The reference is `LlamaModel`'s torch path.
"""

from typing import NamedTuple

import numpy as np

from ramify.runtime.kernels.cpu.attention import SPLIT, attend_split, merge_splits
from ramify.runtime.kernels.cpu.jit import jit, kernel
from ramify.runtime.kernels.cpu.linear import dot_rows
from ramify.runtime.kernels.cpu.numeric import exp32, get, put
from ramify.runtime.kernels.cpu.simd import atomic_add
from ramify.runtime.kernels.cpu.team import barrier

_BLOCK = 32  # outputs of o, gate, up and down a thread takes at a time
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
PHASES = 5  # work counters per layer


class Shape(NamedTuple):
    """What a compiled step needs to know of the model."""

    num_layers: int
    hidden: int  # C
    num_heads: int  # H
    num_kv_heads: int  # K
    head_dim: int  # D
    wide: int  # F
    window: int  # positions a row sees; larger than any context = all
    pool_layer_stride: int  # elements of one layer of the KV pool


class StepWeights(NamedTuple):
    """`ModelWeights` as flat arrays. `Model` = float32, or uint16 that hold bfloat16. Empty = none.

    Norms and biases are widened to float32 once.
    """

    embed: np.ndarray  # [V * C] model
    attn_norm: np.ndarray  # [L * C] float32
    qkv: np.ndarray  # [L * (H + 2K) * D * C] model
    qkv_bias: np.ndarray  # [L * (H + 2K) * D] float32 or empty
    q_norm: np.ndarray  # [L * D] float32 or empty
    k_norm: np.ndarray  # [L * D] float32 or empty
    o: np.ndarray  # [L * C * H * D] model
    o_bias: np.ndarray  # [L * C] float32 or empty
    mlp_norm: np.ndarray  # [L * C] float32
    gate_up: np.ndarray  # [L * 2F * C] model
    gate_up_bias: np.ndarray  # [L * 2F] float32 or empty
    down: np.ndarray  # [L * C * F] model
    down_bias: np.ndarray  # [L * C] float32 or empty
    final_norm: np.ndarray  # [C] float32
    cos: np.ndarray  # [positions * D / 2] float32
    sin: np.ndarray  # the same


class StepRows(NamedTuple):
    """The rows of one step."""

    input_ids: np.ndarray  # [R] int64
    positions: np.ndarray  # [R] int64
    out_loc: np.ndarray  # [R] int32: slot of K and V, -1 = not stored
    kv_start: np.ndarray  # [R] int64: where the row's request begins in slot_ids
    slot_ids: np.ndarray  # [indices + GATHER_AHEAD] int32: slots by position, then padding
    split_start: np.ndarray  # [R + 1] int64: where each row's splits begin
    logit_rows: np.ndarray  # [num_logits] int64


class StepScratch(NamedTuple):
    """Memory of a step, reused by the next. T threads."""

    x: np.ndarray  # [R * C] float32: residual stream
    normed: np.ndarray  # [T * R * max(C, H * D)] model: input of a product, per thread
    local: np.ndarray  # [T * local_size] float32: outputs of a unit, scores, per thread
    q: np.ndarray  # [(R * H + 4) * D] model
    act: np.ndarray  # [R * F] model
    partial: np.ndarray  # [P * H * D] float32
    peaks: np.ndarray  # [P * H] float32
    sums: np.ndarray  # [P * H] float32


@kernel
def step(
    thread, arrivals, num_threads, shape, eps, weights, k_pool, v_pool, rows, scratch, taken, hidden
):
    """Run the rows; hidden [num_logits * C] model receives the final norm of logit_rows.

    k_pool, v_pool: the KV pool, flat, model dtype. taken: [L * PHASES] int64, zeros.
    """
    normed, local = scratch.normed[thread], scratch.local[thread]
    num_rows, c, x = rows.input_ids.size, shape.hidden, scratch.x
    for row in range(thread, num_rows, num_threads):
        start = rows.input_ids[row] * c
        for i in range(c):
            put(x, row * c + i, get(weights.embed, start + i))
    meeting = 1
    barrier(arrivals, meeting, num_threads)
    for layer in range(shape.num_layers):
        work = layer * PHASES
        _norm_rows(x, num_rows, c, weights.attn_norm, layer, eps, normed)
        _qkv(shape, eps, weights, k_pool, v_pool, rows, scratch.q, normed, local, taken, layer)
        barrier(arrivals, meeting + 1, num_threads)
        _attention(shape, k_pool, v_pool, rows, scratch, local, taken, layer)
        barrier(arrivals, meeting + 2, num_threads)
        _merge(shape, rows, scratch, normed, local)
        width = shape.num_heads * shape.head_dim
        o, o_bias = weights.o, weights.o_bias
        _add_product(normed, width, num_rows, o, o_bias, layer, x, c, local, taken, work + 2)
        barrier(arrivals, meeting + 3, num_threads)
        _norm_rows(x, num_rows, c, weights.mlp_norm, layer, eps, normed)
        _gate_up(shape, weights, num_rows, scratch.act, normed, local, taken, layer)
        barrier(arrivals, meeting + 4, num_threads)
        width = shape.wide
        down, down_bias = weights.down, weights.down_bias
        _add_product(
            scratch.act, width, num_rows, down, down_bias, layer, x, c, local, taken, work + 4
        )
        meeting += PHASES
        barrier(arrivals, meeting, num_threads)
    for i in range(thread, rows.logit_rows.size, num_threads):
        _norm_row(x, rows.logit_rows[i] * c, weights.final_norm, 0, c, eps, hidden, i * c)
    barrier(arrivals, meeting + 1, num_threads)


def local_size(shape: Shape, num_rows: int) -> int:
    """Elements of `StepScratch.local` per thread."""
    group = shape.num_heads // shape.num_kv_heads
    return max(num_rows * max(shape.head_dim, 2 * _BLOCK), (group + 3) * (SPLIT + 4))


@jit
def _norm_row(x, x_at, weight, weight_at, size, eps, out, out_at):
    """RMSNorm of one row: float32 in, the array's kind out."""
    total = _ZERO
    for i in range(size):
        value = get(x, x_at + i)
        total += value * value
    scale = _ONE / np.sqrt(total / np.float32(size) + eps)
    for i in range(size):
        put(out, out_at + i, get(x, x_at + i) * scale * get(weight, weight_at + i))


@jit
def _norm_rows(x, num_rows, c, weight, layer, eps, out):
    for row in range(num_rows):
        _norm_row(x, row * c, weight, layer * c, c, eps, out, row * c)


@jit
def _qkv(shape, eps, weights, k_pool, v_pool, rows, q, normed, local, taken, layer):
    """Heads of q, k and v, one unit each: product, bias, norm, rope, then to q or the pool."""
    num_rows, c, dim = rows.input_ids.size, shape.hidden, shape.head_dim
    num_heads, num_kv_heads = shape.num_heads, shape.num_kv_heads
    all_heads = num_heads + 2 * num_kv_heads
    while True:
        unit = atomic_add(taken, layer * PHASES, 1)
        if unit >= all_heads:
            return
        first = (layer * all_heads + unit) * dim
        dot_rows(normed, 0, num_rows, weights.qkv, first * c, dim, c, local, 0, dim)
        is_v = unit >= num_heads + num_kv_heads
        kv_head = (unit - num_heads) % num_kv_heads
        for row in range(num_rows):
            at = row * dim
            if weights.qkv_bias.size:
                for d in range(dim):
                    put(local, at + d, get(local, at + d) + get(weights.qkv_bias, first + d))
            if not is_v:
                if weights.q_norm.size:
                    head_norm = weights.q_norm if unit < num_heads else weights.k_norm
                    _norm_row(local, at, head_norm, layer * dim, dim, eps, local, at)
                _rope(local, at, dim, weights.cos, weights.sin, rows.positions[row])
            if unit < num_heads:
                for d in range(dim):
                    put(q, (row * num_heads + unit) * dim + d, get(local, at + d))
                continue
            slot = np.int64(rows.out_loc[row])
            if slot >= 0:
                to = layer * shape.pool_layer_stride + (slot * num_kv_heads + kv_head) * dim
                pool = v_pool if is_v else k_pool
                for d in range(dim):
                    put(pool, to + d, get(local, at + d))


@jit
def _rope(head, at, dim, cos, sin, position):
    half = dim // 2
    angle = position * half
    for d in range(half):
        first, second = get(head, at + d), get(head, at + half + d)
        c, s = get(cos, angle + d), get(sin, angle + d)
        put(head, at + d, first * c - second * s)
        put(head, at + half + d, second * c + first * s)


@jit
def _attention(shape, k_pool, v_pool, rows, scratch, local, taken, layer):
    """Units of one split and one key-value head; see attention.py."""
    dim, num_heads, num_kv_heads = shape.head_dim, shape.num_heads, shape.num_kv_heads
    group = num_heads // num_kv_heads
    num_rows = rows.positions.size
    scale = _ONE / np.sqrt(np.float32(dim))
    num_units = rows.split_start[num_rows] * num_kv_heads
    row = 0
    while True:
        unit = atomic_add(taken, layer * PHASES + 1, 1)
        if unit >= num_units:
            return
        split, kv_head = unit // num_kv_heads, unit % num_kv_heads
        while rows.split_start[row + 1] <= split:  # units are handed out in order
            row += 1
        position = rows.positions[row]
        seen = max(0, position + 1 - shape.window)
        begin = (seen // SPLIT + split - rows.split_start[row]) * SPLIT
        end = min(begin + SPLIT, position + 1)
        begin = max(begin, seen)
        stat = split * num_heads + kv_head * group
        attend_split(
            scratch.q, (row * num_heads + kv_head * group) * dim, group, dim, scale,
            k_pool, v_pool, layer * shape.pool_layer_stride + kv_head * dim, num_kv_heads * dim,
            rows.slot_ids, rows.kv_start[row] + begin, end - begin, local, 0,
            scratch.partial, stat * dim, scratch.peaks, scratch.sums, stat,
        )  # fmt: skip


@jit
def _merge(shape, rows, scratch, out, local):
    """Attention outputs of all rows, [R, H * D]; every thread makes its own copy."""
    dim, num_heads = shape.head_dim, shape.num_heads
    for row in range(rows.positions.size):
        first = rows.split_start[row]
        count = rows.split_start[row + 1] - first
        for head in range(num_heads):
            merge_splits(
                scratch.partial, scratch.peaks, scratch.sums, first, count, num_heads, head, dim,
                local, 0, out, (row * num_heads + head) * dim,
            )  # fmt: skip


@jit
def _add_product(a, width, num_rows, w, bias, layer, x, c, local, taken, work):
    """x[R, C] += a[R, width] @ w[layer].T + bias, in units of some columns of x."""
    while True:
        start = atomic_add(taken, work, _BLOCK)
        if start >= c:
            return
        count = min(_BLOCK, c - start)
        first = layer * c + start
        dot_rows(a, 0, num_rows, w, first * width, count, width, local, 0, _BLOCK)
        for row in range(num_rows):
            for i in range(count):
                value = get(local, row * _BLOCK + i)
                if bias.size:
                    value += get(bias, first + i)
                to = row * c + start + i
                put(x, to, get(x, to) + value)


@jit
def _gate_up(shape, weights, num_rows, act, normed, local, taken, layer):
    """act[R, F] = silu(gate) * up, in units of some columns of both."""
    c, wide = shape.hidden, shape.wide
    w, bias = weights.gate_up, weights.gate_up_bias
    up_at = num_rows * _BLOCK
    while True:
        start = atomic_add(taken, layer * PHASES + 3, _BLOCK)
        if start >= wide:
            return
        count = min(_BLOCK, wide - start)
        gate_row = layer * 2 * wide + start
        up_row = gate_row + wide
        dot_rows(normed, 0, num_rows, w, gate_row * c, count, c, local, 0, _BLOCK)
        dot_rows(normed, 0, num_rows, w, up_row * c, count, c, local, up_at, _BLOCK)
        for row in range(num_rows):
            for i in range(count):
                at = row * _BLOCK + i
                gate, up = get(local, at), get(local, up_at + at)
                if bias.size:
                    gate += get(bias, gate_row + i)
                    up += get(bias, up_row + i)
                put(act, row * wide + start + i, gate / (_ONE + exp32(-gate)) * up)
