"""rope_store in Triton's interpreter against torch."""

import pytest
import torch

from ramify.runtime.kernels.rope_store import rope_store, rope_store_ref

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "rotated"), [(4, 2, 64, 64), (3, 1, 80, 32), (2, 2, 96, 96)]
)
@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize("interleaved", [False, True])
def test_equals_reference(heads, kv_heads, size, rotated, norms, interleaved, half):
    torch.manual_seed(0)
    tokens, slots = 9, 20
    dtype = half
    wide = torch.randn(tokens, heads + 2 * kv_heads + 1, size, device=DEVICE).to(dtype)
    positions = torch.randint(0, 50, (tokens,), device=DEVICE)
    out_loc = torch.randperm(slots, device=DEVICE)[:tokens].int()
    out_loc[2] = out_loc[8] = -1  # padding
    angles = torch.rand(50, rotated // 2, device=DEVICE) * 6
    cos, sin = angles.cos(), angles.sin()
    q_norm, k_norm = (torch.rand(size, device=DEVICE).to(dtype) for _ in range(2))
    options = {"q_norm_D": q_norm, "k_norm_D": k_norm, "eps": 1e-6} if norms else {}
    results = []
    for fn in (rope_store, rope_store_ref):
        qkv = wide.clone()[:, :-1]  # strided tokens
        pools = [
            torch.full((slots, kv_heads, size), float("nan"), device=DEVICE, dtype=dtype)
            for _ in range(2)
        ]
        fn(qkv, positions, out_loc, cos, sin, *pools, interleaved=interleaved, **options)
        results.append((qkv[:, :heads], *pools))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2, equal_nan=True)
    untouched = set(range(slots)) - set(out_loc.tolist())
    assert results[0][1][sorted(untouched)].isnan().all()


def test_no_tokens():
    empty = torch.zeros(0, 4, 8, device=DEVICE)
    index = torch.zeros(0, dtype=torch.int32, device=DEVICE)
    table, pool = torch.zeros(3, 4, device=DEVICE), torch.zeros(2, 1, 8, device=DEVICE)
    rope_store(empty, index, index, table, table, pool, pool)


def test_shapes_are_checked():
    index = torch.zeros(1, dtype=torch.int32)
    table, pool = torch.zeros(3, 8), torch.zeros(2, 1, 8)
    with pytest.raises(ValueError, match="16 rotated dimensions"):
        rope_store(torch.zeros(1, 4, 8), index, index, table, table, pool, pool)
