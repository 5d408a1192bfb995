"""Log-probabilities of one token per row and of the N likeliest, straight from the logits.

    logprob(t) = x[t] - log sum_v exp(x[v])

B rows, V vocabulary, N likeliest tokens (in order; the lower id first among equals). Nothing of
size B x V is written: the sum is kept in float32 registers, and each of the N likeliest is one more
pass over the row, which by then is in the L2 cache (N is at most 20).
"""

import torch
import triton
import triton.language as tl


def logprobs_ref(logits_BV, token_B, logprob_B, top_logprob_BN, top_token_BN) -> None:
    """The same in torch."""
    all_BV = logits_BV.double().log_softmax(-1)
    logprob_B.copy_(all_BV.gather(1, token_B.long()[:, None])[:, 0])
    ranked = torch.sort(all_BV, dim=-1, descending=True, stable=True)
    top_logprob_BN.copy_(ranked.values[:, : top_logprob_BN.shape[1]])
    top_token_BN.copy_(ranked.indices[:, : top_token_BN.shape[1]])


@triton.jit
def _logprobs_kernel(
    logits_ptr,
    token_ptr,
    logprob_ptr,
    top_logprob_ptr,
    top_token_ptr,
    stride_b,
    V,
    N,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * stride_b
    peak = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    for start in tl.range(0, V, BLOCK, num_stages=4):
        v = start + tl.arange(0, BLOCK)
        x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(peak, x)
        shift = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(peak - shift) + tl.exp(x - shift)
        peak = higher
    top = tl.max(peak, 0)
    lse = top + tl.log(tl.sum(total * tl.exp(peak - top), 0))
    token = tl.load(token_ptr + row)
    tl.store(logprob_ptr + row, tl.load(logits_ptr + token).to(tl.float32) - lse)

    last_x, last_v = float("inf"), -1
    for n in range(N):  # the best that comes after the one before, by logit, then by id
        best = tl.full([BLOCK], float("-inf"), tl.float32)
        index = tl.full([BLOCK], 2147483647, tl.int32)
        for start in tl.range(0, V, BLOCK, num_stages=4):
            v = start + tl.arange(0, BLOCK)
            x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
            after = (v < V) & ((x < last_x) | ((x == last_x) & (v > last_v)))
            better = after & ((x > best) | (index == 2147483647))
            index = tl.where(better, v, index)
            best = tl.where(better, x, best)
        # Lanes that found nothing hold -inf and the largest id: they lose to any that did.
        last_x = tl.max(best, 0)
        last_v = tl.min(tl.where(best == last_x, index, 2147483647), 0)
        tl.store(top_logprob_ptr + row * N + n, last_x - lse)
        tl.store(top_token_ptr + row * N + n, last_v)


def logprobs(logits_BV, token_B, logprob_B, top_logprob_BN, top_token_BN) -> None:
    """logits_BV [B, V], token_B [B] int -> logprob_B [B], top_logprob_BN [B, N] float32,
    top_token_BN [B, N] int32; N may be 0.
    """
    rows, vocab = logits_BV.shape
    num_top = top_token_BN.shape[1]
    if logits_BV.stride(1) != 1 or not top_token_BN.is_contiguous():
        raise ValueError("the vocabulary and the top tokens must be contiguous")
    if num_top > vocab:
        raise ValueError(f"{num_top} likeliest tokens of a vocabulary of {vocab}")
    if not rows:
        return
    block = min(8192, triton.next_power_of_2(vocab))
    _logprobs_kernel[(rows,)](
        logits_BV,
        token_B,
        logprob_B,
        top_logprob_BN,
        top_token_BN,
        logits_BV.stride(0),
        vocab,
        num_top,
        BLOCK=block,
        num_warps=min(16, max(1, block // 512)),
    )
