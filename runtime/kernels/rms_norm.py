"""Root-mean-square norm with the residual sum before it, in float32:

    x = x + residual,  out = x / sqrt(mean(x^2) + eps) * (offset + weight)

T rows, C hidden size. `residual` receives the sum, in its own dtype, before the norm reads it, so
that the stream equals one kept by separate adds. `offset` is 1 for models whose stored weight is
the distance from 1 (Gemma), else 0.
"""

import torch
import triton
import triton.language as tl

from ramify.runtime.kernels.dependent_launch import (
    dependent_launch,
    let_next_begin,
    wait_for_previous,
)


def rms_norm_ref(x_TC, weight_C, out_TC, *, eps, residual_TC=None, offset=0.0) -> None:
    """The same in torch."""
    wide = x_TC.float()
    if residual_TC is not None:
        residual_TC.copy_(wide + residual_TC.float())
        wide = residual_TC.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    out_TC.copy_(wide * (offset + weight_C.float()))


@triton.jit
def _rms_norm_kernel(
    x_ptr,
    weight_ptr,
    out_ptr,
    residual_ptr,
    stride_x,
    stride_out,
    stride_residual,
    eps,
    offset,
    C,
    HAS_RESIDUAL: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    let_next_begin(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    c = tl.arange(0, BLOCK)
    live = c < C
    weight = tl.load(weight_ptr + c, mask=live, other=0.0).to(tl.float32)
    wait_for_previous(DEPENDENT)
    x = tl.load(x_ptr + row * stride_x + c, mask=live, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        at = residual_ptr + row * stride_residual + c
        total = x + tl.load(at, mask=live, other=0.0).to(tl.float32)
        total = total.to(residual_ptr.dtype.element_ty)
        tl.store(at, total, mask=live)
        x = total.to(tl.float32)
    rms = tl.sqrt(tl.sum(x * x, 0) / C + eps)
    out = x / rms * (offset + weight)
    tl.store(out_ptr + row * stride_out + c, out.to(out_ptr.dtype.element_ty), mask=live)


def rms_norm(x_TC, weight_C, out_TC, *, eps, residual_TC=None, offset=0.0) -> None:
    """Write the norm of x_TC (+ residual_TC, updated in place) to out_TC; rows may be strided."""
    rows, size = x_TC.shape
    for name, tensor in (("x", x_TC), ("out", out_TC), ("residual", residual_TC)):
        if tensor is not None and (tensor.shape != x_TC.shape or tensor.stride(1) != 1):
            raise ValueError(f"{name}: {tuple(tensor.shape)}, must be {tuple(x_TC.shape)} by rows")
    if not rows:
        return
    block = triton.next_power_of_2(size)
    residual = x_TC if residual_TC is None else residual_TC
    _rms_norm_kernel[(rows,)](
        x_TC,
        weight_C,
        out_TC,
        residual,
        x_TC.stride(0),
        out_TC.stride(0),
        residual.stride(0),
        eps,
        offset,
        size,
        HAS_RESIDUAL=residual_TC is not None,
        BLOCK=block,
        num_warps=min(16, max(1, block // 512)),
        **dependent_launch(x_TC.device),
    )
