"""gated in Triton's interpreter against torch."""

import pytest
import torch

from ramify.runtime.kernels.gated import ACTIVATIONS, gated, gated_ref

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("rows", "size"), [(1, 64), (5, 257), (2, 3000), (0, 8)])
def test_equals_reference(activation, rows, size, half):
    x = (4 * torch.randn(rows, 3 * size, device=DEVICE)).to(half)[:, : 2 * size]
    outs = [torch.full((rows, size), float("nan"), device=DEVICE, dtype=half) for _ in range(2)]
    gated(x, outs[0], activation=activation)
    gated_ref(x, outs[1], activation=activation)
    torch.testing.assert_close(outs[0], outs[1])


def test_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="'relu': must be one of silu"):
        gated(torch.zeros(1, 4), torch.zeros(1, 2), activation="relu")
