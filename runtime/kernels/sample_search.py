"""The largest logit of a list that has enough above it, found without sorting."""

import triton
import triton.language as tl

LEVELS = tl.constexpr(8)  # values tried at a time
BIG = tl.constexpr(2147483647)
EXACT = tl.constexpr(1000)  # rounds: more than any list takes
# Weights of listed logits are added up as integers, in units of 2^-40 of the largest: the order of
# a list differs from run to run. 2^22 logits fit 63 bits.
UNIT = tl.constexpr(1099511627776.0)


# fmt: off
@triton.jit
def listed(list_ptr, logits_ptr, at, num, is_listed):
    """Logits of a list, or of the row itself where there are too many to be listed."""
    if is_listed:
        x = tl.load(list_ptr + at, mask=at < num, other=float("-inf"))
    else:
        x = tl.load(logits_ptr + at, mask=at < num, other=float("-inf")).to(tl.float32)
    return x


@triton.jit
def in_units(x, peak, scale):
    """Weights 2^((x - peak) * scale) as integers."""
    return (tl.exp2((x - peak) * scale) * UNIT).to(tl.int64)


@triton.jit
def amount_within(
    list_ptr, logits_ptr, num, is_listed, low, high, peak, scale, BY_WEIGHT: tl.constexpr,
    STRIP: tl.constexpr,
):
    """Number, or weight in units, of the logits in [low, high)."""
    amount = tl.zeros([STRIP], tl.int64)
    for start in range(0, num, STRIP):
        x = listed(list_ptr, logits_ptr, start + tl.arange(0, STRIP), num, is_listed)
        inside = (x >= low) & (x < high)
        if BY_WEIGHT:
            amount += tl.where(inside, in_units(x, peak, scale), 0)
        else:
            amount += inside.to(tl.int64)
    return tl.sum(amount, 0)


@triton.jit
def search(
    list_ptr, logits_ptr, num, is_listed, lo, up, hi, peak, scale, base, target,
    BY_WEIGHT: tl.constexpr, ROUNDS: tl.constexpr, STRIP: tl.constexpr,
):
    """The largest logit at which `base` and what lies in [it, hi) are at least `target`; after
    ROUNDS rounds a value below it that has it too.

    `lo` has it and `up` has not. The values tried run from the lowest to the highest logit in
    between, so each round decides about these two at least.
    """
    i = tl.arange(0, LEVELS)
    share_L = i / (LEVELS - 1.0)
    up += lo * 0.0  # a constant could not change in the loop
    rounds = ROUNDS
    while rounds > 0:
        rounds -= 1
        first = tl.full([STRIP], float("inf"), tl.float32)
        last = tl.full([STRIP], float("-inf"), tl.float32)
        for start in range(0, num, STRIP):
            x = listed(list_ptr, logits_ptr, start + tl.arange(0, STRIP), num, is_listed)
            inside = (x > lo) & (x < up)
            first = tl.minimum(first, tl.where(inside, x, float("inf")))
            last = tl.maximum(last, tl.where(inside, x, float("-inf")))
        low, high = tl.min(first, 0), tl.max(last, 0)
        rounds = tl.where(low < up, rounds, 0)
        if low < up:
            level_L = low * (1.0 - share_L) + high * share_L
            amount_LS = tl.zeros([LEVELS, STRIP], tl.int64)
            for start in range(0, num, STRIP):
                x = listed(list_ptr, logits_ptr, start + tl.arange(0, STRIP), num, is_listed)
                over_LS = (x[None, :] >= level_L[:, None]) & (x < hi)[None, :]
                if BY_WEIGHT:
                    amount_LS += tl.where(over_LS, in_units(x, peak, scale)[None, :], 0)
                else:
                    amount_LS += over_LS.to(tl.int64)
            enough_L = base + tl.sum(amount_LS, 1) >= target
            lo = tl.maximum(lo, tl.max(tl.where(enough_L, level_L, float("-inf")), 0))
            up = tl.minimum(up, tl.min(tl.where(enough_L, float("inf"), level_L), 0))
    return lo
# fmt: on
