"""adjust_logits in Triton's interpreter against torch."""

import torch

from ramify.runtime.kernels.adjust_logits import adjust_logits, adjust_logits_ref

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def test_equals_reference():
    torch.manual_seed(0)
    rows, vocab, entries = 5, 101, 300
    where = torch.randperm(rows * vocab, device=DEVICE)[:entries]
    row, token = (where // vocab).int(), (where % vocab).int()
    count = torch.randint(0, 4, (entries,), device=DEVICE, dtype=torch.int32)
    is_seen = ((count > 0) | (torch.rand(entries, device=DEVICE) < 0.3)).int()
    bias = torch.randn(entries, device=DEVICE)
    bias[7] = float("-inf")
    repetition = 1 + torch.rand(rows, device=DEVICE)
    frequency, presence = torch.randn(rows, device=DEVICE), torch.randn(rows, device=DEVICE)
    ours = torch.randn(rows, vocab + 3, device=DEVICE)[:, :vocab]
    theirs = ours.clone()
    arguments = [row, token, count, is_seen, bias, repetition, frequency, presence]
    adjust_logits_ref(theirs, *arguments)
    padded = [torch.cat([a, a[:2]]) if a.shape[0] == entries else a for a in arguments]
    padded[0][-2:] = -1  # padding
    adjust_logits(ours, *padded)
    torch.testing.assert_close(ours, theirs)
    assert ours[row[7], token[7]] == float("-inf")


def test_no_entries():
    none = torch.zeros(0, dtype=torch.int32, device=DEVICE)
    one = torch.ones(1, device=DEVICE)
    adjust_logits(torch.zeros(1, 4, device=DEVICE), *[none] * 4, none.float(), one, one, one)
