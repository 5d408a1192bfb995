"""The forward pass of a Llama-family model on the CPU as one compiled function.

Every thread of a team runs `step`. Between barriers the threads share out units of work (heads,
attention splits, blocks of outputs) by an atomic counter, so a thread that is held up takes fewer.
Per layer: (1) norm, qkv, rope, K and V to their slots; (2) attention splits; (3) merge, output
projection; (4) norm, gate and up, SiLU; (5) down projection. K and V of all rows are stored before
the barrier that ends (1): a row may read what another row of this step wrote.

R rows, C hidden size, H query heads, K key-value heads, D head size, F feed-forward size, P number
of attention splits. A row's arithmetic is the same
whatever rows are beside it, from a single token to a long prefill: equal bits alone, batched and
chunked. The reference is `LlamaModel`'s torch path.
"""

from typing import NamedTuple

import numpy as np

from ramify.runtime.kernels.cpu.attention import SPLIT, attend_split, merge_splits
from ramify.runtime.kernels.cpu.intrinsics import atomic_add, load
from ramify.runtime.kernels.cpu.jit import jit, kernel
from ramify.runtime.kernels.cpu.linear import ROWS, dot_rows
from ramify.runtime.kernels.cpu.numeric import exp32, get, put
from ramify.runtime.kernels.cpu.team import barrier

_BLOCK = 32  # outputs of o, gate, up and down a thread takes at a time
_ONE = np.float32(1.0)
_ZERO = np.float32(0.0)
PHASES = 5  # work counters per layer
PRIVATE_ROWS = 16  # up to here every thread norms all rows for itself: cheaper than a barrier


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
    private: np.ndarray  # [T, PRIVATE_ROWS * max(C, H * D)] model: input of a product, per thread
    shared: np.ndarray  # [R * max(C, H * D)] model: the same where there are more rows
    local: np.ndarray  # [T, local_size] float32: outputs of a unit, scores, per thread
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
    num_rows, c, x, local = rows.input_ids.size, shape.hidden, scratch.x, scratch.local[thread]
    is_shared = num_rows > PRIVATE_ROWS
    a = scratch.shared if is_shared else scratch.private[thread]
    first, every = (thread, num_threads) if is_shared else (0, 1)  # rows this thread norms
    attn_width = shape.num_heads * shape.head_dim
    for row in range(thread, num_rows, num_threads):
        start = rows.input_ids[row] * c
        for i in range(c):
            put(x, row * c + i, get(weights.embed, start + i))
    meeting = barrier(arrivals, 1, num_threads)
    for layer in range(shape.num_layers):
        work = layer * PHASES
        for row in range(first, num_rows, every):
            _norm_row(x, row * c, weights.attn_norm, layer * c, c, eps, a, row * c)
        if is_shared:
            meeting = barrier(arrivals, meeting, num_threads)
        _qkv(shape, eps, weights, k_pool, v_pool, rows, scratch.q, a, local, taken, layer)
        meeting = barrier(arrivals, meeting, num_threads)
        if is_shared:
            splits = scratch.peaks.size // shape.num_heads // num_threads
            first_split = thread * splits
            _attend_rows(shape, k_pool, v_pool, rows, scratch, local, a, taken, layer, first_split)
            meeting = barrier(arrivals, meeting, num_threads)
        else:
            _attend_splits(shape, k_pool, v_pool, rows, scratch, local, taken, layer)
            meeting = barrier(arrivals, meeting, num_threads)
            _merge(shape, rows, scratch, a, local)
        o, bias = weights.o, weights.o_bias
        _add_product(a, attn_width, num_rows, o, bias, layer, x, c, local, taken, work + 2)
        meeting = barrier(arrivals, meeting, num_threads)
        for row in range(first, num_rows, every):
            _norm_row(x, row * c, weights.mlp_norm, layer * c, c, eps, a, row * c)
        if is_shared:
            meeting = barrier(arrivals, meeting, num_threads)
        _gate_up(shape, weights, num_rows, scratch.act, a, local, taken, layer)
        meeting = barrier(arrivals, meeting, num_threads)
        down, bias, act = weights.down, weights.down_bias, scratch.act
        _add_product(act, shape.wide, num_rows, down, bias, layer, x, c, local, taken, work + 4)
        meeting = barrier(arrivals, meeting, num_threads)
    for i in range(thread, rows.logit_rows.size, num_threads):
        _norm_row(x, rows.logit_rows[i] * c, weights.final_norm, 0, c, eps, hidden, i * c)
    barrier(arrivals, meeting, num_threads)


def local_size(shape: Shape) -> int:
    """Elements of `StepScratch.local` per thread."""
    group = shape.num_heads // shape.num_kv_heads
    return max(ROWS * max(shape.head_dim, 2 * _BLOCK), (group + 3) * (SPLIT + 4))


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
def _qkv(shape, eps, weights, k_pool, v_pool, rows, q, a, local, taken, layer):
    """Some rows of one head of q, k or v: product, bias, norm, rope; to q or its slots."""
    num_rows, c, dim = rows.input_ids.size, shape.hidden, shape.head_dim
    num_heads, num_kv_heads = shape.num_heads, shape.num_kv_heads
    all_heads = num_heads + 2 * num_kv_heads
    units = all_heads * ((num_rows + ROWS - 1) // ROWS)
    while True:
        unit = atomic_add(taken, layer * PHASES, 1)
        if unit >= units:
            return
        start, head = unit // all_heads * ROWS, unit % all_heads
        count = min(ROWS, num_rows - start)
        first = (layer * all_heads + head) * dim
        dot_rows(a, start * c, count, weights.qkv, first * c, dim, c, local, 0, dim)
        if weights.qkv_bias.size:
            _add_bias(local, count, dim, weights.qkv_bias, first)
        if head < num_heads + num_kv_heads:
            if weights.q_norm.size:
                head_norm = weights.q_norm if head < num_heads else weights.k_norm
                for i in range(count):
                    _norm_row(local, i * dim, head_norm, layer * dim, dim, eps, local, i * dim)
            _rope(local, count, dim, weights.cos, weights.sin, rows.positions, start)
        if head < num_heads:
            _place_q(local, count, dim, q, num_heads, head, start)
            continue
        kv_head = (head - num_heads) % num_kv_heads
        pool = k_pool if head < num_heads + num_kv_heads else v_pool
        pool_at = layer * shape.pool_layer_stride + kv_head * dim
        _place_kv(local, count, dim, pool, pool_at, num_kv_heads * dim, rows.out_loc, start)


@jit
def _add_bias(local, count, dim, bias, bias_at):
    for i in range(count):
        for d in range(dim):
            put(local, i * dim + d, get(local, i * dim + d) + get(bias, bias_at + d))


@jit
def _rope(heads, count, dim, cos, sin, positions, start):
    """Rotate `count` heads, laid end to end, by the positions of the rows from `start` on."""
    half = dim // 2
    for i in range(count):
        at, angle = i * dim, load(positions, start + i) * half
        for d in range(half):
            first, second = get(heads, at + d), get(heads, at + half + d)
            c, s = get(cos, angle + d), get(sin, angle + d)
            put(heads, at + d, first * c - second * s)
            put(heads, at + half + d, second * c + first * s)


@jit
def _place_q(local, count, dim, q, num_heads, head, start):
    for i in range(count):
        to = ((start + i) * num_heads + head) * dim
        for d in range(dim):
            put(q, to + d, get(local, i * dim + d))


@jit
def _place_kv(local, count, dim, pool, pool_at, slot_stride, out_loc, start):
    for i in range(count):
        slot = np.int64(load(out_loc, start + i))
        if slot >= 0:
            to = pool_at + slot * slot_stride
            for d in range(dim):
                put(pool, to + d, get(local, i * dim + d))


@jit
def _attend(shape, k_pool, v_pool, rows, scratch, local, layer, row, kv_head, split, place):
    """The `split`-th split of a row, one key-value head, into place `place` of partial."""
    dim, num_heads, num_kv_heads = shape.head_dim, shape.num_heads, shape.num_kv_heads
    group = num_heads // num_kv_heads
    position = rows.positions[row]
    seen = max(0, position + 1 - shape.window)
    begin = (seen // SPLIT + split) * SPLIT
    end = min(begin + SPLIT, position + 1)
    begin = max(begin, seen)
    stat = place * num_heads + kv_head * group
    attend_split(
        scratch.q, (row * num_heads + kv_head * group) * dim, group, dim,
        _ONE / np.sqrt(np.float32(dim)),
        k_pool, v_pool, layer * shape.pool_layer_stride + kv_head * dim, num_kv_heads * dim,
        rows.slot_ids, rows.kv_start[row] + begin, end - begin, local, 0,
        scratch.partial, stat * dim, scratch.peaks, scratch.sums, stat,
    )  # fmt: skip


@jit
def _attend_splits(shape, k_pool, v_pool, rows, scratch, local, taken, layer):
    """Few rows: one split of one key-value head at a time; `_merge` joins them later."""
    num_rows, num_kv_heads = rows.positions.size, shape.num_kv_heads
    units = rows.split_start[num_rows] * num_kv_heads
    row = 0
    while True:
        unit = atomic_add(taken, layer * PHASES + 1, 1)
        if unit >= units:
            return
        place, kv_head = unit // num_kv_heads, unit % num_kv_heads
        while rows.split_start[row + 1] <= place:  # units are handed out in order
            row += 1
        split = place - rows.split_start[row]
        _attend(shape, k_pool, v_pool, rows, scratch, local, layer, row, kv_head, split, place)


@jit
def _merge(shape, rows, scratch, out, local):
    """Attention outputs of all rows, [R, H * D]; every thread makes its own copy."""
    for row in range(rows.positions.size):
        first = rows.split_start[row]
        count = rows.split_start[row + 1] - first
        _merge_heads(shape, scratch, row, first, count, 0, shape.num_heads, out, local)


@jit
def _attend_rows(shape, k_pool, v_pool, rows, scratch, local, out, taken, layer, first):
    """Many rows: all splits of one key-value head of a row at a time, merged at once.

    `first` is this thread's first place in partial. Same arithmetic as with few rows.
    """
    num_rows, num_kv_heads = rows.positions.size, shape.num_kv_heads
    group = shape.num_heads // num_kv_heads
    while True:
        unit = atomic_add(taken, layer * PHASES + 1, 1)
        if unit >= num_rows * num_kv_heads:
            return
        kv_head, row = unit // num_rows, unit % num_rows
        count = rows.split_start[row + 1] - rows.split_start[row]
        for i in range(count):
            _attend(shape, k_pool, v_pool, rows, scratch, local, layer, row, kv_head, i, first + i)
        head = kv_head * group
        _merge_heads(shape, scratch, row, first, count, head, head + group, out, local)


@jit
def _merge_heads(shape, scratch, row, first, count, head, end_head, out, local):
    dim, num_heads = shape.head_dim, shape.num_heads
    for h in range(head, end_head):
        merge_splits(
            scratch.partial, scratch.peaks, scratch.sums, first, count, num_heads, h, dim,
            local, 0, out, (row * num_heads + h) * dim,
        )  # fmt: skip


@jit
def _add_product(a, width, num_rows, w, bias, layer, x, c, local, taken, work):
    """x[R, C] += a[R, width] @ w[layer].T + bias, some rows and columns at a time."""
    columns = (c + _BLOCK - 1) // _BLOCK
    units = columns * ((num_rows + ROWS - 1) // ROWS)
    while True:
        unit = atomic_add(taken, work, 1)
        if unit >= units:
            return
        row, start = unit // columns * ROWS, unit % columns * _BLOCK
        rows, count = min(ROWS, num_rows - row), min(_BLOCK, c - start)
        first = layer * c + start
        dot_rows(a, row * width, rows, w, first * width, count, width, local, 0, _BLOCK)
        for i in range(rows):
            to = (row + i) * c + start
            for j in range(count):
                value = get(local, i * _BLOCK + j)
                if bias.size:
                    value += get(bias, first + j)
                put(x, to + j, get(x, to + j) + value)


@jit
def _gate_up(shape, weights, num_rows, act, a, local, taken, layer):
    """act[R, F] = silu(gate) * up, some rows and columns of both at a time."""
    c, wide = shape.hidden, shape.wide
    w, bias = weights.gate_up, weights.gate_up_bias
    columns = (wide + _BLOCK - 1) // _BLOCK
    units = columns * ((num_rows + ROWS - 1) // ROWS)
    up_at = ROWS * _BLOCK
    while True:
        unit = atomic_add(taken, layer * PHASES + 3, 1)
        if unit >= units:
            return
        row, start = unit // columns * ROWS, unit % columns * _BLOCK
        rows, count = min(ROWS, num_rows - row), min(_BLOCK, wide - start)
        gate_row = layer * 2 * wide + start
        up_row = gate_row + wide
        dot_rows(a, row * c, rows, w, gate_row * c, count, c, local, 0, _BLOCK)
        dot_rows(a, row * c, rows, w, up_row * c, count, c, local, up_at, _BLOCK)
        for i in range(rows):
            to = (row + i) * wide + start
            for j in range(count):
                gate, up = get(local, i * _BLOCK + j), get(local, up_at + i * _BLOCK + j)
                if bias.size:
                    gate += get(bias, gate_row + j)
                    up += get(bias, up_row + j)
                put(act, to + j, gate / (_ONE + exp32(-gate)) * up)
