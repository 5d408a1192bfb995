"""From a row's bracket to its token: list what is in the bracket, find the threshold, draw."""

import triton
import triton.language as tl

from ramify.runtime.kernels.sample_bracket import IS_LONG, LIST, STATE, row_scale
from ramify.runtime.kernels.sample_search import (
    BIG,
    EXACT,
    UNIT,
    amount_within,
    in_units,
    search,
)


# fmt: off
@triton.jit
def list_chunk(
    logits_ptr, start, list_ptr, ids_ptr, cursor_ptr, lo, hi, floor, peak, scale, V,
    BLOCK: tl.constexpr, STRIP: tl.constexpr,
):
    """List the logits of a chunk in [lo, hi); the sum of the weights of those from `floor` on."""
    kept = tl.zeros([STRIP], tl.float32)
    for strip in tl.static_range(0, BLOCK, STRIP):
        v = start + strip + tl.arange(0, STRIP)
        x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
        inside = (x >= lo) & (x < hi)
        if tl.max(inside.to(tl.int32), 0) > 0:
            one = tl.full([STRIP], 1, tl.int32)
            at = tl.atomic_add(cursor_ptr + one * 0, one, mask=inside, sem="relaxed")
            fits = inside & (at < LIST)
            tl.store(list_ptr + at, x, mask=fits)
            tl.store(ids_ptr + at, v, mask=fits)
        is_kept = (x >= floor) & (x > float("-inf"))
        kept += tl.where(is_kept, tl.exp2((x - peak) * scale), 0.0)
    return tl.sum(kept, 0)


@triton.jit
def find_floor(
    list_ptr, state_ptr, num, p, scale, STRIP: tl.constexpr
):
    """The least logit that top-k and top-p keep."""
    peak, k = tl.load(state_ptr), tl.load(state_ptr + 1)
    total, floor, up = tl.load(state_ptr + 2), tl.load(state_ptr + 3), tl.load(state_ptr + 6)
    hi, n_hi, m_hi = tl.load(state_ptr + 9), tl.load(state_ptr + 10), tl.load(state_ptr + 11)
    if k > 0.0:
        floor = search(
            list_ptr, list_ptr, num, 1, floor, up, hi, peak, scale, n_hi.to(tl.int64),
            k.to(tl.int64), False, EXACT, STRIP,
        )
    if p < 1.0:
        if k > 0.0:
            kept = amount_within(
                list_ptr, list_ptr, num, 1, floor, hi, peak, scale, True, STRIP
            )
            total = m_hi + kept.to(tl.float32) / UNIT
        floor = search(
            list_ptr, list_ptr, num, 1, floor, hi, hi, peak, scale,
            (m_hi * UNIT).to(tl.int64), (total * p * UNIT).to(tl.int64), True, EXACT, STRIP,
        )
    return floor


@triton.jit
def _chunk_sums(
    list_ptr, ids_ptr, num, floor, hi, peak, scale, BLOCK: tl.constexpr, CHUNKS: tl.constexpr,
    STRIP: tl.constexpr,
):
    """What each chunk has in [floor, hi)."""
    c = tl.arange(0, CHUNKS)
    units_C = tl.zeros([CHUNKS], tl.int64)
    for start in range(0, num, STRIP):
        at = start + tl.arange(0, STRIP)
        x = tl.load(list_ptr + at, mask=at < num, other=float("-inf"))
        v = tl.load(ids_ptr + at, mask=at < num, other=0)
        units = tl.where((x >= floor) & (x < hi), in_units(x, peak, scale), 0)
        is_in_CS = (v // BLOCK)[None, :] == c[:, None]
        units_C += tl.sum(tl.where(is_in_CS, units[None, :], 0), 1)
    return units_C.to(tl.float32) / UNIT


@triton.jit
def draw(logits_ptr, sum_C, floor, peak, scale, uniform, V, BLOCK: tl.constexpr,
         CHUNKS: tl.constexpr):
    """The first token from `floor` on at which the running sum of weights passes its share."""
    c = tl.arange(0, CHUNKS)
    running_C = tl.cumsum(sum_C, 0)
    point = tl.sum(sum_C, 0) * uniform
    chunk = tl.min(tl.where((running_C > point) & (sum_C > 0.0), c, BIG), 0)
    # The running sum may round below the sum: then it is the last chunk that keeps any.
    chunk = tl.minimum(chunk, tl.max(tl.where(sum_C > 0.0, c, 0), 0))
    running = tl.sum(tl.where(c == chunk - 1, running_C, 0.0), 0)
    v = chunk * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
    w = tl.where((x >= floor) & (x > float("-inf")), tl.exp2((x - peak) * scale), 0.0)
    passed = (w > 0.0) & (running + tl.cumsum(w, 0) > point)
    first = tl.min(tl.where(passed, v, BIG), 0)
    return tl.minimum(first, tl.max(tl.where(w > 0.0, v, 0), 0))


@triton.jit
def least_kept(peak, scale, min_p):
    """The least logit that min-p keeps."""
    least = peak + tl.log2(tl.maximum(min_p, 1e-30)) / scale
    return tl.where(min_p > 0.0, least, float("-inf"))


@triton.jit
def list_kernel(
    logits_ptr, temperature_ptr, min_p_ptr, states_ptr, kept_ptr, list_ptr, ids_ptr, cursor_ptr,
    stride_b, V, TO_TOP: tl.constexpr, BLOCK: tl.constexpr, STRIP: tl.constexpr,
    CHUNKS: tl.constexpr,
):
    """One chunk: its part of the row's list, and the weight of what is surely kept above it.

    TO_TOP: all from the bracket's lower end on is listed.
    """
    chunk, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    state_ptr = states_ptr + row * STATE
    peak = tl.load(state_ptr)
    if peak == peak:
        scale = row_scale(temperature_ptr, row)
        lo, hi = tl.load(state_ptr + 3), tl.load(state_ptr + 9)
        if TO_TOP:
            hi = float("inf")
        least = least_kept(peak, scale, tl.load(min_p_ptr + row))
        kept = list_chunk(
            logits_ptr + row * stride_b, chunk * BLOCK, list_ptr + row * LIST,
            ids_ptr + row * LIST, cursor_ptr + row, lo, hi, tl.maximum(hi, least), peak, scale, V,
            BLOCK, STRIP,
        )
        tl.store(kept_ptr + row * CHUNKS + chunk, kept)


@triton.jit
def finish_kernel(
    logits_ptr, temperature_ptr, top_p_ptr, min_p_ptr, uniform_ptr, token_ptr, states_ptr,
    kept_ptr, list_ptr, ids_ptr, cursor_ptr, stride_b, V, num_chunks, BLOCK: tl.constexpr,
    STRIP: tl.constexpr, CHUNKS: tl.constexpr,
):
    """One row: the threshold from its list, and the draw, unless the list is too long."""
    row = tl.program_id(0).to(tl.int64)
    state_ptr = states_ptr + row * STATE
    peak = tl.load(state_ptr)
    num = tl.load(cursor_ptr + row)
    tl.debug_barrier()  # all threads have read it
    tl.store(cursor_ptr + row, 0)
    is_long = (peak == peak) & (num > LIST)
    tl.store(state_ptr + IS_LONG, is_long.to(tl.float32))
    if (peak == peak) & (num <= LIST):
        logits_ptr += row * stride_b
        list_ptr += row * LIST
        ids_ptr += row * LIST
        scale = row_scale(temperature_ptr, row)
        hi = tl.load(state_ptr + 9)
        least = least_kept(peak, scale, tl.load(min_p_ptr + row))
        c = tl.arange(0, CHUNKS)
        sum_C = tl.load(kept_ptr + row * CHUNKS + c, mask=c < num_chunks, other=0.0)
        floor = hi
        if num > 0:
            floor = find_floor(
                list_ptr, state_ptr, num, tl.load(top_p_ptr + row), scale, STRIP
            )
            floor = tl.maximum(floor, least)
            sum_C += _chunk_sums(
                list_ptr, ids_ptr, num, floor, hi, peak, scale, BLOCK, CHUNKS, STRIP
            )
        token = draw(
            logits_ptr, sum_C, tl.maximum(floor, least), peak, scale, tl.load(uniform_ptr + row),
            V, BLOCK, CHUNKS,
        )
        tl.store(token_ptr + row, token)
# fmt: on
