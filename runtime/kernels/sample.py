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

Six launches, of which `scan` and `list` read the logits once each:

    scan    each chunk's maximum, sum of weights, and its groups' maxima
    bound   from these, for each row a bracket of its threshold
    narrow  only for rows so flat that this says little: what lies above levels within the bracket
    list    the bracket's logits, and the weight that each chunk has above it
    finish  the thresholds, found in the list; the draw
    search  only for rows whose list is too long (top-p that keeps more than ten thousand tokens,
            as many equal logits): the same by bisection over the row, which takes longer
"""

import torch
import triton

from ramify.runtime.kernels.argmax import argmax_ref
from ramify.runtime.kernels.sample_bracket import MIN_TEMPERATURE, cut_rows, find_brackets
from ramify.runtime.kernels.sample_draw import finish_kernel, list_kernel
from ramify.runtime.kernels.sample_rows import search_rows_kernel


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
    found = find_brackets(logits_BV, temperature_B, top_k_B, top_p_B, token_B)
    chunks = cut_rows(vocab)
    kept, places = found.records, (found.listed, found.ids, found.cursor)
    size = (logits_BV.stride(0), vocab)
    cut = {"BLOCK": chunks.block, "STRIP": chunks.strip, "CHUNKS": chunks.most}
    # fmt: off
    list_kernel[(chunks.num, rows)](
        logits_BV, temperature_B, min_p_B, found.states, kept, *places, *size, TO_TOP=False,
        **cut, num_warps=4,
    )
    finish_kernel[(rows,)](
        logits_BV, temperature_B, top_p_B, min_p_B, uniform_B, token_B, found.states, kept,
        *places, *size, chunks.num, **cut, num_warps=8,
    )
    block = min(4096, triton.next_power_of_2(vocab))
    search_rows_kernel[(rows,)](
        logits_BV, temperature_B, top_k_B, top_p_B, min_p_B, uniform_B, token_B, found.states,
        *size, BLOCK=block, num_warps=min(16, max(1, block // 256)),
    )
    # fmt: on
