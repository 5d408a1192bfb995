"""chunk_attention in Triton's interpreter against torch in float64."""

import pytest
import torch

from ramify.runtime.kernels.chunk_attention import chunk_attention, chunk_attention_ref

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(
    ("rows", "end"), [(1, 1), (63, 63), (64, 64), (130, 130), (1, 200), (65, 200), (100, 163)]
)
@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(3, 1, 16), (4, 2, 64)])
def test_equals_reference(rows, end, heads, kv_heads, size, half):
    torch.manual_seed(0)
    qkv = torch.randn(rows, heads + 2, size + 16, device=DEVICE).to(half)
    q = qkv[:, :heads, :size]  # strided rows and heads
    k, v = torch.randn(2, end, kv_heads, size, device=DEVICE).to(half)
    ours, theirs = (torch.full((rows, heads, size), float("nan"), device=DEVICE) for _ in range(2))
    ours = ours.to(half)
    chunk_attention(q, k, v, ours, scale=0.3)
    chunk_attention_ref(q, k, v, theirs, scale=0.3)
    torch.testing.assert_close(ours.float(), theirs, atol=1e-2, rtol=1e-2)


def test_what_does_not_fit_is_refused():
    q, k = torch.zeros(2, 4, 96), torch.zeros(3, 2, 96)
    with pytest.raises(ValueError, match="head size must be one of"):
        chunk_attention(q, k, k, q, scale=1.0)
    q, k = torch.zeros(4, 4, 64), torch.zeros(3, 2, 64)
    with pytest.raises(ValueError, match="positions at least the rows"):
        chunk_attention(q, k, k, q, scale=1.0)


def test_no_rows():
    empty = torch.zeros(0, 4, 64, device=DEVICE)
    k = torch.zeros(3, 2, 64, device=DEVICE)
    chunk_attention(empty, k, k, empty, scale=1.0)
