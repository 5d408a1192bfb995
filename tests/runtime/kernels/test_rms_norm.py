"""rms_norm in Triton's interpreter against torch."""

import pytest
import torch

from ramify.runtime.kernels.rms_norm import rms_norm, rms_norm_ref

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize(("rows", "size"), [(1, 64), (7, 257), (3, 576), (0, 8)])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
def test_equals_reference(rows, size, wide, with_residual, half):
    dtype = torch.float32 if wide else half
    x = torch.randn(rows, 2 * size, device=DEVICE).to(dtype)[:, :size]  # strided rows
    weight = torch.rand(size, device=DEVICE).to(dtype)
    residual = torch.randn(rows, size, device=DEVICE).to(dtype) if with_residual else None
    sums = [None if residual is None else residual.clone() for _ in range(2)]
    outs = [torch.full((rows, size), float("nan"), device=DEVICE, dtype=dtype) for _ in range(2)]
    for fn, out, total in zip((rms_norm, rms_norm_ref), outs, sums, strict=True):
        fn(x, weight, out, eps=1e-5, residual_TC=total, offset=1.0)
    torch.testing.assert_close(outs[0], outs[1])
    if with_residual:
        assert torch.equal(sums[0], sums[1])


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="out"):
        rms_norm(torch.zeros(2, 8), torch.zeros(8), torch.zeros(2, 9), eps=1e-5)
