"""Penalties and biases: changes to single logits, E of them, at most one per (row, token).

    x = logits[row, token]
    x = x / r if x > 0 else x * r               r = repetition penalty of the row, if `is_seen`
    x = x - count * f - (p if count > 0)        f, p = frequency and presence penalty of the row
    x = x + bias

B rows of logits, V vocabulary. `count` is how often the token is in the row's output, `is_seen`
whether it is in its prompt or output; a bias of -inf bans a token.
"""

import torch
import triton
import triton.language as tl


def adjust_logits_ref(
    logits_BV, row_E, token_E, count_E, is_seen_E, bias_E, repetition_B, frequency_B, presence_B
) -> None:
    """The same in torch."""
    row, token = row_E.long(), token_E.long()
    x = logits_BV[row, token].float()
    penalty = torch.where(is_seen_E != 0, repetition_B[row], 1.0)
    x = torch.where(x > 0, x / penalty, x * penalty)
    x = x - count_E * frequency_B[row] - torch.where(count_E > 0, presence_B[row], 0.0) + bias_E
    logits_BV[row, token] = x.to(logits_BV.dtype)


@triton.jit
def _adjust_logits_kernel(
    logits_ptr,
    row_ptr,
    token_ptr,
    count_ptr,
    is_seen_ptr,
    bias_ptr,
    repetition_ptr,
    frequency_ptr,
    presence_ptr,
    stride_b,
    E,
    BLOCK: tl.constexpr,
):
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = e < E
    row = tl.load(row_ptr + e, mask=live, other=-1).to(tl.int64)
    live = live & (row >= 0)
    at = logits_ptr + row * stride_b + tl.load(token_ptr + e, mask=live, other=0)
    x = tl.load(at, mask=live, other=0.0).to(tl.float32)
    is_seen = tl.load(is_seen_ptr + e, mask=live, other=0) != 0
    penalty = tl.load(repetition_ptr + row, mask=live & is_seen, other=1.0)
    x = tl.where(x > 0, x / penalty, x * penalty)
    count = tl.load(count_ptr + e, mask=live, other=0)
    x -= count.to(tl.float32) * tl.load(frequency_ptr + row, mask=live, other=0.0)
    x -= tl.load(presence_ptr + row, mask=live & (count > 0), other=0.0)
    x += tl.load(bias_ptr + e, mask=live, other=0.0)
    tl.store(at, x.to(logits_ptr.dtype.element_ty), mask=live)


def adjust_logits(
    logits_BV, row_E, token_E, count_E, is_seen_E, bias_E, repetition_B, frequency_B, presence_B
) -> None:
    """Change logits_BV in place. row_E, token_E, count_E, is_seen_E int32; the rest float32.

    Entries with row -1 are padding.
    """
    if not row_E.shape[0]:
        return
    block = 256
    _adjust_logits_kernel[(triton.cdiv(row_E.shape[0], block),)](
        logits_BV,
        row_E,
        token_E,
        count_E,
        is_seen_E,
        bias_E,
        repetition_B,
        frequency_B,
        presence_B,
        logits_BV.stride(0),
        row_E.shape[0],
        BLOCK=block,
    )
