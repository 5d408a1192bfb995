"""From a row's bracket to its token: list what is in the bracket, find the threshold, draw.

The order in which chunks list their logits differs from run to run, so weights of listed logits are
added up as integers, in units of 2^-40 of the largest.
"""

import triton
import triton.language as tl

from ramify.runtime.kernels.sample_bracket import LEVELS

UNIT = tl.constexpr(1099511627776.0)  # 2^40; 2^22 logits fit 63 bits
BIG = tl.constexpr(2147483647)


# fmt: off
@triton.jit
def list_chunk(
    logits_ptr, start, list_ptr, ids_ptr, cursor_ptr, lo, hi, floor, peak, scale, V, is_listed,
    BLOCK: tl.constexpr,
):
    """List the logits of a chunk in [lo, hi); the sum of the weights of those from `floor` on."""
    v = start + tl.arange(0, BLOCK)
    x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
    if is_listed:
        inside = ((x >= lo) & (x < hi)).to(tl.int32)
        here = tl.sum(inside, 0)
        if here > 0:
            at = tl.atomic_add(cursor_ptr, here, sem="relaxed") + tl.cumsum(inside, 0) - 1
            tl.store(list_ptr + at, x, mask=inside > 0)
            tl.store(ids_ptr + at, v, mask=inside > 0)
    kept = (x >= floor) & (x > float("-inf"))
    return tl.sum(tl.where(kept, tl.exp2((x - peak) * scale), 0.0), 0)


@triton.jit
def listed(list_ptr, logits_ptr, at, num, is_listed):
    """Logits of the list, or of the row itself where the bracket was too long to be listed."""
    if is_listed:
        x = tl.load(list_ptr + at, mask=at < num, other=float("-inf"))
    else:
        x = tl.load(logits_ptr + at, mask=at < num, other=float("-inf")).to(tl.float32)
    return x


@triton.jit
def _units(x, peak, scale):
    return (tl.exp2((x - peak) * scale) * UNIT).to(tl.int64)


@triton.jit
def _search(
    list_ptr, logits_ptr, num, is_listed, lo, up, hi, peak, scale, base, target,
    BY_WEIGHT: tl.constexpr, STRIP: tl.constexpr,
):
    """The largest logit at which `base` and what lies in [it, hi) are at least `target`.

    `lo` has it and `up` has not. Pivots run from the lowest to the highest logit in between, so
    each round decides about these two at least.
    """
    i = tl.arange(0, LEVELS)
    share_L = i / (LEVELS - 1.0)
    open_ = 1
    while open_ > 0:
        first = tl.full([STRIP], float("inf"), tl.float32)
        last = tl.full([STRIP], float("-inf"), tl.float32)
        for start in range(0, num, STRIP):
            x = listed(list_ptr, logits_ptr, start + tl.arange(0, STRIP), num, is_listed)
            inside = (x > lo) & (x < up)
            first = tl.minimum(first, tl.where(inside, x, float("inf")))
            last = tl.maximum(last, tl.where(inside, x, float("-inf")))
        low, high = tl.min(first, 0), tl.max(last, 0)
        open_ = (low < up).to(tl.int32)
        if open_ > 0:
            level_L = low * (1.0 - share_L) + high * share_L
            amount_LS = tl.zeros([LEVELS, STRIP], tl.int64)
            for start in range(0, num, STRIP):
                x = listed(list_ptr, logits_ptr, start + tl.arange(0, STRIP), num, is_listed)
                over_LS = (x[None, :] >= level_L[:, None]) & (x < hi)[None, :]
                if BY_WEIGHT:
                    amount_LS += tl.where(over_LS, _units(x, peak, scale)[None, :], 0)
                else:
                    amount_LS += over_LS.to(tl.int64)
            enough_L = base + tl.sum(amount_LS, 1) >= target
            lo = tl.maximum(lo, tl.max(tl.where(enough_L, level_L, float("-inf")), 0))
            up = tl.minimum(up, tl.min(tl.where(enough_L, float("inf"), level_L), 0))
    return lo


@triton.jit
def find_floor(
    list_ptr, logits_ptr, state_ptr, num, is_listed, p, scale, STRIP: tl.constexpr
):
    """The least logit that top-k and top-p keep."""
    peak, k = tl.load(state_ptr), tl.load(state_ptr + 1)
    total, floor, up = tl.load(state_ptr + 2), tl.load(state_ptr + 3), tl.load(state_ptr + 6)
    hi, n_hi, m_hi = tl.load(state_ptr + 9), tl.load(state_ptr + 10), tl.load(state_ptr + 11)
    if k > 0.0:
        floor = _search(
            list_ptr, logits_ptr, num, is_listed, floor, up, hi, peak, scale, n_hi.to(tl.int64),
            k.to(tl.int64), False, STRIP,
        )
    if p < 1.0:
        if k > 0.0:
            kept = tl.zeros([STRIP], tl.int64)
            for start in range(0, num, STRIP):
                x = listed(list_ptr, logits_ptr, start + tl.arange(0, STRIP), num, is_listed)
                kept += tl.where((x >= floor) & (x < hi), _units(x, peak, scale), 0)
            total = m_hi + tl.sum(kept, 0).to(tl.float32) / UNIT
        floor = _search(
            list_ptr, logits_ptr, num, is_listed, floor, hi, hi, peak, scale,
            (m_hi * UNIT).to(tl.int64), (total * p * UNIT).to(tl.int64), True, STRIP,
        )
    return floor


@triton.jit
def draw(
    list_ptr, ids_ptr, logits_ptr, kept_ptr, num, is_listed, num_chunks, floor, hi, peak, scale,
    uniform, V, BLOCK: tl.constexpr, STRIP: tl.constexpr, CHUNKS: tl.constexpr,
):
    """The first token from `floor` on at which the running sum of weights passes its share.

    kept_ptr: each chunk's sum from `hi` on; what the list has from `floor` to `hi` is added here.
    """
    c = tl.arange(0, CHUNKS)
    sum_C = tl.load(kept_ptr + c, mask=c < num_chunks, other=0.0, cache_modifier=".cg")
    if floor < hi:
        listed_C = tl.zeros([CHUNKS], tl.int64)
        for start in range(0, num, STRIP):
            at = start + tl.arange(0, STRIP)
            x = listed(list_ptr, logits_ptr, at, num, is_listed)
            v = at
            if is_listed:
                v = tl.load(ids_ptr + at, mask=at < num, other=0)
            units = tl.where((x >= floor) & (x < hi), _units(x, peak, scale), 0)
            is_in_CS = (v // BLOCK)[None, :] == c[:, None]
            listed_C += tl.sum(tl.where(is_in_CS, units[None, :], 0), 1)
        sum_C += listed_C.to(tl.float32) / UNIT
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
# fmt: on
