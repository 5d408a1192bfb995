"""Penalties for tokens that a request's prompt or output holds, from counts kept on the device.

    s = seen[p, v]                              p = the row's state; none: the row is left alone
    x = x / r if x > 0 else x * r               where s > 0; r = repetition penalty
    x = x - n * f - (q if n > 0)                n = s // 2; f, q = frequency and presence penalty

B rows of logits, V vocabulary, P states. seen = 2 x how often the token is in the output, + 1 if it
is in the prompt. Logits are read and written only where something was seen.
"""

import torch
import triton
import triton.language as tl


def penalize_ref(logits_BV, seen_PV, state_B, repetition_B, frequency_B, presence_B) -> None:
    """The same in torch."""
    for row, state in enumerate(state_B.tolist()):
        if state < 0:
            continue
        x, seen = logits_BV[row].float(), seen_PV[state]
        penalty = torch.where(seen > 0, repetition_B[row], 1.0)
        x = torch.where(x > 0, x / penalty, x * penalty)
        count = seen >> 1
        x = x - count * frequency_B[row] - torch.where(count > 0, presence_B[row], 0.0)
        logits_BV[row] = x.to(logits_BV.dtype)


@triton.jit
def _penalize_kernel(
    logits_ptr,
    seen_ptr,
    state_ptr,
    repetition_ptr,
    frequency_ptr,
    presence_ptr,
    stride_b,
    V,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    state = tl.load(state_ptr + row).to(tl.int64)
    if state < 0:
        return
    v = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    seen = tl.load(seen_ptr + state * V + v, mask=v < V, other=0)
    at = logits_ptr + row * stride_b + v
    x = tl.load(at, mask=seen > 0, other=0.0).to(tl.float32)
    penalty = tl.load(repetition_ptr + row)
    x = tl.where(x > 0, x / penalty, x * penalty)
    count = seen >> 1
    x -= count.to(tl.float32) * tl.load(frequency_ptr + row)
    x -= tl.where(count > 0, tl.load(presence_ptr + row), 0.0)
    tl.store(at, x.to(logits_ptr.dtype.element_ty), mask=seen > 0)


def penalize(logits_BV, seen_PV, state_B, repetition_B, frequency_B, presence_B) -> None:
    """Change logits_BV in place. seen_PV int32, contiguous; state_B int32, -1 = none; the rest
    float32."""
    rows, vocab = logits_BV.shape
    if seen_PV.shape[1] != vocab or not seen_PV.is_contiguous() or logits_BV.stride(1) != 1:
        raise ValueError(
            f"seen {tuple(seen_PV.shape)} beside logits {tuple(logits_BV.shape)}: both need the "
            "same vocabulary, contiguous"
        )
    if not rows:
        return
    block = min(2048, triton.next_power_of_2(vocab))
    _penalize_kernel[(rows, triton.cdiv(vocab, block))](
        logits_BV,
        seen_PV,
        state_B,
        repetition_B,
        frequency_B,
        presence_B,
        logits_BV.stride(0),
        vocab,
        BLOCK=block,
    )
