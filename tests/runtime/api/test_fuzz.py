"""Whatever is sent, the server answers by the rules and is unharmed; `fuzzing` does more of it."""

import pytest

from ramify.runtime.engine import Engine
from tests.runtime.api.fuzzing import attacks, fuzz


@pytest.mark.parametrize("worker", ["thread", "process"])
async def test_random_requests_leave_the_server_as_it_was(tiny_model_dir, worker):
    options = {"dtype": "float32", "max_total_tokens": 4096, "worker": worker}
    with Engine(str(tiny_model_dir("llama")), **options) as engine:
        ends = await fuzz(engine, seed=5, count=600)
    assert ends["200"] > 60
    assert ends["left"] > 60
    assert len(ends) > 8, "most kinds of refusal are met"


def test_a_seed_gives_the_same_requests():
    assert attacks(3, 50) == attacks(3, 50) != attacks(4, 50)
