"""logprobs in Triton's interpreter against log_softmax and sort."""

import pytest
import torch

from ramify.runtime.kernels.logprobs import logprobs, logprobs_ref

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(
    ("rows", "vocab", "top"), [(3, 50, 5), (3, 300, 250), (2, 20011, 3), (2, 9, 9), (1, 7, 0)]
)
def test_equals_reference(rows, vocab, top):
    torch.manual_seed(0)
    logits = (4 * torch.randn(rows, vocab + 1, device=DEVICE)).bfloat16()[:, :vocab]
    logits[0, 1] = float("-inf")
    logits[-1, : vocab // 2] = logits[-1, 0]  # ties: the lower id first
    token = torch.randint(2, vocab, (rows,), device=DEVICE, dtype=torch.int32)
    results = []
    for fn in (logprobs, logprobs_ref):
        out = torch.full((rows,), float("nan"), device=DEVICE)
        values = torch.full((rows, top), float("nan"), device=DEVICE)
        ids = torch.full((rows, top), -7, dtype=torch.int32, device=DEVICE)
        fn(logits, token, out, values, ids)
        results.append((out, values, ids))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


def test_more_than_the_vocabulary_is_refused():
    ids = torch.zeros(1, 9, dtype=torch.int32)
    with pytest.raises(ValueError, match="9 likeliest tokens of a vocabulary of 5"):
        logprobs(torch.zeros(1, 5), ids[:, 0], torch.zeros(1), torch.zeros(1, 9), ids)


def test_flat_rows_and_rows_with_few_finite_logits():
    torch.manual_seed(0)
    logits = 0.3 * torch.randn(3, 9000, device=DEVICE)
    logits[1, 4:] = float("-inf")
    logits[2] = 1.0  # all equal: the row itself is searched
    token = torch.tensor([5, 2, 8999], device=DEVICE, dtype=torch.int32)
    results = []
    for fn in (logprobs, logprobs_ref):
        out = torch.full((3,), float("nan"), device=DEVICE)
        values = torch.full((3, 7), float("nan"), device=DEVICE)
        ids = torch.full((3, 7), -7, dtype=torch.int32, device=DEVICE)
        fn(logits, token, out, values, ids)
        results.append((out, values, ids))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


def test_rows_that_are_not_finite():
    logits = torch.zeros(2, 50, device=DEVICE)
    logits[0, 3] = float("nan")
    logits[1, 4] = float("inf")
    out, values = torch.zeros(2, device=DEVICE), torch.zeros(2, 3, device=DEVICE)
    ids = torch.zeros(2, 3, dtype=torch.int32, device=DEVICE)
    logprobs(logits, ids[:, 0].contiguous(), out, values, ids)
    assert out.isnan().all()
    assert values.isnan().all()
    assert (ids == -1).all()
