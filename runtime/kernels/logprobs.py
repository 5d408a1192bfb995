"""Log-probabilities of one token per row and of the N likeliest, straight from the logits.

    logprob(t) = x[t] - log sum_v exp(x[v])

B rows, V vocabulary, N likeliest tokens (in order; the lower id first among equals). Nothing of
size B x V is written: as `sample` does for top-k, each row's sum and a bracket that holds its N
largest are found chunk by chunk, and what is in the bracket is listed and put in order. A row with
NaN, or without a finite maximum, has NaN throughout, and -1 for its likeliest tokens.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from ramify.runtime.kernels.sample_bracket import LIST, STATE, cut_rows, find_brackets
from ramify.runtime.kernels.sample_draw import list_kernel
from ramify.runtime.kernels.sample_search import BIG, listed


def logprobs_ref(logits_BV, token_B, logprob_B, top_logprob_BN, top_token_BN) -> None:
    """The same in torch."""
    all_BV = logits_BV.double().log_softmax(-1)
    logprob_B.copy_(all_BV.gather(1, token_B.long()[:, None])[:, 0])
    ranked = torch.sort(all_BV, dim=-1, descending=True, stable=True)
    top_logprob_BN.copy_(ranked.values[:, : top_logprob_BN.shape[1]])
    top_token_BN.copy_(ranked.indices[:, : top_token_BN.shape[1]])


# fmt: off
@triton.jit
def _rank(
    list_ptr, ids_ptr, logits_ptr, num, is_listed, lse, top_logprob_ptr, top_token_ptr, N,
    STRIP: tl.constexpr,
):
    """Each time the best that comes after the one before, by logit, then by id."""
    last_x, last_v = float("inf"), -1
    for n in range(N):
        best = tl.full([STRIP], float("-inf"), tl.float32)
        index = tl.full([STRIP], BIG, tl.int32)
        for start in range(0, num, STRIP):
            at = start + tl.arange(0, STRIP)
            x = listed(list_ptr, logits_ptr, at, num, is_listed)
            v = at
            if is_listed:
                v = tl.load(ids_ptr + at, mask=at < num, other=BIG)
            after = (at < num) & ((x < last_x) | ((x == last_x) & (v > last_v)))
            better = after & ((x > best) | (index == BIG) | ((x == best) & (v < index)))
            index = tl.where(better, v, index)
            best = tl.where(better, x, best)
        # Lanes that found nothing hold -inf and the largest id: they lose to any that did.
        last_x = tl.max(best, 0)
        last_v = tl.min(tl.where(best == last_x, index, BIG), 0)
        tl.store(top_logprob_ptr + n, last_x - lse)
        tl.store(top_token_ptr + n, last_v)


@triton.jit
def _likeliest_kernel(
    logits_ptr, token_ptr, logprob_ptr, top_logprob_ptr, top_token_ptr, states_ptr, list_ptr,
    ids_ptr, cursor_ptr, stride_b, V, N, STRIP: tl.constexpr,
):
    """One row: its token's log-probability, and its list put in order."""
    row = tl.program_id(0).to(tl.int64)
    state_ptr = states_ptr + row * STATE
    logits_ptr += row * stride_b
    peak, k, total = tl.load(state_ptr), tl.load(state_ptr + 1), tl.load(state_ptr + 2)
    num = tl.load(cursor_ptr + row)
    tl.debug_barrier()  # all threads have read it
    tl.store(cursor_ptr + row, 0)
    lse = peak + tl.log(total)
    x = tl.load(logits_ptr + tl.load(token_ptr + row)).to(tl.float32)
    tl.store(logprob_ptr + row, x - lse)
    top_logprob_ptr += row * N
    top_token_ptr += row * N
    if peak == peak:
        is_listed = (k > 0.0) & (num <= LIST)  # k is 0 where fewer than N are above -inf
        num = tl.where(is_listed, num, V)
        _rank(
            list_ptr + row * LIST, ids_ptr + row * LIST, logits_ptr, num, is_listed, lse,
            top_logprob_ptr, top_token_ptr, N, STRIP,
        )
    else:
        for n in range(N):
            tl.store(top_logprob_ptr + n, lse)
            tl.store(top_token_ptr + n, -1)


@lru_cache(maxsize=64)
def _parameters(
    rows: int, num_top: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ones (temperature and top_p), zeros (min_p) and top_k of each row."""
    ones = torch.ones(rows, dtype=torch.float32, device=device)
    top_k = torch.full((rows,), num_top, dtype=torch.int32, device=device)
    return ones, torch.zeros_like(ones), top_k


def logprobs(logits_BV, token_B, logprob_B, top_logprob_BN, top_token_BN) -> None:
    """logits_BV [B, V], token_B [B] int -> logprob_B [B], top_logprob_BN [B, N] float32,
    top_token_BN [B, N] int32; N may be 0. Calls share scratch memory: run them on one stream.
    """
    rows, vocab = logits_BV.shape
    num_top = top_token_BN.shape[1]
    if logits_BV.stride(1) != 1 or not top_token_BN.is_contiguous():
        raise ValueError("the vocabulary and the top tokens must be contiguous")
    if num_top > vocab:
        raise ValueError(f"{num_top} likeliest tokens of a vocabulary of {vocab}")
    if not rows:
        return

    ones, zeros, top_k = _parameters(triton.next_power_of_2(rows), num_top, logits_BV.device)
    greedy = torch.empty(rows, dtype=torch.int32, device=logits_BV.device)
    found = find_brackets(logits_BV, ones, top_k, ones, greedy)
    chunks = cut_rows(vocab)
    places, size = (found.listed, found.ids, found.cursor), (logits_BV.stride(0), vocab)
    if num_top:
        list_kernel[(chunks.num, rows)](
            logits_BV, ones, zeros, found.states, found.records, *places, *size,
            TO_TOP=True, BLOCK=chunks.block, STRIP=chunks.strip, CHUNKS=chunks.most, num_warps=4,
        )
    _likeliest_kernel[(rows,)](
        logits_BV, token_B, logprob_B, top_logprob_BN, top_token_BN, found.states, *places, *size,
        num_top, STRIP=chunks.strip, num_warps=4,
    )
# fmt: on
