"""The scheduler against an oracle: whatever it decides, each request's tokens stay the same."""

import random

import msgspec
import pytest

from ramify.runtime.scheduler import planner
from tests.runtime.scheduler.harness import Harness, workload

POLICIES = ("lpm", "fcfs", "lof", "dfs-weight", "random", "priority")


@pytest.mark.parametrize("is_ahead", [False, True])
@pytest.mark.parametrize("chunk", [16, 64, -1])
@pytest.mark.parametrize("policy", POLICIES)
def test_answers_equal_the_oracle_for_every_policy_and_chunk_size(policy, chunk, is_ahead):
    harness = Harness(
        schedule_policy=policy,
        chunked_prefill_size=chunk,
        max_prefill_tokens=96,
        is_ahead=is_ahead,
    )
    for spec in workload(1, 60):
        harness.add(spec)
    harness.run()
    harness.check_ledger()


@pytest.mark.parametrize("disable_radix_cache", [False, True])
@pytest.mark.parametrize("retract_every", [0, 1, 3])
@pytest.mark.parametrize("chunk", [16, -1])
@pytest.mark.parametrize("num_slots", [52, 150])
@pytest.mark.parametrize("is_ahead", [False, True])
def test_answers_survive_a_tiny_pool_and_forced_retraction(
    num_slots, chunk, retract_every, disable_radix_cache, is_ahead, monkeypatch
):
    monkeypatch.setattr(planner, "DECODE_RESERVE", 0)
    harness = Harness(
        num_slots,
        chunked_prefill_size=chunk,
        max_prefill_tokens=48,
        disable_radix_cache=disable_radix_cache,
        is_ahead=is_ahead,
    )
    for spec in workload(2, 40):
        harness.add(spec)
    harness.run(retract_every=retract_every)
    harness.check_ledger()
    assert harness.scheduler.stats().num_retracted > 0


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("is_ahead", [False, True])
def test_chaos_of_arrivals_aborts_deadlines_and_failures_ends_everything_once(
    policy, seed, is_ahead, monkeypatch
):
    rng = random.Random(seed)
    monkeypatch.setattr(planner, "DECODE_RESERVE", rng.choice((0, 2, 64)))
    harness = Harness(
        rng.choice((60, 120, 1000)),
        schedule_policy=policy,
        chunked_prefill_size=rng.choice((16, -1)),
        max_prefill_tokens=rng.choice((8, 40, 200)),
        max_running_requests=rng.choice((2, 8, 64)),
        disable_radix_cache=rng.random() < 0.3,
        is_ahead=is_ahead,
    )
    arriving = workload(seed, 80)
    while arriving or harness.scheduler.has_work:
        for spec in arriving[: rng.randint(0, 4)]:
            arriving.remove(spec)
            if rng.random() < 0.2:
                spec = msgspec.structs.replace(spec, deadline=harness.now + rng.randint(0, 30))
            harness.add(spec)
        if harness.specs and rng.random() < 0.1:
            harness.abort(rng.choice(list(harness.specs))[0])
        if rng.random() < 0.1:
            harness.commit_all()
            harness.scheduler.retract_all()
        bad = frozenset({f"r{rng.randrange(80)}"}) if rng.random() < 0.2 else frozenset()
        harness.step(fails=rng.random() < 0.05, errors=bad)
        assert harness.now < 20_000, "stuck"
    harness.commit_all()
    harness.check_ledger()
