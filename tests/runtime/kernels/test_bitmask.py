"""apply_bitmask in Triton's interpreter against torch."""

import pytest
import torch

from ramify.runtime.kernels.bitmask import apply_bitmask, apply_bitmask_ref

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("vocab", [31, 32, 1000, 5003])
def test_equals_reference(vocab):
    torch.manual_seed(0)
    words = (vocab + 31) // 32
    table = torch.randint(-(2**31), 2**31, (6, words + 1), device=DEVICE, dtype=torch.int32)
    table[3], table[4] = 0, -1
    rows = torch.tensor([2, -1, 0, 2, 3, 4], dtype=torch.int32, device=DEVICE)
    logits = torch.randn(6, vocab + 7, device=DEVICE).bfloat16()
    expected = logits.clone()
    apply_bitmask(logits[:, :vocab], table[:, :words], rows)
    apply_bitmask_ref(expected[:, :vocab], table[:, :words], rows)
    assert torch.equal(logits, expected)  # what lies past the vocabulary too


def test_short_table_is_refused():
    table = torch.zeros(1, 2, dtype=torch.int32)
    with pytest.raises(ValueError, match="at least 3 words"):
        apply_bitmask(torch.zeros(1, 65), table, torch.zeros(1, dtype=torch.int32))


def test_no_rows():
    table = torch.zeros(1, 2, dtype=torch.int32)
    apply_bitmask(torch.zeros(0, 64), table, torch.zeros(0, dtype=torch.int32))
