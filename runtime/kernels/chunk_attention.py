"""Causal attention of one long chunk over K and V that lie in order: for prefill.

out[t, h] = sum_j p[j] v[j],  p = softmax over j <= J - T + t of scale q[t, h] . k[j]

T query rows, the last of J positions; H query heads, K KV heads, D head size. `attention` reads K
and V slot by slot; here tiles of them are fetched by the tensor memory accelerator, which pays for
putting them in order first. Rows see whole tiles without a mask up to their own.
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

LOG2E = 1.4426950408889634
HEAD_SIZES = (16, 32, 64, 128)
_ROWS = 64  # of a tile; with 4 warps two programs fit an SM: one multiplies while one takes powers
_BLOCK = 64  # positions of a step


def chunk_attention_ref(q_THD, k_JKD, v_JKD, out_THD, *, scale) -> None:
    """The same in torch, in float64."""
    rows, end = len(q_THD), len(k_JKD)
    group = q_THD.shape[1] // k_JKD.shape[1]
    k_JHD = k_JKD.double().repeat_interleave(group, 1)
    v_JHD = v_JKD.double().repeat_interleave(group, 1)
    score_HTJ = torch.einsum("thd,jhd->htj", q_THD.double(), k_JHD) * scale
    position_T = torch.arange(end - rows, end, device=q_THD.device)
    seen_TJ = torch.arange(end, device=q_THD.device)[None] <= position_T[:, None]
    p_HTJ = score_HTJ.masked_fill(~seen_TJ, float("-inf")).softmax(-1)
    out_THD.copy_(torch.einsum("htj,jhd->thd", p_HTJ, v_JHD))


# fmt: off
@triton.jit
def _step(
    acc, m, total, q, k_desc, v_desc, start, column, position, to_log2, BLOCK: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr,
):
    """Add positions [start, start + BLOCK) to the running softmax."""
    k = k_desc.load([start, column])
    s = tl.dot(q, k.T, input_precision=PRECISION)
    if MASKED:
        j = start + tl.arange(0, BLOCK)
        s = tl.where(j[None, :] <= position[:, None], s, float("-inf"))
    m_new = tl.maximum(m, tl.max(s, 1) * to_log2)
    p = tl.exp2(s * to_log2 - m_new[:, None])
    shrink = tl.exp2(m - m_new)
    total = total * shrink + tl.sum(p, 1)
    v = v_desc.load([start, column])
    acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision=PRECISION)
    return acc, m_new, total


@triton.jit
def _chunk_attention_kernel(
    q_ptr, k_desc, v_desc, out_ptr, stride_qt, stride_qh, stride_ot, stride_oh, T, J, to_log2,
    GROUP: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One head's ROWS rows; those that see most come first."""
    head = tl.program_id(0)
    tile = tl.num_programs(1) - 1 - tl.program_id(1)
    row = tile * ROWS + tl.arange(0, ROWS)
    d = tl.arange(0, D)
    live = (row < T)[:, None]
    at_q = q_ptr + row.to(tl.int64)[:, None] * stride_qt + head * stride_qh + d[None, :]
    q = tl.load(at_q, mask=live, other=0.0)
    first = J - T + tile * ROWS  # position of the first row
    position = J - T + row
    column = head // GROUP * D
    m = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, D], tl.float32)
    seen_by_all = (first + 1) // BLOCK * BLOCK
    for start in tl.range(0, seen_by_all, BLOCK):
        acc, m, total = _step(
            acc, m, total, q, k_desc, v_desc, start, column, position, to_log2, BLOCK, False,
            PRECISION,
        )
    for start in tl.range(seen_by_all, tl.minimum(J, first + ROWS), BLOCK):
        acc, m, total = _step(
            acc, m, total, q, k_desc, v_desc, start, column, position, to_log2, BLOCK, True,
            PRECISION,
        )
    at_out = out_ptr + row.to(tl.int64)[:, None] * stride_ot + head * stride_oh + d[None, :]
    tl.store(at_out, (acc / total[:, None]).to(out_ptr.dtype.element_ty), mask=live)
# fmt: on


def chunk_attention(q_THD, k_JKD, v_JKD, out_THD, *, scale) -> None:
    """Write the attention of q_THD [T, H, D] over k_JKD, v_JKD [J, K, D] to out_THD [T, H, D].

    All of one type. q and out may have any row and head stride; k and v are contiguous.
    """
    rows, num_heads, head_size = q_THD.shape
    end, num_kv_heads = k_JKD.shape[:2]
    if head_size not in HEAD_SIZES or num_heads % num_kv_heads or rows > end:
        raise ValueError(
            f"q {tuple(q_THD.shape)}, k {tuple(k_JKD.shape)}: the head size must be one of "
            f"{HEAD_SIZES}, query heads a multiple of KV heads, positions at least the rows"
        )
    if q_THD.stride(2) != 1 or out_THD.stride(2) != 1 or not scale > 0:
        raise ValueError("the head dimension must be contiguous and scale positive")
    if not (k_JKD.is_contiguous() and v_JKD.is_contiguous()):
        raise ValueError("k and v must be contiguous")
    if not rows:
        return
    width = num_kv_heads * head_size
    k_desc, v_desc = (
        TensorDescriptor(x, [end, width], [width, 1], [_BLOCK, head_size]) for x in (k_JKD, v_JKD)
    )
    _chunk_attention_kernel[(num_heads, triton.cdiv(rows, _ROWS))](
        q_THD,
        k_desc,
        v_desc,
        out_THD,
        q_THD.stride(0),
        q_THD.stride(1),
        out_THD.stride(0),
        out_THD.stride(1),
        rows,
        end,
        scale * LOG2E,
        GROUP=num_heads // num_kv_heads,
        D=head_size,
        ROWS=_ROWS,
        BLOCK=_BLOCK,
        PRECISION="ieee" if q_THD.dtype == torch.float32 else "tf32",
        num_warps=4,
        num_stages=3,
    )
