"""sample in Triton's interpreter against sorting in torch."""

import pytest
import torch

from ramify.runtime.kernels.sample import sample, sample_ref

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def draw(fn, logits, temperature, top_k, top_p, min_p, uniform):
    rows = logits.shape[0]

    def column(value):
        return torch.full((rows,), value, device=DEVICE)

    token = torch.full((rows,), -7, dtype=torch.int32, device=DEVICE)
    fn(
        logits,
        column(float(temperature)),
        column(top_k).int(),
        column(float(top_p)),
        column(float(min_p)),
        uniform,
        token,
    )
    return token.tolist()


@pytest.mark.parametrize("temperature", [0.0, 1e-9, 0.7, 2.0])
@pytest.mark.parametrize(
    ("top_k", "top_p", "min_p"),
    [
        (-1, 1.0, 0.0),
        (1, 1.0, 0.0),
        (10, 1.0, 0.0),
        (-1, 0.8, 0.0),
        (-1, 1.0, 0.1),
        (20, 0.5, 0.05),
    ],
)
def test_equals_sorting(temperature, top_k, top_p, min_p):
    torch.manual_seed(0)
    logits = (3 * torch.randn(12, 301, device=DEVICE))[:, :300]
    logits[:, 10:40] = float("-inf")  # masked tokens are never drawn
    logits[3, :50] = logits[3, 60]  # ties
    uniform = torch.rand(12, device=DEVICE)
    ours = draw(sample, logits, temperature, top_k, top_p, min_p, uniform)
    assert ours == draw(sample_ref, logits, temperature, top_k, top_p, min_p, uniform)


def test_half_precision_and_several_blocks():
    torch.manual_seed(0)
    logits = (2 * torch.randn(3, 20000, device=DEVICE)).half()
    uniform = torch.tensor([0.1, 0.5, 0.999999], device=DEVICE)
    ours = draw(sample, logits, 1.0, 50, 0.9, 0.0, uniform)
    assert ours == draw(sample_ref, logits, 1.0, 50, 0.9, 0.0, uniform)


def test_draws_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, 2.0, float("-inf"), 1.0]], device=DEVICE).expand(150, 5)
    uniform = torch.arange(150, device=DEVICE) / 150
    tokens = torch.tensor(draw(sample, logits.contiguous(), 1.0, -1, 1.0, 0.0, uniform))
    expected = torch.tensor([0.0, 1.0, 2.0, float("-inf"), 1.0]).softmax(0)
    shares = torch.bincount(tokens, minlength=5) / 150
    assert (shares - expected).abs().max() < 0.01


def test_rows_without_a_choice():
    logits = torch.zeros(3, 9, device=DEVICE)
    logits[0, 3] = float("nan")
    logits[1] = float("-inf")
    logits[2, 4] = float("inf")
    uniform = torch.zeros(3, device=DEVICE)
    assert draw(sample, logits, 1.0, -1, 0.9, 0.0, uniform) == [-1, -1, -1]


def test_fewer_tokens_allowed_than_top_k():
    logits = torch.full((1, 40), float("-inf"), device=DEVICE)
    logits[0, 7] = -3.0
    assert draw(sample, logits, 1.0, 5, 0.9, 0.1, torch.tensor([0.99], device=DEVICE)) == [7]


def test_no_rows():
    empty = torch.zeros(0, 5, device=DEVICE)
    assert draw(sample, empty, 1.0, 5, 0.9, 0.1, torch.zeros(0, device=DEVICE)) == []


@pytest.mark.parametrize("spread", [0.0, 0.01, 1.0, 30.0])
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [
        (1.0, -1, 0.9),  # flat: the bracket is narrowed, and searched in the row if that fails
        (1.0, 6000, 1.0),
        (1.0, 6000, 0.5),  # more between the two thresholds than the list holds
        (0.02, 300, 0.99),
    ],
)
def test_any_spread_of_the_logits(spread, temperature, top_k, top_p):
    torch.manual_seed(1)
    logits = spread * torch.randn(2, 9000, device=DEVICE) - 7.0
    uniform = torch.tensor([0.30004, 0.90004], device=DEVICE)
    ours = draw(sample, logits, temperature, top_k, top_p, 0.0, uniform)
    assert ours == draw(sample_ref, logits, temperature, top_k, top_p, 0.0, uniform)


@pytest.mark.parametrize(("top_k", "top_p"), [(-1, 0.7), (5000, 1.0), (5000, 0.4)])
def test_thresholds_with_too_many_logits_near_them_to_list(top_k, top_p):
    torch.manual_seed(0)
    logits = torch.randint(0, 2, (3, 20000), device=DEVICE).float()
    logits[1] = torch.randn(20000, device=DEVICE)  # a row that can be listed, between the others
    uniform = torch.tensor([0.2, 0.4, 0.9], device=DEVICE)
    ours = draw(sample, logits, 1.0, top_k, top_p, 0.0, uniform)
    assert ours == draw(sample_ref, logits, 1.0, top_k, top_p, 0.0, uniform)


def test_draws_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    logits = torch.randn(5, 6000, device=DEVICE)
    uniform = torch.rand(5, device=DEVICE)
    together = draw(sample, logits, 0.9, 500, 0.9, 0.01, uniform)
    alone = [
        draw(sample, logits[i : i + 1], 0.9, 500, 0.9, 0.01, uniform[i : i + 1])[0]
        for i in range(5)
    ]
    assert together == alone


def test_rows_with_parameters_of_their_own():
    torch.manual_seed(0)
    logits = 2 * torch.randn(4, 700, device=DEVICE)
    logits[2] *= 1e6  # past the grid of levels
    columns = [
        torch.tensor([0.0, 0.5, 1e-9, 1.5], device=DEVICE),
        torch.tensor([5, -1, 50, 20], dtype=torch.int32, device=DEVICE),
        torch.tensor([0.5, 0.7, 0.9, 1.0], device=DEVICE),
        torch.tensor([0.0, 0.0, 0.0, 0.2], device=DEVICE),
        torch.tensor([0.5, 0.1, 0.99, 0.7], device=DEVICE),
    ]
    ours, theirs = (torch.full((4,), -7, dtype=torch.int32, device=DEVICE) for _ in range(2))
    sample(logits, *columns, ours)
    sample_ref(logits, *columns, theirs)
    assert ours.tolist() == theirs.tolist()
