"""One draw per row after temperature, top-k, top-p and min-p, without sorting.

B rows, V vocabulary. With w(x) = exp((x - max) / temperature), a token is kept if its logit x is at
least each of

    the largest t with count(x >= t) >= top_k
    the largest t with sum of w over x >= t at least top_p times the sum of w that top-k keeps
    max + temperature * log(min_p)

and the draw is by inverse CDF in the order of token ids: the first kept token at which the running
sum of w passes uniform * total. Tokens tied with the last one kept are kept too. `uniform` comes
from the request's seed and position. How a row is cut and added up depends on V alone, so a draw
does not depend on the batch. temperature 0 is the largest logit; -1 as in `argmax`, where there is
no choice.

Each row is cut into chunks, a program for each; whoever finishes a row's last chunk goes on for the
row. Three launches, of which each reads the logits once and does nothing for rows that need none:

    scan    each chunk's maximum, and what it has above levels of a grid: a bracket of the threshold
    narrow  only where a bracket holds more logits than a list: what lies above pivots within it
    choose  the bracket's logits are listed, the thresholds found in the list, the token drawn

A bracket that is still too long after that (some ten thousand equal logits, top_k of thousands) is
searched in the row itself: slower, with the same result.
"""

import torch
import triton
import triton.language as tl

from ramify.runtime.kernels.argmax import argmax_ref
from ramify.runtime.kernels.sample_bracket import (
    LIST,
    MIN_TEMPERATURE,
    RECORD,
    STATE,
    arrive,
    cut_rows,
    find_brackets,
    row_scale,
)
from ramify.runtime.kernels.sample_draw import draw, find_floor, list_chunk


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


# fmt: off
@triton.jit
def _choose_kernel(
    logits_ptr, temperature_ptr, top_p_ptr, min_p_ptr, uniform_ptr, token_ptr, records_ptr,
    states_ptr, list_ptr, ids_ptr, arrived_ptr, cursor_ptr, stride_b, V, BLOCK: tl.constexpr,
    STRIP: tl.constexpr, CHUNKS: tl.constexpr,
):
    chunk, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    state_ptr = states_ptr + row * STATE
    peak = tl.load(state_ptr)
    if peak == peak:
        num_chunks = tl.num_programs(0)
        logits_ptr += row * stride_b
        kept_ptr = records_ptr + row * num_chunks * RECORD
        list_ptr += row * LIST
        ids_ptr += row * LIST
        scale = row_scale(temperature_ptr, row)
        min_p = tl.load(min_p_ptr + row)
        least = float("-inf")
        if min_p > 0.0:
            least = peak + tl.log2(min_p) / scale
        hi = tl.load(state_ptr + 9)
        num = (tl.load(state_ptr + 4) - tl.load(state_ptr + 10)).to(tl.int32)
        is_listed = num <= LIST
        kept = list_chunk(
            logits_ptr, chunk * BLOCK, list_ptr, ids_ptr, cursor_ptr + row, tl.load(state_ptr + 3),
            hi, tl.maximum(hi, least), peak, scale, V, is_listed & (num > 0), BLOCK,
        )
        tl.store(kept_ptr + chunk, kept)
        if arrive(arrived_ptr + row, num_chunks):
            tl.store(cursor_ptr + row, 0)
            num = tl.where(is_listed, num, V)
            floor = hi
            if num > 0:
                floor = find_floor(
                    list_ptr, logits_ptr, state_ptr, num, is_listed, tl.load(top_p_ptr + row),
                    scale, STRIP,
                )
            token = draw(
                list_ptr, ids_ptr, logits_ptr, kept_ptr, num, is_listed, num_chunks,
                tl.maximum(floor, least), hi, peak, scale, tl.load(uniform_ptr + row), V, BLOCK,
                STRIP, CHUNKS,
            )
            tl.store(token_ptr + row, token)


def sample(logits_BV, temperature_B, top_k_B, top_p_B, min_p_B, uniform_B, token_B) -> None:
    """Draw token_B [B] int32 from logits_BV [B, V], of any float dtype; rows may be strided.

    temperature, top_p, min_p, uniform (in [0, 1)) are [B] float32; top_k [B] int32, -1 = all.
    Calls share scratch memory: run them on one stream.
    """
    rows, vocab = logits_BV.shape
    if logits_BV.stride(1) != 1:
        raise ValueError("the vocabulary must be contiguous")
    if not rows:
        return
    found = find_brackets(
        logits_BV, temperature_B, top_k_B, top_p_B, token_B, most=LIST.value
    )
    chunks = cut_rows(vocab)
    _choose_kernel[(chunks.num, rows)](
        logits_BV, temperature_B, top_p_B, min_p_B, uniform_B, token_B, found.records,
        found.states, found.listed, found.ids, found.arrived, found.cursor, logits_BV.stride(0),
        vocab, **chunks.shape,
    )
# fmt: on
