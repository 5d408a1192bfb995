"""Engines on the bundled model, shared by the stories of this folder."""

import itertools

import pytest

from ramify.runtime.engine import Engine


@pytest.fixture(scope="session")
def exact_engine():
    """float32, so that a different batch cannot change a greedy token by rounding."""
    with Engine(dtype="float32", max_total_tokens=16384) as engine:
        yield engine


@pytest.fixture
def retract_often(monkeypatch):
    """Has an engine send back everything that runs before every n-th step."""

    def retract(engine: Engine, every: int) -> None:
        scheduler = engine._worker._scheduler
        plan, steps = scheduler.plan, itertools.count(1)

        def plan_after_retraction():
            if next(steps) % every == 0:
                scheduler.retract_all()
            return plan()

        monkeypatch.setattr(scheduler, "plan", plan_after_retraction)

    return retract
