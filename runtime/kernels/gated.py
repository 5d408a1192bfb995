"""The gate of an MLP: out = act(gate) * up, where [gate, up] = gate_up, in float32.

T rows, I intermediate size; act is silu(x) = x / (1 + e^-x), gelu(x) = x (1 + erf(x / sqrt 2)) / 2,
or gelu_tanh, its approximation by tanh(sqrt(2 / pi) (x + 0.044715 x^3)).
"""

import torch
import triton
import triton.language as tl

from ramify.runtime.kernels.dependent_launch import (
    dependent_launch,
    let_next_begin,
    wait_for_previous,
)

ACTIVATIONS = ("silu", "gelu", "gelu_tanh")


def gated_ref(gate_up_TI, out_TI, *, activation="silu") -> None:
    """The same in torch."""
    gate, up = gate_up_TI.float().chunk(2, dim=-1)
    functional = torch.nn.functional
    if activation == "silu":
        gate = functional.silu(gate)
    else:
        gate = functional.gelu(gate, approximate="tanh" if activation == "gelu_tanh" else "none")
    out_TI.copy_(gate * up)


@triton.jit
def activate(gate, ACTIVATION: tl.constexpr):
    """act(gate), float32."""
    if ACTIVATION == "silu":
        gate = gate / (1.0 + tl.exp(-gate))
    elif ACTIVATION == "gelu":
        gate = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    else:
        x = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
        gate = gate * (1.0 - 1.0 / (1.0 + tl.exp(2.0 * x)))  # (1 + tanh x) / 2
    return gate


@triton.jit
def _gated_kernel(
    gate_up_ptr,
    out_ptr,
    stride_in,
    stride_out,
    SIZE,
    ACTIVATION: tl.constexpr,
    BLOCK: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    let_next_begin(DEPENDENT)
    wait_for_previous(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = i < SIZE
    at = gate_up_ptr + row * stride_in + i
    gate = tl.load(at, mask=live, other=0.0).to(tl.float32)
    up = tl.load(at + SIZE, mask=live, other=0.0).to(tl.float32)
    gate = activate(gate, ACTIVATION)
    tl.store(out_ptr + row * stride_out + i, (gate * up).to(out_ptr.dtype.element_ty), mask=live)


def gated(gate_up_TI, out_TI, *, activation="silu") -> None:
    """gate_up_TI [T, 2 I] -> out_TI [T, I]; rows may be strided."""
    rows, size = out_TI.shape
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation={activation!r}: must be one of {', '.join(ACTIVATIONS)}")
    if gate_up_TI.shape != (rows, 2 * size) or gate_up_TI.stride(1) != 1 or out_TI.stride(1) != 1:
        raise ValueError(f"gate_up {tuple(gate_up_TI.shape)}: must be ({rows}, {2 * size}) by rows")
    if not rows:
        return
    block = min(2048, triton.next_power_of_2(size))
    _gated_kernel[(rows, triton.cdiv(size, block))](
        gate_up_TI,
        out_TI,
        gate_up_TI.stride(0),
        out_TI.stride(0),
        size,
        ACTIVATION=activation,
        BLOCK=block,
        num_warps=min(8, max(1, block // 256)),
        **dependent_launch(out_TI.device),
    )
