"""Engines on the bundled model, shared by the stories of this folder."""

import pytest

from ramify.runtime.engine import Engine


@pytest.fixture(scope="session")
def exact_engine():
    """float32, so that a different batch cannot change a greedy token by rounding."""
    with Engine(dtype="float32", max_total_tokens=16384) as engine:
        yield engine
