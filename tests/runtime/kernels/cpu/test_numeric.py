import numpy as np
import torch

from ramify.runtime.kernels.cpu.jit import jit
from ramify.runtime.kernels.cpu.numeric import exp32, get, put


@jit
def _copy(source, target):
    for i in range(source.size):
        put(target, i, get(source, i))


@jit
def _exp(values, out):
    for i in range(values.size):
        put(out, i, exp32(values[i]))


SPECIAL = [0.0, -0.0, 1.0, 1.00390625, 1.01171875, 3.4e38, -3.4e38, 1e-40, np.inf, -np.inf]


def test_bfloat16_rounds_as_torch_does():
    values = torch.cat((torch.tensor(SPECIAL), torch.randn(1001)))
    out = np.zeros(values.numel(), np.uint16)
    _copy(values.numpy(), out)
    assert torch.equal(torch.from_numpy(out).view(torch.bfloat16), values.bfloat16())


def test_bfloat16_widens_exactly():
    values = torch.randn(333).bfloat16()
    out = np.zeros(333, np.float32)
    _copy(values.view(torch.uint16).numpy(), out)
    assert torch.equal(torch.from_numpy(out), values.float())


def test_nan_survives_rounding_and_exp():
    payloads = np.array([0x7FFFFFFF, 0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    out = np.zeros(3, np.uint16)
    _copy(payloads, out)
    assert torch.from_numpy(out).view(torch.bfloat16).isnan().all()
    exps = np.zeros(3, np.float32)
    _exp(payloads, exps)
    assert np.isnan(exps).all()


def test_exp_is_within_four_units_in_the_last_place():
    values = np.linspace(-87.0, 88.0, 20011).astype(np.float32)
    out = np.zeros_like(values)
    _exp(values, out)
    exact = np.exp(values.astype(np.float64))
    assert np.max(np.abs(out - exact) / exact) < 4 * np.finfo(np.float32).eps


def test_exp_of_minus_infinity_adds_nothing():
    out = np.zeros(1, np.float32)
    _exp(np.array([-np.inf], np.float32), out)
    assert 0.0 <= out[0] < 1e-37
