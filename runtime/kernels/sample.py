"""One draw per row after temperature, top-k, top-p and min-p, without sorting.

B rows, V vocabulary. With w(x) = exp((x - max) / temperature), a token is kept if its logit x is at
least each of

    the largest t with count(x >= t) >= top_k
    the largest t with sum of w over x >= t at least top_p times the sum of w that top-k keeps
    max + temperature * log(min_p)

and the draw is by inverse CDF in the order of token ids: the first kept token at which the running
sum of w passes uniform * total. Tokens tied with the last one kept are kept too. `uniform` comes
from the request's seed and position, so a draw does not depend on the batch.

The first two thresholds are found by bisection over the values: each pass over the row counts what
lies above a pivot and moves to the nearest logit that exists, so it ends on a logit after about as
many passes as the number of logits between the bounds has bits. The row stays in the L2 cache.
temperature 0 is the largest logit; -1 as in `argmax`, where there is no choice.
"""

import torch
import triton
import triton.language as tl

from ramify.runtime.kernels.argmax import argmax_ref

MIN_TEMPERATURE = tl.constexpr(1e-6)  # below it exp overflows; the likeliest token has it all


def sample_ref(logits_BV, temperature_B, top_k_B, top_p_B, min_p_B, uniform_B, token_B) -> None:
    """The same in torch, by sorting, in float64."""
    argmax_ref(logits_BV, token_B)
    vocab = logits_BV.shape[1]
    for row in range(logits_BV.shape[0]):
        temperature = float(temperature_B[row])
        if temperature == 0.0 or token_B[row] < 0:
            continue
        x = logits_BV[row].double()
        w = ((x - x.max()) / max(temperature, MIN_TEMPERATURE.value)).exp()
        ranked = x.sort(descending=True).values
        k = int(top_k_B[row])
        floor = ranked[k - 1] if 0 < k < vocab else ranked[-1]
        if float(top_p_B[row]) < 1.0:
            kept = w.sort(descending=True).values * (ranked >= floor)
            before = kept.cumsum(0) - kept
            size = int((before < float(top_p_B[row]) * kept.sum()).sum())
            floor = torch.maximum(floor, ranked[size - 1])
        keep = (x >= floor) & (w >= float(min_p_B[row])) & (w > 0)
        cdf = (w * keep).cumsum(0)
        above = (cdf > float(uniform_B[row]) * cdf[-1]) & keep
        token_B[row] = int(above.nonzero()[0] if above.any() else keep.nonzero()[-1])


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
def _sample_kernel(
    logits_ptr,
    temperature_ptr,
    top_k_ptr,
    top_p_ptr,
    min_p_ptr,
    uniform_ptr,
    token_ptr,
    stride_b,
    V,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * stride_b
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    worst = tl.full([BLOCK], float("inf"), tl.float32)
    index = tl.zeros([BLOCK], tl.int32)
    num_nan = tl.zeros([BLOCK], tl.int32)
    for start in tl.range(0, V, BLOCK, num_stages=4):
        v = start + tl.arange(0, BLOCK)
        x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
        num_nan += (x != x).to(tl.int32)
        index = tl.where(x > best, v, index)
        best = tl.where(x > best, x, best)
        worst = tl.minimum(worst, tl.where(x > float("-inf"), x, float("inf")))
    peak = tl.max(best, 0)
    token = tl.min(tl.where(best == peak, index, 2147483647), 0)
    lowest = tl.min(worst, 0)
    if (tl.max(num_nan, 0) > 0) | (tl.abs(peak) == float("inf")):
        tl.store(token_ptr + row, -1)
        return
    temperature = tl.load(temperature_ptr + row)
    if temperature == 0.0:
        tl.store(token_ptr + row, token)
        return

    temperature = tl.maximum(temperature, MIN_TEMPERATURE)
    scale = 1.4426950408889634 / temperature
    floor = lowest
    top_k = tl.load(top_k_ptr + row)
    if (top_k > 0) & (top_k < V):
        enough = tl.zeros([BLOCK], tl.float32)
        for start in tl.range(0, V, BLOCK, num_stages=4):  # fewer than top_k may be allowed at all
            v = start + tl.arange(0, BLOCK)
            x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
            enough += (x > float("-inf")).to(tl.float32)
        if tl.sum(enough, 0) > top_k:
            floor = _threshold(
                logits_ptr,
                lowest,
                peak,
                lowest,
                peak,
                scale,
                top_k.to(tl.float32),
                V,
                False,
                BLOCK,
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


def sample(logits_BV, temperature_B, top_k_B, top_p_B, min_p_B, uniform_B, token_B) -> None:
    """Draw token_B [B] int32 from logits_BV [B, V], of any float dtype; rows may be strided.

    temperature, top_p, min_p, uniform (in [0, 1)) are [B] float32; top_k [B] int32, -1 = all.
    """
    rows, vocab = logits_BV.shape
    if logits_BV.stride(1) != 1:
        raise ValueError("the vocabulary must be contiguous")
    if not rows:
        return
    block = min(4096, triton.next_power_of_2(vocab))
    _sample_kernel[(rows,)](
        logits_BV,
        temperature_B,
        top_k_B,
        top_p_B,
        min_p_B,
        uniform_B,
        token_B,
        logits_BV.stride(0),
        vocab,
        BLOCK=block,
        num_warps=min(16, max(1, block // 256)),
    )
