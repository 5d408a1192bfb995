"""A row's draw by bisection over its logits, for rows whose threshold has too many near it to list.

Each pass over the row counts what lies above a pivot and moves to the nearest logit that exists, so
it ends on a logit after about as many passes as the number of logits between the bounds has bits.
The row stays in the L2 cache.
"""

import triton
import triton.language as tl

from ramify.runtime.kernels.sample_bracket import IS_LONG, MIN_TEMPERATURE, STATE


@triton.jit
def _threshold(
    logits_ptr,
    low,
    high,
    floor,
    peak,
    scale,
    target,
    V,
    BY_WEIGHT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The largest logit t in [low, high] at which what lies in [max(t, floor), inf) has `target`.

    `low` must have it; `low` and `high` are logits of the row.
    """
    while low < high:
        pivot = low * 0.5 + high * 0.5
        pivot = tl.where(pivot > low, pivot, high)
        amount = tl.zeros([BLOCK], tl.float32)
        above = tl.full([BLOCK], float("inf"), tl.float32)
        below = tl.full([BLOCK], float("-inf"), tl.float32)
        for start in tl.range(0, V, BLOCK, num_stages=4):
            v = start + tl.arange(0, BLOCK)
            x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
            over = x >= pivot
            if BY_WEIGHT:
                weight = tl.exp2((x - peak) * scale)
                amount += tl.where(over & (x >= floor), weight, 0.0)
            else:
                amount += over.to(tl.float32)
            above = tl.minimum(above, tl.where(over, x, float("inf")))
            below = tl.maximum(below, tl.where(over, float("-inf"), x))
        enough = tl.sum(amount, 0) >= target
        low = tl.where(enough, tl.min(above, 0), low)
        high = tl.where(enough, high, tl.maximum(low, tl.max(below, 0)))
    return low


@triton.jit
def _kept_weight(logits_ptr, floor, peak, scale, V, BLOCK: tl.constexpr):
    """The sum of w over logits of at least `floor`, in the order the draw adds it up."""
    total = 0.0
    last = 0
    for start in tl.range(0, V, BLOCK, num_stages=4):
        v = start + tl.arange(0, BLOCK)
        x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
        keep = (x >= floor) & (x > float("-inf"))
        total += tl.sum(tl.where(keep, tl.exp2((x - peak) * scale), 0.0), 0)
        last = tl.maximum(last, tl.max(tl.where(keep, v, 0), 0))
    return total, last


@triton.jit
def search_rows_kernel(
    logits_ptr,
    temperature_ptr,
    top_k_ptr,
    top_p_ptr,
    min_p_ptr,
    uniform_ptr,
    token_ptr,
    states_ptr,
    stride_b,
    V,
    BLOCK: tl.constexpr,
):
    """One row; nothing to do unless its state says that it is long."""
    row = tl.program_id(0).to(tl.int64)
    if tl.load(states_ptr + row * STATE + IS_LONG) == 0.0:
        return
    logits_ptr += row * stride_b
    peak = tl.load(states_ptr + row * STATE)
    worst = tl.full([BLOCK], float("inf"), tl.float32)
    count = tl.zeros([BLOCK], tl.int32)
    for start in tl.range(0, V, BLOCK, num_stages=4):
        v = start + tl.arange(0, BLOCK)
        x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
        worst = tl.minimum(worst, tl.where(x > float("-inf"), x, float("inf")))
        count += (x > float("-inf")).to(tl.int32)
    lowest = tl.min(worst, 0)
    temperature = tl.load(temperature_ptr + row)
    temperature = tl.maximum(temperature, MIN_TEMPERATURE)
    scale = 1.4426950408889634 / temperature
    floor = lowest
    top_k = tl.load(top_k_ptr + row)
    if (top_k > 0) & (top_k < tl.sum(count, 0)):
        floor = _threshold(
            logits_ptr, lowest, peak, lowest, peak, scale, top_k.to(tl.float32), V, False, BLOCK
        )
    top_p = tl.load(top_p_ptr + row)
    if top_p < 1.0:
        total, _ = _kept_weight(logits_ptr, floor, peak, scale, V, BLOCK)
        floor = _threshold(
            logits_ptr, floor, peak, floor, peak, scale, total * top_p, V, True, BLOCK
        )
    min_p = tl.load(min_p_ptr + row)
    if min_p > 0.0:
        floor = tl.maximum(floor, peak + temperature * tl.log(min_p))

    total, last = _kept_weight(logits_ptr, floor, peak, scale, V, BLOCK)
    point = total * tl.load(uniform_ptr + row)
    running = 0.0
    found = -1
    start = 0
    while (start < V) & (found < 0):
        v = start + tl.arange(0, BLOCK)
        x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
        keep = (x >= floor) & (x > float("-inf"))
        weight = tl.where(keep, tl.exp2((x - peak) * scale), 0.0)
        here = tl.sum(weight, 0)
        if running + here > point:
            passed = keep & (weight > 0.0) & (running + tl.cumsum(weight, 0) > point)
            first = tl.min(tl.where(passed, v, 2147483647), 0)
            # cumsum may round below the sum: then it is the last kept token of this block
            ending = tl.max(tl.where(keep & (weight > 0.0), v, 0), 0)
            found = tl.minimum(first, ending)
        running += here
        start += BLOCK
    tl.store(token_ptr + row, tl.where(found < 0, last, found))
