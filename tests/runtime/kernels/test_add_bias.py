"""add_bias in Triton's interpreter against torch."""

import torch

from ramify.runtime.kernels.add_bias import add_bias, add_bias_ref

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def test_equals_reference():
    torch.manual_seed(0)
    rows, vocab, entries = 5, 101, 300
    where = torch.randperm(rows * vocab, device=DEVICE)[:entries]
    row, token = (where // vocab).int(), (where % vocab).int()
    bias = torch.randn(entries, device=DEVICE)
    bias[7] = float("-inf")
    ours = torch.randn(rows, vocab + 3, device=DEVICE)[:, :vocab]
    theirs = ours.clone()
    add_bias_ref(theirs, row, token, bias)
    add_bias(ours, row, token, bias)
    torch.testing.assert_close(ours, theirs)
    assert ours[row[7], token[7]] == float("-inf")


def test_no_entries():
    none = torch.zeros(0, dtype=torch.int32, device=DEVICE)
    add_bias(torch.zeros(1, 4, device=DEVICE), none, none, none.float())
