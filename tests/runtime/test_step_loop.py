"""Both loops: the same answers; a fault ends what is under way, and the next request is served."""

import random

import pytest

from ramify.runtime.scheduler import planner
from ramify.runtime.step_loop import OverlapLoop, PlainLoop
from tests.runtime.fakes import token_request
from tests.runtime.scheduler.harness import Harness, workload


class Device:
    """A fake device whose steps can fail when they are launched, or when they are waited for."""

    def __init__(self, executor):
        self._executor = executor
        self.fails_at = {}  # number of the step, from 1 -> "launch" or "results"
        self.num_launched = 0
        self.num_under_way = 0
        self.most_under_way = 0

    def execute(self, plan):
        step = self.launch(plan)
        step.choose()
        return step.results()

    def launch(self, plan):
        self.num_launched += 1
        if self.fails_at.get(self.num_launched) == "launch":
            raise RuntimeError("out of memory")
        self.num_under_way += 1
        self.most_under_way = max(self.most_under_way, self.num_under_way)
        return Step(self, self.num_launched, self._executor.execute(plan))


class Step:
    def __init__(self, device, number, found):
        self._device, self._number, self._found = device, number, found
        self._has_chosen = False

    def choose(self):
        assert not self._has_chosen
        self._has_chosen = True
        if self._device.fails_at.get(self._number) == "choose":
            raise RuntimeError("illegal instruction")

    def results(self):
        assert self._has_chosen
        self._device.num_under_way -= 1
        if self._device.fails_at.get(self._number) == "results":
            raise RuntimeError("illegal address")
        return self._found


def serve(harness, loop):
    while harness.scheduler.has_work or loop.is_under_way:
        for deltas in loop.turn():
            harness.receive(deltas)
        harness.scheduler.check_invariants()


@pytest.mark.parametrize(("kind", "depth"), [(PlainLoop, 1), (OverlapLoop, 2)])
def test_answers_equal_the_oracle(kind, depth):
    harness = Harness(chunked_prefill_size=16, max_prefill_tokens=96)
    device = Device(harness.executor)
    for spec in workload(5, 40):
        harness.add(spec)
    serve(harness, kind(harness.scheduler, device))
    harness.check_ledger()
    assert device.most_under_way == depth


@pytest.mark.parametrize("where", ["launch", "choose", "results"])
@pytest.mark.parametrize("kind", [PlainLoop, OverlapLoop])
def test_a_fault_ends_what_is_under_way_and_the_rest_goes_on(kind, where, caplog):
    harness = Harness(max_running_requests=2)
    device = Device(harness.executor)
    device.fails_at = {3: where}
    for number in range(4):
        harness.add(token_request(f"r{number}", [1, 2, number], max_tokens=8, ignore_eos=True))
    serve(harness, kind(harness.scheduler, device))
    harness.check_ledger()
    errors = {rid: answer.error for (rid, _), answer in harness.answers.items()}
    assert {rid for rid, error in errors.items() if error} == {"r0", "r1"}
    assert "RuntimeError" in errors["r0"].message
    assert "r0" in caplog.text


def test_penalties_do_not_make_the_next_step_wait():
    harness = Harness()
    device = Device(harness.executor)
    harness.add(token_request("r", [1, 2], max_tokens=6, ignore_eos=True, frequency_penalty=1.0))
    serve(harness, OverlapLoop(harness.scheduler, device))
    harness.check_ledger()
    assert device.most_under_way == 2


def test_tokens_are_chosen_once_the_step_before_is_committed(monkeypatch):
    """Until then it is not known what a grammar allows."""
    harness = Harness()
    device = Device(harness.executor)
    told = []
    monkeypatch.setattr(Step, "choose", lambda step: told.append(("choose", step._number)))
    monkeypatch.setattr(Step, "results", lambda step: step._found)
    commit = harness.scheduler.commit
    harness.scheduler.commit = lambda *args: told.append(("commit", len(told))) or commit(*args)
    harness.add(token_request("r", [1, 2], max_tokens=3, ignore_eos=True))
    serve(harness, OverlapLoop(harness.scheduler, device))
    kinds = [kind for kind, _ in told]
    assert kinds == ["choose", "commit", "choose", "commit", "choose", "commit"]


def test_thousands_of_requests_with_aborts_and_faults_leave_every_slot_free_or_cached(
    monkeypatch, caplog
):
    """`benchmarks/gpu/leak.py` does the same on a GPU, with a model."""
    rng = random.Random(0)
    monkeypatch.setattr(planner, "DECODE_RESERVE", 0)
    harness = Harness(200, chunked_prefill_size=32, max_prefill_tokens=128, max_running_requests=24)
    device = Device(harness.executor)
    loop = OverlapLoop(harness.scheduler, device)
    arriving = workload(7, 3000)
    while arriving or harness.scheduler.has_work or loop.is_under_way:
        for _ in range(min(len(arriving), rng.randint(0, 6))):
            harness.add(arriving.pop())
        if rng.random() < 0.02:
            where = rng.choice(("launch", "choose", "results"))
            device.fails_at[device.num_launched + 1] = where
        for deltas in loop.turn():
            harness.receive(deltas)
        if rng.random() < 0.3:
            harness.abort(rng.choice(list(harness.specs)[-40:])[0])
    harness.scheduler.check_invariants()
    harness.check_ledger()
    assert harness.scheduler.stats().num_retracted > 0
    assert harness.scheduler.stats().num_failed > 100
