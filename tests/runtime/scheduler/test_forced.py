"""Tokens that a grammar forces: computed together, and otherwise as if one by one."""

from zlib import crc32

import msgspec
import pytest

from ramify.lang.protocol import FinishReason, LogprobOptions
from ramify.runtime.scheduler import planner
from ramify.runtime.step_loop import OverlapLoop
from tests.runtime.fakes import VOCAB, token_request
from tests.runtime.scheduler.harness import Harness, workload


class FakeGuide:
    """Forces spans, and ends answers, wherever a hash of the answer says so."""

    def __init__(self, seed: int, max_tokens: int) -> None:
        self._output = [seed]
        self.is_finished = False
        self.forced: tuple[int, ...] = ()
        self._look_ahead()

    @property
    def must_end(self) -> bool:
        return not self.forced and self._hash(1) % 13 == 0

    def accept(self, token: int) -> bool:
        if self.forced and token != self.forced[0]:
            return False
        self.forced = self.forced[1:]
        self._output.append(token)
        if not self.forced:
            self._look_ahead()
        return True

    def _look_ahead(self) -> None:
        if self._hash(2) % 3 == 0:
            span = range(1 + self._hash(3) % 9)
            self.forced = tuple(1 + (self._hash(4) + 5 * at) % (VOCAB - 1) for at in span)

    def _hash(self, salt: int) -> int:
        return crc32(bytes(self._output), salt)


class OneSpan:
    """Forces some tokens at the start, and no more."""

    def __init__(self, *forced: int, must_end: bool) -> None:
        self.forced, self.is_finished, self._must_end = forced, False, must_end

    @property
    def must_end(self) -> bool:
        return self._must_end and not self.forced

    def accept(self, token: int) -> bool:
        self.forced = self.forced[1:]
        return True


def guided(seed: int, count: int, longest: int = 40) -> list:
    """Every request with a guide of its own, and half with log-probabilities."""
    return [
        msgspec.structs.replace(
            spec,
            grammar=number,
            sampling=msgspec.structs.replace(spec.sampling, min_tokens=0),
            logprobs=msgspec.structs.replace(spec.logprobs, output=number % 2 == 0),
        )
        for number, spec in enumerate(workload(seed, count, longest=longest, max_tokens=24))
    ]


def answers(specs, num_slots=4096, retract_every=0, **config):
    harness = Harness(num_slots, guide=FakeGuide, **config)
    for spec in specs:
        harness.add(spec)
    harness.run(retract_every=retract_every)
    stats = harness.scheduler.stats()
    assert stats.num_leaked_slots == 0
    assert stats.num_evictable_slots == stats.num_cached_slots
    assert stats.generated_tokens == sum(len(a.token_ids) for a in harness.answers.values())
    for spec in specs:
        final = harness.answers[spec.rid, spec.index].final[0]
        assert final.num_cached <= len(spec.token_ids)
    found = {
        key: (answer.token_ids, answer.logprobs, answer.prompt_logprobs, answer.finish)
        for key, answer in harness.answers.items()
    }
    return found, stats


@pytest.fixture(scope="module")
def stepwise():
    return answers(guided(3, 60), disable_jump_forward=True)


@pytest.mark.parametrize("chunk", [16, 64, -1])
@pytest.mark.parametrize("disable_radix_cache", [False, True])
@pytest.mark.parametrize(("num_slots", "retract_every"), [(4096, 0), (4096, 2), (70, 0), (70, 3)])
def test_answers_and_logprobs_are_those_of_single_steps(
    stepwise, chunk, disable_radix_cache, num_slots, retract_every, monkeypatch
):
    monkeypatch.setattr(planner, "DECODE_RESERVE", 0)
    found, stats = answers(
        guided(3, 60),
        num_slots,
        retract_every,
        chunked_prefill_size=chunk,
        max_prefill_tokens=64,
        disable_radix_cache=disable_radix_cache,
    )
    assert found == stepwise[0]
    assert stats.num_forced > 100 and stepwise[1].num_forced == 0
    assert bool(stats.num_retracted) == (retract_every > 0 or num_slots == 70)


class Device:
    """Chooses the tokens of a step when it is told to."""

    def __init__(self, executor):
        self._executor = executor

    def launch(self, plan):
        return Step(self._executor, plan)


class Step:
    def __init__(self, executor, plan):
        self._executor, self._plan = executor, plan
        self._contexts = executor.forward(plan)

    def choose(self):
        rows = zip(self._plan.rows, self._contexts, strict=True)
        self._found = [self._executor.choose(*row) for row in rows]

    def results(self):
        return self._found


@pytest.mark.parametrize("chunk", [16, -1])
@pytest.mark.parametrize("num_slots", [4096, 70])
@pytest.mark.parametrize("mixed", [False, True])  # with some that have to wait
def test_answers_are_the_same_one_step_ahead(stepwise, chunk, num_slots, mixed, monkeypatch):
    monkeypatch.setattr(planner, "DECODE_RESERVE", 0)
    harness = Harness(num_slots, guide=FakeGuide, chunked_prefill_size=chunk)
    specs = [spec for spec in guided(3, 60) if mixed or not spec.logprobs.output]
    for spec in specs:
        harness.add(spec)
    loop = OverlapLoop(harness.scheduler, Device(harness.executor))
    while harness.scheduler.has_work or loop.is_under_way:
        for deltas in loop.turn():
            harness.receive(deltas)
        harness.scheduler.check_invariants()
    found = {
        key: (answer.token_ids, answer.logprobs, answer.prompt_logprobs, answer.finish)
        for key, answer in harness.answers.items()
    }
    assert found == {key: stepwise[0][key] for key in found} and len(found) == len(specs)
    assert harness.scheduler.stats().num_forced > 50
    assert harness.scheduler.stats().num_leaked_slots == 0


def served(guide, **options):
    harness = Harness(guide=lambda grammar, max_tokens: guide)
    spec = token_request("r", range(1, 9), ignore_eos=True, **options)
    harness.add(msgspec.structs.replace(spec, grammar="any"))
    harness.run()
    return harness.answers["r", 0], harness.scheduler.stats()


def test_what_is_forced_at_the_start_is_prefilled_with_the_prompt():
    answer, stats = served(OneSpan(4, 5, 6, must_end=False), max_tokens=4)
    assert answer.token_ids[:3] == [4, 5, 6] and len(answer.token_ids) == 4
    assert stats.num_steps == 1 and stats.num_forced == 3
    assert stats.computed_tokens == 8 + 3


@pytest.mark.parametrize("wants", [False, True])
def test_an_answer_that_is_forced_to_its_end_takes_one_step(wants):
    logprobs = LogprobOptions(output=wants)
    answer, stats = served(OneSpan(4, 5, 6, must_end=True), max_tokens=9, logprobs=logprobs)
    assert answer.token_ids == [4, 5, 6]
    assert [entry.token_id for entry in answer.logprobs] == ([4, 5, 6] if wants else [])
    assert answer.finish == FinishReason(type="stop")
    assert stats.num_steps == 1 and stats.computed_tokens == 8 + 2


def test_a_forced_answer_stops_at_its_limit():
    answer, _ = served(OneSpan(4, 5, 6, must_end=True), max_tokens=2)
    assert answer.token_ids == [4, 5]
    assert answer.finish == FinishReason(type="length")


def test_a_stop_token_ends_an_answer_that_is_forced():
    answer, _ = served(OneSpan(4, 5, 6, must_end=True), max_tokens=9, stop_token_ids=(5,))
    assert answer.token_ids == [4]
    assert answer.finish == FinishReason(type="stop", matched=5)


def test_nothing_is_forced_where_nothing_is_to_be_generated():
    answer, stats = served(OneSpan(4, 5, must_end=True), max_tokens=0)
    assert answer.token_ids == [] and stats.num_forced == 0
