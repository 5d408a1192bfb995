"""Where a row's threshold lies: a bracket [lo, hi) of logits, narrowed without sorting.

n(t) is how many logits are at least t, m(t) the sum of their weights w = 2^((x - peak) * scale),
k how many top-k keeps (0: all), p the share of the weight that top-p keeps (1: all). With top-k,
the threshold of top-k is in [lo, up) and that of both in [lo, hi); without, up = hi. A chunk tells
n and m at LEVELS values; those of all chunks together move the bracket's ends.

Chunks first choose levels on a grid of the row's, counted down from their own maximum, as they do
not know the row's: chunks' levels then meet at the same values, and what a chunk has above its
maximum is nothing.
"""

from functools import lru_cache
from typing import NamedTuple

import torch
import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
MIN_TEMPERATURE = tl.constexpr(1e-6)  # below it exp overflows; the likeliest token has it all
LIST = tl.constexpr(4096)  # logits of a bracket that are listed at most
LEVELS = tl.constexpr(8)
GRID_LOG2 = tl.constexpr(3.0)  # from one level to the next, weights change by 2^3
GRID_MIN = tl.constexpr(1 / 64)  # and logits at least by this: levels are exact up to 65,536
GRID_EXACT = tl.constexpr(4194304.0)
CLUSTER = tl.constexpr(32)  # pivots lie this part of the bracket's width apart

# A chunk's record: peak, token, number of logits above -inf, the lowest of them, sum of weights;
# then n and m at each level.
RECORD = tl.constexpr(32)
AT_LEVELS = tl.constexpr(8)
# A row's state: peak (NaN: its token is chosen), k, sum of weights; lo, n, m; up, n, m; hi, n, m.
STATE = tl.constexpr(16)


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
    """A chunk's peak (inf if it has NaN), its first index, and the count and least above -inf."""
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
    token = tl.min(tl.where(best == peak, index, 2147483647), 0)
    peak = tl.where(tl.max(num_nan, 0) > 0, float("inf"), peak)
    return peak, token, tl.sum(count, 0), tl.min(lowest, 0)


@triton.jit
def tally(logits_ptr, start, level_L, peak, scale, V, BLOCK: tl.constexpr, STRIP: tl.constexpr):
    """n and m of a chunk at each level, and the sum of its weights."""
    n_LS = tl.zeros([LEVELS, STRIP], tl.int32)
    m_LS = tl.zeros([LEVELS, STRIP], tl.float32)
    total = tl.zeros([STRIP], tl.float32)
    for strip in tl.static_range(0, BLOCK, STRIP):
        v = start + strip + tl.arange(0, STRIP)
        x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
        w = tl.exp2((x - peak) * scale)
        over_LS = x[None, :] >= level_L[:, None]
        n_LS += over_LS.to(tl.int32)
        m_LS += tl.where(over_LS, w[None, :], 0.0)
        total += w
    return tl.sum(n_LS, 1), tl.sum(m_LS, 1), tl.sum(total, 0)


@triton.jit
def grid_step(scale):
    """From one level of a row's grid to the next."""
    return tl.maximum(GRID_LOG2 / scale, GRID_MIN)


@triton.jit
def grid_base(x, step):
    """The number of the highest level that is not above x."""
    base = tl.floor(x / step)
    return tl.where((base + 1.0) * step <= x, base + 1.0, base)


@triton.jit
def tally_grid(
    logits_ptr, start, record_ptr, peak, scale, V, BLOCK: tl.constexpr, STRIP: tl.constexpr
):
    """Write a chunk's n and m at the levels of the grid below its own peak."""
    peak = tl.where(tl.abs(peak) < float("inf"), peak, 0.0)
    step = grid_step(scale)
    i = tl.arange(0, LEVELS)
    level_L = (grid_base(peak, step) - i) * step
    n_L, m_L, total = tally(logits_ptr, start, level_L, peak, scale, V, BLOCK, STRIP)
    tl.store(record_ptr + 4, total)
    tl.store(record_ptr + AT_LEVELS + i, n_L.to(tl.float32))
    tl.store(record_ptr + AT_LEVELS + LEVELS + i, m_L)


# fmt: off
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
def begin_row(
    records_ptr, state_ptr, token_ptr, num_chunks, temperature, scale, top_k, p,
    CHUNKS: tl.constexpr,
):
    """From the records of all chunks: the greedy token, or the row's first bracket."""
    inf: tl.constexpr = float("inf")
    c = tl.arange(0, CHUNKS)
    live = c < num_chunks
    at = records_ptr + c * RECORD
    # .cg: other SMs wrote these
    peak_C = tl.load(at, mask=live, other=-inf, cache_modifier=".cg")
    token_C = tl.load(at + 1, mask=live, other=inf, cache_modifier=".cg")
    peak = tl.max(peak_C, 0)
    token = tl.min(tl.where(peak_C == peak, token_C, inf), 0)
    is_fit = tl.abs(peak) < inf
    tl.store(token_ptr, tl.where(is_fit, token, -1.0).to(tl.int32))
    is_drawn = is_fit & (temperature > 0.0)
    tl.store(state_ptr, tl.where(is_drawn, peak, float("nan")))
    count = tl.sum(tl.load(at + 2, mask=live, other=0.0, cache_modifier=".cg"), 0)
    k = tl.where((top_k > 0) & (top_k < count), top_k, 0).to(tl.float32)
    tl.store(state_ptr + 1, k)
    total_C = tl.load(at + 4, mask=live, other=0.0, cache_modifier=".cg")
    rescale_C = tl.exp2((peak_C - peak) * scale)
    total = tl.sum(total_C * rescale_C, 0)
    tl.store(state_ptr + 2, total)
    if is_drawn & ((k > 0.0) | (p < 1.0)):
        lowest = tl.min(tl.load(at + 3, mask=live, other=inf, cache_modifier=".cg"), 0)
        step = grid_step(scale)
        base = grid_base(peak, step)
        own_base_C = grid_base(tl.where(tl.abs(peak_C) < inf, peak_C, 0.0), step)
        is_exact = tl.abs(base) < GRID_EXACT
        shift_C = tl.minimum(tl.maximum(base - own_base_C, -64.0), 64.0)
        shift_C = tl.where(is_exact, shift_C, 64.0).to(tl.int32)  # 64: no level is known
        i = tl.arange(0, LEVELS)
        own_CL = i[None, :] - shift_C[:, None]
        known_CL = live[:, None] & (own_CL >= 0) & (own_CL < LEVELS)
        at_CL = at[:, None] + AT_LEVELS + own_CL
        n_CL = tl.load(at_CL, mask=known_CL, other=0.0, cache_modifier=".cg")
        m_CL = tl.load(at_CL + LEVELS, mask=known_CL, other=0.0, cache_modifier=".cg")
        level_L = tl.where(is_exact, (base - i) * step, inf)
        lo, n_lo, m_lo, up, n_up, m_up, hi, n_hi, m_hi = _narrowed(
            level_L, tl.sum(n_CL, 0), tl.sum(m_CL * rescale_C[:, None], 0), k, p, total,
            lowest, count, total, inf, 0.0, 0.0, inf, 0.0, 0.0,
        )
        _store_bracket(state_ptr, lo, n_lo, m_lo, up, n_up, m_up, hi, n_hi, m_hi)
    else:  # all are kept
        _store_bracket(state_ptr, -inf, 0.0, 0.0, -inf, 0.0, 0.0, -inf, 0.0, 0.0)


@triton.jit
def narrow_row(
    logits_ptr, records_ptr, state_ptr, arrived_ptr, scale, p, V, BLOCK: tl.constexpr,
    STRIP: tl.constexpr, CHUNKS: tl.constexpr,
):
    """A chunk's n and m at pivots about where the threshold should be; the last narrows the row.

    Between the bracket's ends the logarithm of n, or m, is taken to be linear.
    """
    chunk = tl.program_id(0)
    peak = tl.load(state_ptr)
    k = tl.load(state_ptr + 1)
    total = tl.load(state_ptr + 2)
    lo, n_lo, m_lo = tl.load(state_ptr + 3), tl.load(state_ptr + 4), tl.load(state_ptr + 5)
    up, n_up, m_up = tl.load(state_ptr + 6), tl.load(state_ptr + 7), tl.load(state_ptr + 8)
    target = tl.where(k > 0.0, k, p * total)
    at_lo = tl.log2(tl.where(k > 0.0, n_lo, m_lo))
    at_up = tl.log2(tl.maximum(tl.where(k > 0.0, n_up, m_up), 1.0))  # the peak itself has 1
    place = (at_lo - tl.log2(target)) / tl.maximum(at_lo - at_up, 1e-6)
    margin: tl.constexpr = LEVELS / (2 * CLUSTER)
    place = tl.minimum(tl.maximum(place, margin), 1.0 - margin)
    i = tl.arange(0, LEVELS)
    place_L = place + (i - (LEVELS - 1) / 2.0) / CLUSTER
    top = tl.minimum(up, peak)
    level_L = lo + (top - lo) * place_L
    n_L, m_L, _ = tally(logits_ptr, chunk * BLOCK, level_L, peak, scale, V, BLOCK, STRIP)
    record_ptr = records_ptr + chunk * RECORD + AT_LEVELS + i
    tl.store(record_ptr, n_L.to(tl.float32))
    tl.store(record_ptr + LEVELS, m_L)
    if arrive(arrived_ptr, tl.num_programs(0)):
        c = tl.arange(0, CHUNKS)
        live_C1 = (c < tl.num_programs(0))[:, None]
        at_CL = records_ptr + c[:, None] * RECORD + AT_LEVELS + i[None, :]
        n_CL = tl.load(at_CL, mask=live_C1, other=0.0, cache_modifier=".cg")
        m_CL = tl.load(at_CL + LEVELS, mask=live_C1, other=0.0, cache_modifier=".cg")
        hi, n_hi, m_hi = tl.load(state_ptr + 9), tl.load(state_ptr + 10), tl.load(state_ptr + 11)
        lo, n_lo, m_lo, up, n_up, m_up, hi, n_hi, m_hi = _narrowed(
            level_L, tl.sum(n_CL, 0), tl.sum(m_CL, 0), k, p, total,
            lo, n_lo, m_lo, up, n_up, m_up, hi, n_hi, m_hi,
        )
        _store_bracket(state_ptr, lo, n_lo, m_lo, up, n_up, m_up, hi, n_hi, m_hi)


@triton.jit
def row_scale(temperature_ptr, row):
    """What logits are multiplied by to be weights' exponents of 2."""
    return LOG2E / tl.maximum(tl.load(temperature_ptr + row), MIN_TEMPERATURE)


@triton.jit
def _scan_kernel(
    logits_ptr, temperature_ptr, top_k_ptr, top_p_ptr, token_ptr, records_ptr, states_ptr,
    arrived_ptr, stride_b, V, BLOCK: tl.constexpr, STRIP: tl.constexpr, CHUNKS: tl.constexpr,
):
    chunk, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    num_chunks = tl.num_programs(0)
    logits_ptr += row * stride_b
    records_ptr += row * num_chunks * RECORD
    record_ptr = records_ptr + chunk * RECORD
    peak, token, count, lowest = scan_chunk(logits_ptr, chunk * BLOCK, V, BLOCK, STRIP)
    tl.store(record_ptr, peak)
    tl.store(record_ptr + 1, token.to(tl.float32))
    tl.store(record_ptr + 2, count.to(tl.float32))
    tl.store(record_ptr + 3, lowest)
    temperature = tl.load(temperature_ptr + row)
    top_k, p = tl.load(top_k_ptr + row), tl.load(top_p_ptr + row)
    scale = row_scale(temperature_ptr, row)
    if (temperature > 0.0) & ((top_k > 0) | (p < 1.0)):
        tally_grid(logits_ptr, chunk * BLOCK, record_ptr, peak, scale, V, BLOCK, STRIP)
    if arrive(arrived_ptr + row, num_chunks):
        begin_row(
            records_ptr, states_ptr + row * STATE, token_ptr + row, num_chunks, temperature, scale,
            top_k, p, CHUNKS,
        )


@triton.jit
def _narrow_kernel(
    logits_ptr, temperature_ptr, top_p_ptr, records_ptr, states_ptr, arrived_ptr, stride_b, V,
    MOST: tl.constexpr, BLOCK: tl.constexpr, STRIP: tl.constexpr, CHUNKS: tl.constexpr,
):
    row = tl.program_id(1).to(tl.int64)
    state_ptr = states_ptr + row * STATE
    if tl.load(state_ptr + 4) - tl.load(state_ptr + 10) > MOST:
        narrow_row(
            logits_ptr + row * stride_b, records_ptr + row * tl.num_programs(0) * RECORD,
            state_ptr, arrived_ptr + row, row_scale(temperature_ptr, row),
            tl.load(top_p_ptr + row), V, BLOCK, STRIP, CHUNKS,
        )


class Brackets(NamedTuple):
    """What `find_brackets` leaves on the device, until the stream's next call."""

    states: torch.Tensor  # [B * STATE] float32
    records: torch.Tensor  # [B * chunks * RECORD] float32, free to be overwritten
    listed: torch.Tensor  # [B * LIST] float32: room for the logits in each bracket
    ids: torch.Tensor  # [B * LIST] int32: and for their tokens
    arrived: torch.Tensor  # [B] int32: chunks that are done; zero between launches
    cursor: torch.Tensor  # [B] int32: logits listed; zero between calls


@lru_cache(maxsize=64)
def _scratch(rows: int, num_chunks: int, device: torch.device) -> Brackets:
    return Brackets(
        torch.empty(rows * STATE.value, dtype=torch.float32, device=device),
        torch.empty(rows * num_chunks * RECORD.value, dtype=torch.float32, device=device),
        torch.empty(rows * LIST.value, dtype=torch.float32, device=device),
        torch.empty(rows * LIST.value, dtype=torch.int32, device=device),
        torch.zeros(rows, dtype=torch.int32, device=device),
        torch.zeros(rows, dtype=torch.int32, device=device),
    )


class Chunks(NamedTuple):
    """How rows of one vocabulary are cut: the same whatever the batch."""

    num: int
    shape: dict[str, int]  # of a launch


def cut_rows(vocab: int) -> Chunks:
    """A program for every 4096 logits: some for each of the device's SMs from three rows on."""
    block = min(4096, max(16, triton.next_power_of_2(vocab)))
    num = triton.cdiv(vocab, block)
    most = triton.next_power_of_2(num)
    return Chunks(num, {"BLOCK": block, "STRIP": min(512, block), "CHUNKS": most, "num_warps": 4})


def find_brackets(
    logits_BV, temperature_B, top_k_B, top_p_B, token_B, *, most: int
) -> Brackets:
    """Bracket each row's threshold, to at most `most` logits if two passes can; greedy tokens."""
    rows, vocab = logits_BV.shape
    chunks = cut_rows(vocab)
    found = _scratch(triton.next_power_of_2(rows), chunks.num, logits_BV.device)
    grid, size = (chunks.num, rows), (logits_BV.stride(0), vocab)
    _scan_kernel[grid](
        logits_BV, temperature_B, top_k_B, top_p_B, token_B, found.records, found.states,
        found.arrived, *size, **chunks.shape,
    )
    _narrow_kernel[grid](
        logits_BV, temperature_B, top_p_B, found.records, found.states, found.arrived, *size,
        MOST=most, **chunks.shape,
    )
    return found
# fmt: on
