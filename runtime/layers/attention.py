"""Attention over the slots of a KV pool: write this step's K and V, then read.

T tokens in the batch, S slots in the pool, H query heads, K key-value heads, D head size. The order
is part of the contract: `store_kv` of a layer runs for the whole batch before `attention` of that
layer, so a row may read a slot that another request of the same step writes.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention

from ramify.runtime.executor.batch import Batch


def store_kv(
    k_TKD: torch.Tensor,
    v_TKD: torch.Tensor,
    k_pool_SKD: torch.Tensor,
    v_pool_SKD: torch.Tensor,
    out_loc_T: torch.Tensor,
) -> None:
    """Write each token's K and V to its slot; rows whose slot is -1 are not stored."""
    stored = out_loc_T >= 0
    slots = out_loc_T[stored].long()
    k_pool_SKD[slots] = k_TKD[stored]
    v_pool_SKD[slots] = v_TKD[stored]


def attention(
    q_THD: torch.Tensor,
    k_pool_SKD: torch.Tensor,
    v_pool_SKD: torch.Tensor,
    batch: Batch,
    window: int | None,
) -> torch.Tensor:
    """Causal attention of each row over its request's slots up to its own position: [T, H, D].

    `window` = positions a row sees, itself included; None = all. Scores are scaled by D**-0.5.
    """
    out_THD = torch.empty_like(q_THD)
    q_start = kv_start = 0
    for q_len, kv_len in zip(batch.q_lens, batch.kv_lens, strict=True):
        slots = batch.slot_ids[kv_start : kv_start + kv_len].long()
        k_HSD = k_pool_SKD[slots].transpose(0, 1)
        v_HSD = v_pool_SKD[slots].transpose(0, 1)
        rows = slice(q_start, q_start + q_len)
        out_THD[rows] = _one_request(q_THD[rows].transpose(0, 1), k_HSD, v_HSD, window)
        q_start += q_len
        kv_start += kv_len
    return out_THD


def _one_request(
    q_HTD: torch.Tensor, k_KSD: torch.Tensor, v_KSD: torch.Tensor, window: int | None
) -> torch.Tensor:
    """The last T of S positions attend: [T, H, D]."""
    group = q_HTD.shape[0] // k_KSD.shape[0]
    k_HSD = k_KSD.repeat_interleave(group, dim=0)
    v_HSD = v_KSD.repeat_interleave(group, dim=0)
    q_len, kv_len = q_HTD.shape[1], k_HSD.shape[1]
    narrow = window is not None and window < kv_len
    mask = None
    if narrow or (1 < q_len < kv_len):
        key = torch.arange(kv_len, device=q_HTD.device)
        query = key[kv_len - q_len :, None]
        mask = key <= query
        if narrow:
            assert window is not None
            mask &= key > query - window
    out_HTD = scaled_dot_product_attention(
        q_HTD[None],
        k_HSD[None],
        v_HSD[None],
        attn_mask=mask,
        is_causal=mask is None and q_len > 1,
    )[0]
    return out_HTD.transpose(0, 1)
