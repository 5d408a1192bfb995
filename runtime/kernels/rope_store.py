"""What stands between the QKV product and attention, in one launch: per-head norm of q and k, the
rotation by position, and the store of k and v in the pool.

    q, k = norm(q), norm(k)                                   where the model has such norms
    (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin)            over the first R of D dimensions
    k_pool[out_loc[t]], v_pool[out_loc[t]] = k[t], v[t]       where out_loc[t] >= 0

x1 and x2 are the halves of the rotated dimensions (Hugging Face checkpoints), or, `interleaved`,
its even and odd elements. T tokens, H query heads, K KV heads, D head size, R rotated dimensions,
S slots, P positions. Everything is computed in float32; normed q and k are rounded to their dtype
before the rotation, as in the reference models.
"""

import torch
import triton
import triton.language as tl

from ramify.runtime.kernels.dependent_launch import (
    dependent_launch,
    let_next_begin,
    wait_for_previous,
)


def rope_store_ref(
    qkv_THD,
    positions_T,
    out_loc_T,
    cos_PR,
    sin_PR,
    k_pool_SKD,
    v_pool_SKD,
    *,
    q_norm_D=None,
    k_norm_D=None,
    eps=0.0,
    interleaved=False,
) -> None:
    """The same in torch."""
    num_kv_heads, _head_size = k_pool_SKD.shape[1:]
    num_heads = qkv_THD.shape[1] - 2 * num_kv_heads
    q_THD, k_TKD, v_TKD = qkv_THD.split([num_heads, num_kv_heads, num_kv_heads], dim=1)
    cos, sin = cos_PR[positions_T.long()][:, None], sin_PR[positions_T.long()][:, None]

    def turn(x, norm_D):
        wide = x.float()
        if norm_D is not None:
            wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * norm_D.float()
            wide = wide.to(x.dtype).float()
        out, half = wide.clone(), cos.shape[-1]
        first = slice(0, 2 * half, 2) if interleaved else slice(0, half)
        second = slice(1, 2 * half, 2) if interleaved else slice(half, 2 * half)
        out[..., first] = wide[..., first] * cos - wide[..., second] * sin
        out[..., second] = wide[..., second] * cos + wide[..., first] * sin
        return out.to(x.dtype)

    q_THD.copy_(turn(q_THD, q_norm_D))
    stored = out_loc_T >= 0
    slots = out_loc_T[stored].long()
    k_pool_SKD[slots] = turn(k_TKD, k_norm_D)[stored].to(k_pool_SKD.dtype)
    v_pool_SKD[slots] = v_TKD[stored].to(v_pool_SKD.dtype)


@triton.jit
def _rope_store_kernel(
    qkv_ptr,
    positions_ptr,
    out_loc_ptr,
    cos_ptr,
    sin_ptr,
    k_pool_ptr,
    v_pool_ptr,
    q_norm_ptr,
    k_norm_ptr,
    stride_t,
    stride_h,
    stride_ks,
    stride_kh,
    stride_vs,
    stride_vh,
    eps,
    H: tl.constexpr,
    K: tl.constexpr,
    D: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK_H: tl.constexpr,
    BLOCK_D: tl.constexpr,
    HAS_Q_NORM: tl.constexpr,
    HAS_K_NORM: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    DEPENDENT: tl.constexpr,
):
    """One program per token and BLOCK_H of the heads of q, k and v."""
    let_next_begin(DEPENDENT)
    wait_for_previous(DEPENDENT)
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    d = tl.arange(0, BLOCK_D)
    slot = tl.load(out_loc_ptr + token + tl.zeros([BLOCK_H], tl.int32)).to(tl.int64)
    is_q = head < H
    is_k = (head >= H) & (head < H + K) & (slot >= 0)
    is_v = (head >= H + K) & (head < H + 2 * K) & (slot >= 0)
    live = (is_q | is_k | is_v)[:, None] & (d < D)[None, :]
    at = qkv_ptr + token * stride_t + head[:, None] * stride_h
    x = tl.load(at + d[None, :], mask=live, other=0.0)
    at_v = v_pool_ptr + slot * stride_vs + (head - H - K).to(tl.int64) * stride_vh
    tl.store(
        at_v[:, None] + d[None, :], x.to(v_pool_ptr.dtype.element_ty), mask=live & is_v[:, None]
    )

    # Each element's partner in its pair: i + HALF, i - HALF, or i itself past the rotation.
    turned = d < 2 * HALF
    if INTERLEAVED:
        pair = tl.where(turned, d ^ 1, d)
        angle = tl.where(turned, d // 2, 0)
        is_first = d % 2 == 0
    else:
        pair = tl.where(turned, tl.where(d < HALF, d + HALF, d - HALF), d)
        angle = tl.where(turned, tl.where(d < HALF, d, d - HALF), 0)
        is_first = d < HALF
    y = tl.load(at + pair[None, :], mask=live, other=0.0)
    wide, wide_y = x.to(tl.float32), y.to(tl.float32)
    if HAS_Q_NORM or HAS_K_NORM:
        rms = tl.sqrt(tl.sum(wide * wide, 1) / D + eps)[:, None]
        normed, normed_y = wide / rms, wide_y / rms
        if HAS_Q_NORM:
            weight = tl.load(q_norm_ptr + d, mask=d < D, other=0.0).to(tl.float32)
            weight_y = tl.load(q_norm_ptr + pair, mask=d < D, other=0.0).to(tl.float32)
            wide = tl.where(is_q[:, None], normed * weight[None, :], wide)
            wide_y = tl.where(is_q[:, None], normed_y * weight_y[None, :], wide_y)
        if HAS_K_NORM:
            weight = tl.load(k_norm_ptr + d, mask=d < D, other=0.0).to(tl.float32)
            weight_y = tl.load(k_norm_ptr + pair, mask=d < D, other=0.0).to(tl.float32)
            wide = tl.where(is_k[:, None], normed * weight[None, :], wide)
            wide_y = tl.where(is_k[:, None], normed_y * weight_y[None, :], wide_y)
        wide = wide.to(x.dtype).to(tl.float32)
        wide_y = wide_y.to(x.dtype).to(tl.float32)
    position = tl.load(positions_ptr + token).to(tl.int64)
    cos = tl.load(cos_ptr + position * HALF + angle, mask=turned, other=1.0)
    sin = tl.load(sin_ptr + position * HALF + angle, mask=turned, other=0.0)
    sin = tl.where(is_first, -sin, sin)
    out = (wide * cos[None, :] + wide_y * sin[None, :]).to(x.dtype)
    tl.debug_barrier()  # a partner may be another thread's element: all are read by now
    tl.store(at + d[None, :], out, mask=live & is_q[:, None])
    at_k = k_pool_ptr + slot * stride_ks + (head - H).to(tl.int64) * stride_kh
    rounded = out.to(k_pool_ptr.dtype.element_ty)
    tl.store(at_k[:, None] + d[None, :], rounded, mask=live & is_k[:, None])


def rope_store(
    qkv_THD,
    positions_T,
    out_loc_T,
    cos_PR,
    sin_PR,
    k_pool_SKD,
    v_pool_SKD,
    *,
    q_norm_D=None,
    k_norm_D=None,
    eps=0.0,
    interleaved=False,
) -> None:
    """Rotate q in place; store k, rotated, and v.

    qkv_THD [T, H + 2 K, D], heads of q, k, v in this order (tokens may be strided); positions_T
    [T]; out_loc_T [T] int32, -1 = not stored; cos_PR, sin_PR [P, R / 2] float32.
    """
    num_tokens, num_all, head_size = qkv_THD.shape
    num_kv_heads = k_pool_SKD.shape[1]
    half = cos_PR.shape[1]
    if k_pool_SKD.shape[2] != head_size or 2 * half > head_size:
        raise ValueError(
            f"head size {head_size}, pool's {k_pool_SKD.shape[2]}, {2 * half} rotated dimensions: "
            "the first two must be equal and the third at most as large"
        )
    if not (cos_PR.is_contiguous() and sin_PR.is_contiguous() and qkv_THD.stride(2) == 1):
        raise ValueError("cos, sin and the head dimension of qkv must be contiguous")
    if not num_tokens:
        return
    # Few tokens: a program for each head, so that they run side by side.
    block_h = 1 if num_tokens <= 16 else min(16, triton.next_power_of_2(num_all))
    _rope_store_kernel[(num_tokens, triton.cdiv(num_all, block_h))](
        qkv_THD,
        positions_T,
        out_loc_T,
        cos_PR,
        sin_PR,
        k_pool_SKD,
        v_pool_SKD,
        cos_PR if q_norm_D is None else q_norm_D,
        cos_PR if k_norm_D is None else k_norm_D,
        qkv_THD.stride(0),
        qkv_THD.stride(1),
        k_pool_SKD.stride(0),
        k_pool_SKD.stride(1),
        v_pool_SKD.stride(0),
        v_pool_SKD.stride(1),
        eps,
        H=num_all - 2 * num_kv_heads,
        K=num_kv_heads,
        D=head_size,
        HALF=half,
        BLOCK_H=block_h,
        BLOCK_D=triton.next_power_of_2(head_size),
        HAS_Q_NORM=q_norm_D is not None,
        HAS_K_NORM=k_norm_D is not None,
        INTERLEAVED=interleaved,
        num_warps=1 if block_h == 1 else 4,
        **dependent_launch(qkv_THD.device),
    )
