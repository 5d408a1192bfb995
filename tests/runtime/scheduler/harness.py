"""Drives a Scheduler with the fake executor and keeps the ledger of deltas."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ramify.lang.errors import ErrorInfo
from ramify.lang.protocol import FinishReason, LogprobOptions
from ramify.runtime.cache.radix_tree import RadixTree
from ramify.runtime.cache.slot_pool import SlotPool
from ramify.runtime.config import EngineConfig
from ramify.runtime.core import TokenDelta, TokenRequest
from ramify.runtime.guide import Guide
from ramify.runtime.scheduler.scheduler import Scheduler
from tests.runtime.fakes import (
    VOCAB,
    FakeExecutor,
    oracle,
    oracle_prompt_logprobs,
    token_request,
)

STEP_FAILED = ErrorInfo(message="the device is on fire", type="EngineError", code="step_failed")


@dataclass
class Answer:
    """What one sequence was sent."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list = field(default_factory=list)
    prompt_logprobs: list = field(default_factory=list)  # one entry per delta that carried them
    final: list[TokenDelta] = field(default_factory=list)

    @property
    def finish(self) -> FinishReason | None:
        return self.final[0].finish

    @property
    def error(self) -> ErrorInfo | None:
        return self.final[0].error


class Harness:
    """One scheduler, one fake executor, one clock that moves a second per step."""

    def __init__(
        self,
        num_slots: int = 4096,
        context_length: int = 4096,
        *,
        is_ahead: bool = False,
        guide: Callable[..., Any] = Guide,
        **config: object,
    ) -> None:
        self.now = 0.0
        self.is_ahead = is_ahead  # launch a step before the one ahead of it is committed
        self.launched: list = []  # (plan, results) not committed
        self.config = EngineConfig(**config)
        self.pool = SlotPool(num_slots)
        self.tree = RadixTree(self.pool)
        self.scheduler = Scheduler(
            self.config,
            self.pool,
            self.tree,
            context_length=context_length,
            guide=guide,
            clock=lambda: self.now,
        )
        self.executor = FakeExecutor(num_slots)
        self.specs: dict[tuple[str, int], TokenRequest] = {}
        self.answers: dict[tuple[str, int], Answer] = {}
        self.plans: list = []

    def add(self, spec: TokenRequest) -> None:
        self.scheduler.add(spec)
        self.specs[spec.rid, spec.index] = spec
        self.answers[spec.rid, spec.index] = Answer()

    def abort(self, rid: str, index: int | None = None) -> list[TokenDelta]:
        return self.receive(self.scheduler.abort(rid, index))

    def step(self, *, fails: bool = False, errors: frozenset[str] = frozenset()) -> None:
        """One turn of the worker's loop. `errors`: rids whose own row comes back bad."""
        self.now += 1.0
        plan = self.scheduler.plan()
        self.receive(self.scheduler.drain_expired())
        if plan is None:
            self.commit_oldest()
            return
        self.plans.append([(r.request.spec.rid, r.start, r.end, r.write_from) for r in plan.rows])
        if fails:
            self.launched.clear()
            self.receive(self.scheduler.fail(STEP_FAILED))
        else:
            results = self.executor.execute(plan)
            results = [
                result._replace(error=STEP_FAILED) if row.request.spec.rid in errors else result
                for row, result in zip(plan.rows, results, strict=True)
            ]
            self.launched.append((plan, results))
            if self.is_ahead:
                self.scheduler.advance(plan)
                self.scheduler.check_invariants()
            if len(self.launched) > self.is_ahead:
                self.commit_oldest()
        self.scheduler.check_invariants()

    def commit_oldest(self) -> None:
        """Take the results of the step launched first, if any is under way."""
        if self.launched:
            self.receive(self.scheduler.commit(*self.launched.pop(0)))

    def commit_all(self) -> None:
        """Leave no step under way."""
        while self.launched:
            self.commit_oldest()

    def run(self, max_steps: int = 20_000, retract_every: int = 0) -> None:
        for step in range(1, max_steps + 1):
            if not self.scheduler.has_work:
                break
            if retract_every and step % retract_every == 0:
                self.commit_all()
                self.scheduler.retract_all()
                self.scheduler.check_invariants()
            self.step()
        self.commit_all()
        assert not self.scheduler.has_work, f"stuck: {self.scheduler.stats()}"

    def receive(self, deltas: list[TokenDelta]) -> list[TokenDelta]:
        for delta in deltas:
            answer = self.answers[delta.rid, delta.index]
            assert not answer.final, f"{delta.rid} got a delta after its last"
            answer.token_ids += delta.token_ids
            answer.logprobs += delta.logprobs
            if delta.prompt_logprobs is not None:
                answer.prompt_logprobs.append(delta.prompt_logprobs)
            if delta.finish is not None or delta.error is not None:
                assert (delta.finish is None) != (delta.error is None)
                answer.final.append(delta)
        return deltas

    def check_ledger(self) -> None:
        """Each sequence ended once; finished ones equal the oracle, cut ones are a prefix of it."""
        for key, spec in self.specs.items():
            answer = self.answers[key]
            assert len(answer.final) == 1, f"{key}: {len(answer.final)} final deltas"
            tokens, finish = oracle(spec)
            if answer.error is not None or answer.finish.type == "abort":
                assert answer.token_ids == tokens[: len(answer.token_ids)], key
                continue
            assert answer.token_ids == tokens, key
            assert answer.finish == finish, key
            expected = oracle_prompt_logprobs(spec)
            assert answer.prompt_logprobs == ([] if expected is None else [expected]), key
            assert len(answer.logprobs) == (len(tokens) if spec.logprobs.output else 0), key
            assert 0 <= answer.final[0].num_cached <= len(spec.token_ids)
        stats = self.scheduler.stats()
        assert stats.num_leaked_slots == 0
        assert stats.num_free_slots + stats.num_cached_slots == stats.num_slots
        assert stats.num_evictable_slots == stats.num_cached_slots
        ended = stats.num_finished + stats.num_aborted + stats.num_failed
        assert ended == len(self.specs)
        self.scheduler.flush_cache()
        assert self.pool.num_free == self.pool.num_slots


def workload(
    seed: int, count: int, *, longest: int = 40, max_tokens: int = 12
) -> list[TokenRequest]:
    """Requests whose prompts branch off each other, with every option that changes the path."""
    rng = random.Random(seed)
    prompts: list[list[int]] = [[]]
    specs = []
    for number in range(count):
        base = rng.choice(prompts)
        head = base[: rng.randint(0, len(base))] if rng.random() < 0.5 else base
        tail = [rng.randrange(VOCAB) for _ in range(rng.randint(0, max(longest - len(head), 0)))]
        prompt = (head + tail)[:longest] or [rng.randrange(VOCAB)]
        prompts.append(prompt)
        wanted = rng.randint(0, max_tokens) if rng.random() < 0.8 else max_tokens
        start = rng.randint(0, len(prompt)) if rng.random() < 0.3 else None
        spec = token_request(
            f"r{number}",
            prompt,
            max_tokens=wanted,
            min_tokens=rng.randint(0, wanted) if rng.random() < 0.2 else 0,
            ignore_eos=rng.random() < 0.2,
            stop_token_ids=(rng.randrange(VOCAB),) if rng.random() < 0.3 else (),
            seed=rng.choice((0, 0, number)),
            logprobs=LogprobOptions(output=rng.random() < 0.2, prompt_start=start),
            priority=rng.randint(0, 3),
            namespace=rng.choice(("", "", "other")),
        )
        specs.append(spec)
        if rng.random() < 0.5:  # a later turn continues this one's answer
            prompts.append((prompt + oracle(spec)[0])[:longest])
    return specs
