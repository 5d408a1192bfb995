import math
from types import SimpleNamespace

import pytest
import torch

from ramify.runtime.layers.attention import attention, store_kv


def _naive(q, k, v, window):
    """One request, row by row: q [T, H, D] are the last rows of k, v [S, H, D]."""
    out = torch.empty_like(q)
    for t in range(len(q)):
        position = len(k) - len(q) + t
        first = 0 if window is None else max(0, position + 1 - window)
        keys, values = k[first : position + 1], v[first : position + 1]
        scores = torch.einsum("hd,shd->hs", q[t], keys) / math.sqrt(q.shape[-1])
        out[t] = torch.einsum("hs,shd->hd", scores.softmax(-1), values)
    return out


@pytest.mark.parametrize("window", [None, 1, 5])
def test_mixed_batch_equals_naive_attention(window):
    heads, kv_heads, dim = 6, 3, 10
    q_lens, kv_lens = (1, 7, 4, 3), (9, 7, 11, 3)
    k_pool, v_pool = torch.randn(2, 64, kv_heads, dim)
    slots = [torch.randperm(64)[:n].int() for n in kv_lens]
    batch = SimpleNamespace(q_lens=q_lens, kv_lens=kv_lens, slot_ids=torch.cat(slots))
    q = torch.randn(sum(q_lens), heads, dim)
    got = attention(q, k_pool, v_pool, batch, window).split(q_lens)
    for rows, own, out in zip(q.split(q_lens), slots, got, strict=True):
        keys, values = (
            pool[own.long()].repeat_interleave(heads // kv_heads, dim=1)
            for pool in (k_pool, v_pool)
        )
        torch.testing.assert_close(out, _naive(rows, keys, values, window))


def test_rows_without_a_slot_are_not_stored():
    pool_k, pool_v = torch.zeros(2, 4, 1, 2)
    k, v = torch.ones(3, 1, 2), torch.full((3, 1, 2), 2.0)
    store_kv(k, v, pool_k, pool_v, torch.tensor([2, -1, 0], dtype=torch.int32))
    assert pool_k[[0, 2]].eq(1).all() and pool_k[[1, 3]].eq(0).all()
    assert pool_v[[0, 2]].eq(2).all() and pool_v[[1, 3]].eq(0).all()
