"""Greedy choice: the index of each row's largest logit, the lowest one of equals.

B rows, V vocabulary. -1 where there is no choice: a row with NaN, or whose maximum is infinite
(all tokens are banned, or the model overflowed). One program per row: at small B the row is short
beside the product that made it, at large B the rows fill the device.
"""

import torch
import triton
import triton.language as tl


def argmax_ref(logits_BV, token_B) -> None:
    """The same in torch."""
    best, index = logits_BV.float().max(-1)
    fits = torch.isfinite(best)  # NaN wins a maximum
    token_B.copy_(torch.where(fits, index, -1))


@triton.jit
def _argmax_kernel(logits_ptr, token_ptr, stride_b, V, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * stride_b
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    index = tl.zeros([BLOCK], tl.int32)
    num_nan = tl.zeros([BLOCK], tl.int32)
    for start in tl.range(0, V, BLOCK, num_stages=4):
        v = start + tl.arange(0, BLOCK)
        x = tl.load(logits_ptr + v, mask=v < V, other=float("-inf")).to(tl.float32)
        num_nan += (x != x).to(tl.int32)
        index = tl.where(x > best, v, index)
        best = tl.where(x > best, x, best)
    top = tl.max(best, 0)
    token = tl.min(tl.where(best == top, index, 2147483647), 0)
    fits = (tl.max(num_nan, 0) == 0) & (tl.abs(top) != float("inf"))
    tl.store(token_ptr + row, tl.where(fits, token, -1))


def argmax(logits_BV, token_B) -> None:
    """logits_BV [B, V] of any float dtype, rows may be strided -> token_B [B] int32."""
    rows, vocab = logits_BV.shape
    if logits_BV.stride(1) != 1:
        raise ValueError("the vocabulary must be contiguous")
    if not rows:
        return
    block = min(4096, triton.next_power_of_2(vocab))
    _argmax_kernel[(rows,)](
        logits_BV,
        token_B,
        logits_BV.stride(0),
        vocab,
        BLOCK=block,
        num_warps=min(16, max(1, block // 256)),
    )
