"""argmax in Triton's interpreter against torch."""

import pytest
import torch

from ramify.runtime.kernels.argmax import argmax, argmax_ref

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(("rows", "vocab"), [(1, 50), (3, 20011), (0, 8)])
def test_equals_reference(rows, vocab):
    torch.manual_seed(0)
    logits = torch.randn(rows, vocab + 1, device=DEVICE).bfloat16()[:, :vocab]  # ties, strides
    ours, theirs = (torch.full((rows,), -7, dtype=torch.int32, device=DEVICE) for _ in range(2))
    argmax(logits, ours)
    argmax_ref(logits, theirs)
    assert torch.equal(
        logits.float().gather(1, ours[:, None].long()),
        logits.float().gather(1, theirs[:, None].long()),
    )
    for row in range(rows):
        assert ours[row] == (logits[row] == logits[row].max()).nonzero()[0, 0]


def test_rows_without_a_choice():
    logits = torch.zeros(4, 9, device=DEVICE)
    logits[0, 3] = float("nan")
    logits[1] = float("-inf")
    logits[2, 5] = float("inf")
    logits[3, 8] = 1.0
    token = torch.zeros(4, dtype=torch.int32, device=DEVICE)
    argmax(logits, token)
    assert token.tolist() == [-1, -1, -1, 8]
