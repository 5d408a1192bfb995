"""linear_small in Triton's interpreter against torch."""

import pytest
import torch

from ramify.runtime.kernels.linear_small import (
    LinearTiles,
    choose_linear_tiles,
    linear_small,
    linear_small_ref,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(
    ("rows", "outputs", "inputs", "tiles"),
    [
        (1, 67, 130, LinearTiles(2, 64, 1, 4, 2)),
        (1, 33, 256, LinearTiles(16, 64, 4, 4, 2)),
        (3, 65, 200, LinearTiles(32, 64, 1, 4, 2)),
        (16, 64, 257, LinearTiles(32, 32, 4, 4, 2)),
        (33, 40, 96, LinearTiles(16, 32, 2, 4, 2)),
        (2, 31, 64, LinearTiles(16, 64, 4, 4, 2)),  # more parts than K has blocks
        (5, 70, 128, None),
        (1, 70, 128, None),
        (0, 8, 8, None),
    ],
)
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_equals_reference(rows, outputs, inputs, tiles, with_bias, activation):
    if activation is not None and tiles is not None:
        tiles = tiles._replace(split_k=1)
    torch.manual_seed(0)
    num_weights = outputs if activation is None else 2 * outputs
    x = torch.randn(rows, inputs + 5, device=DEVICE)[:, :inputs]
    w = torch.randn(num_weights, inputs + 3, device=DEVICE)[:, :inputs]
    bias = torch.randn(num_weights, device=DEVICE) if with_bias else None
    expected = torch.empty(rows, outputs, device=DEVICE)
    linear_small_ref(x, w, expected, bias_N=bias, activation=activation)
    for _ in range(2):  # the second call finds the arrival counts as the first left them
        y = torch.full((rows, outputs), float("nan"), device=DEVICE)
        linear_small(x, w, y, bias_N=bias, activation=activation, tiles=tiles)
        torch.testing.assert_close(y, expected, atol=2e-4, rtol=1e-4)


def test_unknown_activation_is_refused():
    x, w, y = torch.zeros(1, 8), torch.zeros(4, 8), torch.zeros(1, 2)
    with pytest.raises(ValueError, match="'relu': must be one of silu"):
        linear_small(x, w, y, activation="relu")


def test_too_many_rows_are_refused():
    with pytest.raises(ValueError, match="65 rows: at most 64"):
        linear_small(torch.zeros(65, 8), torch.zeros(4, 8), torch.zeros(65, 4))


def test_tiles_split_k_where_outputs_are_few():
    assert choose_linear_tiles(8, 4096, 14336).split_k == 2
    assert choose_linear_tiles(8, 1024, 3072).split_k == 4
    assert choose_linear_tiles(8, 28672, 4096).split_k == 1
    assert choose_linear_tiles(8, 576, 576 + 1).split_k == 1
