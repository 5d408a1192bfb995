"""Penalties: the kernel beside its reference."""

import pytest
import torch

from ramify.runtime.kernels.penalties import penalize, penalize_ref


@pytest.mark.parametrize("vocab", [1, 37, 2048, 2300])
def test_penalties_equal_the_reference(vocab):
    torch.manual_seed(vocab)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    wide = torch.randn(4, vocab + 5, device=device)
    logits = wide[:, :vocab]  # strided
    seen = torch.randint(-6, 8, (3, vocab), dtype=torch.int32, device=device).clamp(min=0)
    state = torch.tensor([2, -1, 0, 2], dtype=torch.int32, device=device)
    repetition = torch.tensor([1.0, 9.0, 1.3, 0.7], device=device)
    frequency = torch.tensor([0.5, 9.0, -0.25, 0.0], device=device)
    presence = torch.tensor([0.0, 9.0, 1.0, -0.5], device=device)
    logits[0, 0] = -torch.inf
    expected = logits.clone()
    penalize_ref(expected, seen, state, repetition, frequency, presence)
    padding = wide[:, vocab:].clone()
    penalize(logits, seen, state, repetition, frequency, presence)
    torch.testing.assert_close(logits, expected)
    assert torch.equal(wide[:, vocab:], padding)


def test_states_of_another_vocabulary_are_refused():
    with pytest.raises(ValueError, match="same vocabulary"):
        penalize(torch.zeros(1, 8), torch.zeros(1, 9, dtype=torch.int32), *[torch.zeros(1)] * 4)


def test_no_rows():
    none = torch.zeros(0)
    penalize(torch.zeros(0, 8), torch.zeros(1, 8, dtype=torch.int32), none, none, none, none)
