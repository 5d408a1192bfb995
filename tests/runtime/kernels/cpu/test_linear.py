import pytest
import torch

from ramify.runtime.kernels.cpu.linear import linear, linear_ref
from ramify.runtime.kernels.cpu.team import ThreadTeam

DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(scope="module")
def team():
    team = ThreadTeam(2)
    yield team
    team.close()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "n", "k"), [(1, 4, 32), (1, 1, 1), (3, 5, 77), (15, 63, 257), (130, 129, 64), (9, 7, 31)]
)
def test_op_equals_reference(team, dtype, m, n, k):
    x, w = torch.randn(m, k, dtype=dtype), torch.randn(n, k, dtype=dtype)
    torch.testing.assert_close(linear(x, w, team), linear_ref(x, w), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_bits_alone_and_in_any_batch(team, dtype):
    x, w = torch.randn(143, 91, dtype=dtype), torch.randn(70, 91, dtype=dtype)
    together = linear(x, w, team)
    for row in (0, 1, 7, 8, 100, 127, 128, 142):
        assert torch.equal(linear(x[row : row + 1], w, team)[0], together[row])


def test_empty_batch_gives_an_empty_result(team):
    assert linear(torch.zeros(0, 16), torch.zeros(8, 16), team).shape == (0, 8)


def test_nan_stays_in_its_row(team):
    x = torch.randn(5, 40)
    x[2, 39] = torch.nan
    out = linear(x, torch.randn(9, 40), team)
    assert out[2].isnan().all() and out[[0, 1, 3, 4]].isfinite().all()


def test_one_thread_computes_what_two_do(team):
    single = ThreadTeam(1)
    x, w = torch.randn(17, 50), torch.randn(300, 50)
    assert torch.equal(linear(x, w, single), linear(x, w, team))
