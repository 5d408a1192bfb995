"""Where a row's threshold lies: a bracket [lo, hi) of logits that is short enough to be listed.

n(t) is how many logits are at least t, m(t) the sum of their weights w = 2^((x - peak) * scale),
k how many top-k keeps (0: all), p the share of the weight that top-p keeps (1: all). With top-k,
the threshold of top-k is in [lo, up) and that of both in [lo, hi); without, up = hi.

A row is cut into chunks, each into groups. Group maxima are logits: if k of them, or a weight of p,
are at least t, then so is the row's, and t is a lower end that few logits are above, unless most
groups have one. Where most have, as in flat rows, n and m are counted once more, at LEVELS values
about where a sample of the row says that the threshold is.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ramify.runtime.kernels.sample_search import BIG, LEVELS, UNIT, amount_within, search

LOG2E = tl.constexpr(1.4426950408889634)
MIN_TEMPERATURE = tl.constexpr(1e-6)  # below it exp overflows; the likeliest token has it all
GROUPS = tl.constexpr(64)  # of a chunk
MOST_GROUPS = tl.constexpr(0.6)  # with a logit above a threshold: about as many logits as groups
SAMPLE = tl.constexpr(2048)  # logits of a flat row that its levels are chosen by
ROUNDS = tl.constexpr(3)  # of a search whose result need not be exact: to 1/343 of the range
LIST = tl.constexpr(8192)  # logits of a bracket that can be listed
SPAN = tl.constexpr(4)  # chunks of a program that narrows: mostly there is nothing to do

# A chunk's record: peak, token, number of logits above -inf, the lowest of them, sum of weights;
# then, of several chunks, n and m at each level.
RECORD = tl.constexpr(32)
AT_LEVELS = tl.constexpr(8)
# A row's state: peak (NaN: its token is chosen), k, sum of weights; lo, n, m; up, n, m; hi, n, m;
# the lowest and the highest level (equal: the bracket is not to be narrowed); 1 where the bracket
# is too long to be listed.
STATE = tl.constexpr(16)
IS_LONG = tl.constexpr(14)


@triton.jit
def row_scale(temperature_ptr, row):
    """What logits are multiplied by to be weights' exponents of 2."""
    return LOG2E / tl.maximum(tl.load(temperature_ptr + row), MIN_TEMPERATURE)


@triton.jit
def arrive(arrived_ptr, count):
    """Whether this program is the last of `count`, which sees what all of them have written."""
    tl.debug_barrier()  # all threads' results are written before any counts the arrival
    is_last = tl.atomic_add(arrived_ptr, 1, sem="acq_rel") == count - 1
    if is_last:
        tl.debug_barrier()
        tl.store(arrived_ptr, 0)
    return is_last


@triton.jit
def scan_chunk(logits_ptr, start, V, BLOCK: tl.constexpr, STRIP: tl.constexpr):
    """A chunk's peak (inf if it has NaN), its first index, the count and least of the logits above
    -inf, and the maximum of every STRIP-th logit."""
    best = tl.full([STRIP], float("-inf"), tl.float32)
    lowest = tl.full([STRIP], float("inf"), tl.float32)
    index = tl.zeros([STRIP], tl.int32)
    count = tl.zeros([STRIP], tl.int32)
    num_nan = tl.zeros([STRIP], tl.int32)
    for strip in tl.static_range(0, BLOCK, STRIP):
        v = start + strip + tl.arange(0, STRIP)
        x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
        num_nan += (x != x).to(tl.int32)
        index = tl.where(x > best, v, index)
        best = tl.where(x > best, x, best)
        finite = x > float("-inf")
        count += finite.to(tl.int32)
        lowest = tl.minimum(lowest, tl.where(finite, x, float("inf")))
    peak = tl.max(best, 0)
    token = tl.min(tl.where(best == peak, index, BIG), 0)
    peak = tl.where(tl.max(num_nan, 0) > 0, float("inf"), peak)
    return peak, token, tl.sum(count, 0), tl.min(lowest, 0), best


# fmt: off
@triton.jit
def _scan_kernel(
    logits_ptr, temperature_ptr, records_ptr, groups_ptr, stride_b, V, BLOCK: tl.constexpr,
    STRIP: tl.constexpr, CHUNKS: tl.constexpr,
):
    """One chunk: its record and its groups' maxima."""
    chunk, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    start = chunk * BLOCK
    logits_ptr += row * stride_b
    peak, token, count, lowest, best = scan_chunk(logits_ptr, start, V, BLOCK, STRIP)
    at_peak = tl.where(tl.abs(peak) < float("inf"), peak, 0.0)
    scale = row_scale(temperature_ptr, row)
    total = tl.zeros([STRIP], tl.float32)
    for strip in tl.static_range(0, BLOCK, STRIP):  # once more, from the L1 cache
        v = start + strip + tl.arange(0, STRIP)
        x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
        total += tl.exp2((x - at_peak) * scale)
    record_ptr = records_ptr + (row * CHUNKS + chunk) * RECORD
    tl.store(record_ptr, peak)
    tl.store(record_ptr + 1, token.to(tl.float32))
    tl.store(record_ptr + 2, count.to(tl.float32))
    tl.store(record_ptr + 3, lowest)
    tl.store(record_ptr + 4, tl.sum(total, 0))
    top_G = tl.max(tl.reshape(best, [GROUPS, STRIP // GROUPS]), 1)
    tl.store(groups_ptr + (row * CHUNKS + chunk) * GROUPS + tl.arange(0, GROUPS), top_G)


@triton.jit
def _store_bracket(state_ptr, lo, n_lo, m_lo, up, n_up, m_up, hi, n_hi, m_hi):
    tl.store(state_ptr + 3, lo)
    tl.store(state_ptr + 4, n_lo)
    tl.store(state_ptr + 5, m_lo)
    tl.store(state_ptr + 6, up)
    tl.store(state_ptr + 7, n_up)
    tl.store(state_ptr + 8, m_up)
    tl.store(state_ptr + 9, hi)
    tl.store(state_ptr + 10, n_hi)
    tl.store(state_ptr + 11, m_hi)


@triton.jit
def _bound_by_groups(
    groups_ptr, num, k, p, total, lowest, peak, scale, STRIP: tl.constexpr
):
    """A lower end of the bracket from group maxima, and whether it is a good one."""
    inf: tl.constexpr = float("inf")
    finite = amount_within(
        groups_ptr, groups_ptr, num, 1, lowest, inf, peak, scale, False, STRIP
    ).to(tl.float32)
    lo = lowest
    is_good = 0
    if k > 0.0:
        if k <= MOST_GROUPS * finite:
            lo = search(
                groups_ptr, groups_ptr, num, 1, lowest, inf, inf, peak, scale, 0, k.to(tl.int64),
                False, ROUNDS, STRIP,
            )
            is_good = 1
    else:
        target = (p * total * UNIT).to(tl.int64)
        has = amount_within(groups_ptr, groups_ptr, num, 1, lowest, inf, peak, scale, True, STRIP)
        if has >= target:
            lo = search(
                groups_ptr, groups_ptr, num, 1, lowest, inf, inf, peak, scale, 0, target, True,
                ROUNDS, STRIP,
            )
            above = amount_within(
                groups_ptr, groups_ptr, num, 1, lo, inf, peak, scale, False, STRIP
            ).to(tl.float32)
            is_good = (above <= MOST_GROUPS * finite).to(tl.int32)
    return lo, is_good


@triton.jit
def _choose_levels(
    logits_ptr, sample_ptr, state_ptr, k, p, count, lowest, peak, scale, V, STRIP: tl.constexpr
):
    """The lowest and the highest level to count at: where a sample has a share of the number, or
    the weight, five standard errors above and below the one wanted."""
    inf: tl.constexpr = float("inf")
    num = tl.minimum(V, SAMPLE)
    for start in range(0, num, STRIP):
        at = start + tl.arange(0, STRIP)
        v = (at.to(tl.int64) * V // num).to(tl.int32)
        x = tl.load(logits_ptr + v, mask=at < num, other=-inf).to(tl.float32)
        tl.store(sample_ptr + at, x, mask=at < num)
    tl.debug_barrier()  # all threads' are written before any reads another's
    share = tl.where(k > 0.0, k / count, p)
    margin = 5.0 * tl.sqrt(share * (1.0 - share) / num)
    fewer, more = tl.maximum(share - margin, 0.0), share + margin
    low, high = lowest, lowest
    if k > 0.0:
        number = amount_within(
            sample_ptr, sample_ptr, num, 1, lowest, inf, peak, scale, False, STRIP
        ).to(tl.float32)
        high = search(
            sample_ptr, sample_ptr, num, 1, lowest, inf, inf, peak, scale, 0,
            (number * fewer).to(tl.int64), False, ROUNDS, STRIP,
        )
        if more < 1.0:
            low = search(
                sample_ptr, sample_ptr, num, 1, lowest, inf, inf, peak, scale, 0,
                (number * more).to(tl.int64), False, ROUNDS, STRIP,
            )
    else:
        weight = amount_within(
            sample_ptr, sample_ptr, num, 1, lowest, inf, peak, scale, True, STRIP
        ).to(tl.float32)
        high = search(
            sample_ptr, sample_ptr, num, 1, lowest, inf, inf, peak, scale, 0,
            (weight * fewer).to(tl.int64), True, ROUNDS, STRIP,
        )
        if more < 1.0:
            low = search(
                sample_ptr, sample_ptr, num, 1, lowest, inf, inf, peak, scale, 0,
                (weight * more).to(tl.int64), True, ROUNDS, STRIP,
            )
    # Finite: a share of nothing is had by any value.
    high = tl.minimum(high, peak)
    tl.store(state_ptr + 12, low)
    tl.store(state_ptr + 13, high)


@triton.jit
def _bound_kernel(
    logits_ptr, temperature_ptr, top_k_ptr, top_p_ptr, token_ptr, records_ptr, groups_ptr,
    states_ptr, list_ptr, stride_b, V, num_chunks, STRIP: tl.constexpr, CHUNKS: tl.constexpr,
):
    """One row, from its chunks' records: the greedy token, and the bracket to begin with."""
    inf: tl.constexpr = float("inf")
    row = tl.program_id(0).to(tl.int64)
    state_ptr = states_ptr + row * STATE
    temperature, top_k = tl.load(temperature_ptr + row), tl.load(top_k_ptr + row)
    p, scale = tl.load(top_p_ptr + row), row_scale(temperature_ptr, row)
    c = tl.arange(0, CHUNKS)
    live = c < num_chunks
    at = records_ptr + (row * CHUNKS + c) * RECORD
    peak_C = tl.load(at, mask=live, other=-inf)
    token_C = tl.load(at + 1, mask=live, other=inf)
    peak = tl.max(peak_C, 0)
    token = tl.min(tl.where(peak_C == peak, token_C, inf), 0)
    is_fit = tl.abs(peak) < inf
    is_drawn = is_fit & (temperature > 0.0)
    tl.store(token_ptr + row, tl.where(is_fit, token, -1.0).to(tl.int32))
    count = tl.sum(tl.load(at + 2, mask=live, other=0.0), 0)
    k = tl.where((top_k > 0) & (top_k < count), top_k, 0).to(tl.float32)
    weight_C = tl.load(at + 4, mask=live, other=0.0) * tl.exp2((peak_C - peak) * scale)
    total = tl.sum(tl.where(peak_C > -inf, weight_C, 0.0), 0)
    tl.store(state_ptr, tl.where(is_drawn, peak, float("nan")))
    tl.store(state_ptr + 1, k)
    tl.store(state_ptr + 2, total)
    tl.store(state_ptr + 12, 0.0)
    tl.store(state_ptr + 13, 0.0)
    if is_drawn & ((k > 0.0) | (p < 1.0)):
        lowest = tl.min(tl.load(at + 3, mask=live, other=inf), 0)
        lo, is_good = _bound_by_groups(
            groups_ptr + row * CHUNKS * GROUPS, num_chunks * GROUPS, k, p, total, lowest, peak,
            scale, STRIP,
        )
        if is_good > 0:
            _store_bracket(state_ptr, lo, count, total, inf, 0.0, 0.0, inf, 0.0, 0.0)
        else:
            _store_bracket(state_ptr, lowest, count, total, inf, 0.0, 0.0, inf, 0.0, 0.0)
            tl.debug_barrier()  # the levels above are written before these
            _choose_levels(
                logits_ptr + row * stride_b, list_ptr + row * LIST, state_ptr, k, p, count, lowest,
                peak, scale, V, STRIP,
            )
    else:  # all are kept
        _store_bracket(state_ptr, -inf, 0.0, 0.0, -inf, 0.0, 0.0, -inf, 0.0, 0.0)


@triton.jit
def _narrowed(
    level_L, n_L, m_L, k, p, total, lo, n_lo, m_lo, up, n_up, m_up, hi, n_hi, m_hi
):
    """The bracket, its ends moved to levels. n and m only fall as levels rise."""
    inf: tl.constexpr = float("inf")
    enough = tl.where(k > 0.0, n_L >= k, m_L >= p * total)
    lo = tl.maximum(lo, tl.max(tl.where(enough, level_L, -inf), 0))
    n_lo = tl.minimum(n_lo, tl.min(tl.where(enough, n_L, inf), 0))
    m_lo = tl.minimum(m_lo, tl.min(tl.where(enough, m_L, inf), 0))
    up = tl.minimum(up, tl.min(tl.where(enough, inf, level_L), 0))
    n_up = tl.maximum(n_up, tl.max(tl.where(enough, 0.0, n_L), 0))
    m_up = tl.maximum(m_up, tl.max(tl.where(enough, 0.0, m_L), 0))
    # top-k keeps a weight of at least m_up, so top-p of that at least p * m_up
    above = tl.where((k > 0.0) & (p < 1.0), m_L < p * m_up, enough == 0)
    hi = tl.minimum(hi, tl.min(tl.where(above, level_L, inf), 0))
    n_hi = tl.maximum(n_hi, tl.max(tl.where(above, n_L, 0.0), 0))
    m_hi = tl.maximum(m_hi, tl.max(tl.where(above, m_L, 0.0), 0))
    return lo, n_lo, m_lo, up, n_up, m_up, hi, n_hi, m_hi


@triton.jit
def _count(logits_ptr, start, end, level_L, peak, scale, STRIP: tl.constexpr):
    """n and m of logits [start, end) at each level."""
    n_LS = tl.zeros([LEVELS, STRIP], tl.int32)
    m_LS = tl.zeros([LEVELS, STRIP], tl.float32)
    for strip in tl.range(start, end, STRIP, num_stages=3):
        v = strip + tl.arange(0, STRIP)
        x = tl.load(logits_ptr + v, mask=v < end, other=float("-inf")).to(tl.float32)
        over_LS = x[None, :] >= level_L[:, None]
        n_LS += over_LS.to(tl.int32)
        m_LS += tl.where(over_LS, tl.exp2((x - peak) * scale)[None, :], 0.0)
    return tl.sum(n_LS, 1), tl.sum(m_LS, 1)


@triton.jit
def _narrow_kernel(
    logits_ptr, temperature_ptr, top_p_ptr, records_ptr, states_ptr, arrived_ptr, stride_b, V,
    BLOCK: tl.constexpr, STRIP: tl.constexpr, CHUNKS: tl.constexpr,
):
    """SPAN chunks: n and m at the row's levels; whoever is last narrows the row's bracket."""
    part, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    num_parts = tl.num_programs(0)
    state_ptr = states_ptr + row * STATE
    low, high = tl.load(state_ptr + 12), tl.load(state_ptr + 13)
    if low < high:
        p, scale = tl.load(top_p_ptr + row), row_scale(temperature_ptr, row)
        peak, k, total = tl.load(state_ptr), tl.load(state_ptr + 1), tl.load(state_ptr + 2)
        i = tl.arange(0, LEVELS)
        level_L = low + (high - low) * (i / (LEVELS - 1.0))
        start = part * (SPAN * BLOCK)
        n_L, m_L = _count(
            logits_ptr + row * stride_b, start, tl.minimum(V, start + SPAN * BLOCK), level_L, peak,
            scale, STRIP,
        )
        records_ptr += row * CHUNKS * RECORD
        record_ptr = records_ptr + part * RECORD + AT_LEVELS + i
        tl.store(record_ptr, n_L.to(tl.float32))
        tl.store(record_ptr + LEVELS, m_L)
        if arrive(arrived_ptr + row, num_parts):
            c = tl.arange(0, CHUNKS)
            live_C1 = (c < num_parts)[:, None]
            at_CL = records_ptr + c[:, None] * RECORD + AT_LEVELS + i[None, :]
            # .cg: other SMs wrote these
            n_CL = tl.load(at_CL, mask=live_C1, other=0.0, cache_modifier=".cg")
            m_CL = tl.load(at_CL + LEVELS, mask=live_C1, other=0.0, cache_modifier=".cg")
            lo, n_lo, m_lo, up, n_up, m_up, hi, n_hi, m_hi = _narrowed(
                level_L, tl.sum(n_CL, 0), tl.sum(m_CL, 0), k, p, total,
                tl.load(state_ptr + 3), tl.load(state_ptr + 4), tl.load(state_ptr + 5),
                tl.load(state_ptr + 6), tl.load(state_ptr + 7), tl.load(state_ptr + 8),
                tl.load(state_ptr + 9), tl.load(state_ptr + 10), tl.load(state_ptr + 11),
            )
            _store_bracket(state_ptr, lo, n_lo, m_lo, up, n_up, m_up, hi, n_hi, m_hi)


class Brackets(NamedTuple):
    """What `find_brackets` leaves on the device, until the stream's next call."""

    states: torch.Tensor  # [B * STATE] float32
    records: torch.Tensor  # [B * CHUNKS * RECORD] float32, free to be overwritten
    groups: torch.Tensor  # [B * CHUNKS * GROUPS] float32: maxima
    listed: torch.Tensor  # [B * LIST] float32: room for the logits in each bracket
    ids: torch.Tensor  # [B * LIST] int32: and for their tokens
    arrived: torch.Tensor  # [B] int32: programs that are done; zero between launches
    cursor: torch.Tensor  # [B] int32: logits listed; zero between calls


@lru_cache(maxsize=64)
def _scratch(rows: int, most_chunks: int, device: torch.device) -> Brackets:
    def floats(size: int) -> torch.Tensor:
        return torch.empty(rows * size, dtype=torch.float32, device=device)

    return Brackets(
        floats(STATE.value),
        floats(most_chunks * RECORD.value),
        floats(most_chunks * GROUPS.value),
        floats(LIST.value),
        torch.empty(rows * LIST.value, dtype=torch.int32, device=device),
        torch.zeros(rows, dtype=torch.int32, device=device),
        torch.zeros(rows, dtype=torch.int32, device=device),
    )


class Chunks(NamedTuple):
    """How rows of one vocabulary are cut: the same whatever the batch."""

    num: int
    block: int  # logits of a chunk
    strip: int  # that a program takes at a time
    most: int  # `num` up to a power of two


def cut_rows(vocab: int) -> Chunks:
    """A program for every 4096 logits: some for each of the device's SMs from four rows on."""
    block = min(4096, max(GROUPS.value, triton.next_power_of_2(vocab)))
    num = triton.cdiv(vocab, block)
    return Chunks(num, block, min(512, block), triton.next_power_of_2(num))


def find_brackets(logits_BV, temperature_B, top_k_B, top_p_B, token_B) -> Brackets:
    """Bracket each row's threshold, to at most LIST logits if that can be; greedy tokens."""
    rows, vocab = logits_BV.shape
    chunks = cut_rows(vocab)
    found = _scratch(triton.next_power_of_2(rows), chunks.most, logits_BV.device)
    size = (logits_BV.stride(0), vocab)
    cut = {"STRIP": chunks.strip, "CHUNKS": chunks.most, "num_warps": 4}
    _scan_kernel[(chunks.num, rows)](
        logits_BV, temperature_B, found.records, found.groups, *size, BLOCK=chunks.block, **cut
    )
    _bound_kernel[(rows,)](
        logits_BV, temperature_B, top_k_B, top_p_B, token_B, found.records, found.groups,
        found.states, found.listed, *size, chunks.num, **cut,
    )
    _narrow_kernel[(triton.cdiv(chunks.num, SPAN.value), rows)](
        logits_BV, temperature_B, top_p_B, found.records, found.states, found.arrived, *size,
        BLOCK=chunks.block, **cut,
    )
    return found
# fmt: on
