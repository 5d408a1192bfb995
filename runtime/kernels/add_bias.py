"""Biases and bans: logits[row, token] += bias for E single logits; -inf bans a token.

B rows of logits, V vocabulary.
"""

import torch
import triton
import triton.language as tl


def add_bias_ref(logits_BV, row_E, token_E, bias_E) -> None:
    """The same in torch."""
    row, token = row_E.long(), token_E.long()
    logits_BV[row, token] = (logits_BV[row, token].float() + bias_E).to(logits_BV.dtype)


@triton.jit
def _add_bias_kernel(logits_ptr, row_ptr, token_ptr, bias_ptr, stride_b, E, BLOCK: tl.constexpr):
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = e < E
    row = tl.load(row_ptr + e, mask=live, other=0).to(tl.int64)
    at = logits_ptr + row * stride_b + tl.load(token_ptr + e, mask=live, other=0)
    x = tl.load(at, mask=live, other=0.0).to(tl.float32)
    x += tl.load(bias_ptr + e, mask=live, other=0.0)
    tl.store(at, x.to(logits_ptr.dtype.element_ty), mask=live)


def add_bias(logits_BV, row_E, token_E, bias_E: torch.Tensor) -> None:
    """Change logits_BV in place. row_E, token_E int32, each pair once; bias_E float32."""
    if not row_E.shape[0]:
        return
    block = 256
    _add_bias_kernel[(triton.cdiv(row_E.shape[0], block),)](
        logits_BV, row_E, token_E, bias_E, logits_BV.stride(0), row_E.shape[0], BLOCK=block
    )
