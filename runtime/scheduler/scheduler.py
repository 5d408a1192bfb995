"""The scheduler: accepts sequences, plans steps, turns their results into deltas.

Every accepted sequence gets exactly one final delta: a finish or an error. The loop around it:

    scheduler.add(spec)                      # or raises: not accepted
    while scheduler.has_work:
        plan = scheduler.plan()
        send(scheduler.drain_expired())
        if plan is not None:
            send(scheduler.commit(plan, executor.execute(plan)))   # or scheduler.fail(error)

A loop may be one step ahead: after `advance(plan)` the next step can be planned before this one is
committed, its tokens counted but not known. Requests whose rows depend on what the host finds out
by them make `plan` return None until then.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from ramify.grammars.errors import GrammarError
from ramify.grammars.matcher import TokenGrammar
from ramify.lang.errors import EngineError, ErrorInfo, InvalidRequest, Unavailable
from ramify.lang.protocol import FinishReason, TokenLogprob
from ramify.runtime.cache.radix_tree import RadixTree
from ramify.runtime.cache.slot_pool import SlotPool
from ramify.runtime.config import EngineConfig
from ramify.runtime.core import (
    BatchPlan,
    EngineStats,
    PlannedRows,
    Request,
    RowResult,
    TokenDelta,
    TokenRequest,
)
from ramify.runtime.guide import Guide, refusal
from ramify.runtime.scheduler.admission import check_fits, new_request
from ramify.runtime.scheduler.commit import (
    LENGTH,
    Step,
    append,
    append_forced,
    final_delta,
    keep_scores,
    may_go_ahead,
    take_unsent,
    token_delta,
)
from ramify.runtime.scheduler.deadlines import Deadlines, deadline_error
from ramify.runtime.scheduler.planner import Planner, Queues
from ramify.runtime.scheduler.residency import Residency

_ABORTED = FinishReason(type="abort")


class Scheduler:
    """One loop, one token budget. Not thread-safe: one thread calls all of it."""

    def __init__(
        self,
        config: EngineConfig,
        pool: SlotPool,
        tree: RadixTree,
        *,
        context_length: int,
        guide: Callable[[TokenGrammar, int], Guide] = Guide,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._context_length = context_length
        self._make_guide = guide
        self._clock = clock
        self._queues = Queues()
        self._residency = Residency(pool, tree)
        self._planner = Planner(config, self._residency, self._queues)
        self._live: dict[str, dict[int, Request]] = {}  # rid -> index -> request
        self._deadlines = Deadlines(self._is_live)
        self._expired: list[TokenDelta] = []
        self._under_way: deque[Step] = deque()  # oldest first; at most two
        self._num_accepted = 0
        self._num_planned = 0
        self._num_steps = 0
        self._num_computed = 0
        self._num_generated = 0
        self._num_finished = 0
        self._num_aborted = 0
        self._num_failed = 0
        self._num_forced = 0

    @property
    def has_work(self) -> bool:
        """Whether any accepted sequence has not ended."""
        return bool(self._live)

    def add(self, spec: TokenRequest) -> None:
        """Accept one sequence or raise: `InvalidRequest` (it can never run), `Unavailable`."""
        pool = self._residency.pool
        check_fits(spec, context_length=self._context_length, num_slots=pool.num_slots)
        siblings = self._live.get(spec.rid, {})
        if spec.index in siblings:
            raise InvalidRequest(
                f"rid={spec.rid!r}: a request of this id is still running; use another id",
                code="duplicate_rid",
                param="rid",
            )
        limit = self._config.max_queued_requests
        if len(self._queues.waiting) >= limit:
            raise Unavailable(
                f"{len(self._queues.waiting)} requests are waiting, as many as "
                f"max_queued_requests={limit} allows; retry later",
                code="queue_full",
            )
        request = self._new_request(spec)
        self._live.setdefault(spec.rid, siblings)[spec.index] = request
        self._queues.waiting[request.seq] = request
        if spec.deadline is not None:
            num_live = len(self._queues.waiting) + self._queues.num_running
            self._deadlines.watch(spec.deadline, request, num_live)

    def _new_request(self, spec: TokenRequest) -> Request:
        seq = self._num_accepted
        self._num_accepted += 1
        namespace = seq if self._config.disable_radix_cache else spec.namespace
        request = new_request(spec, seq, self._clock(), namespace)
        try:
            request.ending = self._begin_answer(request)
        except GrammarError as error:
            raise refusal(error, spec.sampling) from error
        request.prefill_ids = np.array(request.token_ids[: request.num_rows], dtype=np.int32)
        return request

    def _begin_answer(self, request: Request) -> FinishReason | None:
        """Add what the grammar forces before any token is chosen: it is prefilled with the prompt.
        Why the answer ends there, if it does."""
        grammar, max_tokens = request.spec.grammar, request.spec.sampling.max_tokens
        if max_tokens == 0:
            return LENGTH
        if grammar is not None:
            request.guide = self._make_guide(grammar, max_tokens)
        return self._jump_forward(request)

    def _jump_forward(self, request: Request) -> FinishReason | None:
        if self._config.disable_jump_forward:
            return None
        num_before = request.num_tokens
        ending = append_forced(request)
        num_forced = request.num_tokens - num_before
        self._num_forced += num_forced
        self._num_generated += num_forced
        return ending

    def abort(self, rid: str, index: int | None = None) -> list[TokenDelta]:
        """End all sequences of `rid`, or that one; unknown ids are ignored."""
        siblings = self._live.get(rid, {})
        requests = [request for i, request in siblings.items() if index is None or i == index]
        now = self._clock()
        self._num_aborted += len(requests)
        return [self._end(request, final_delta(request, now, _ABORTED)) for request in requests]

    def abort_all(self) -> list[TokenDelta]:
        """End every live sequence."""
        return [delta for rid in list(self._live) for delta in self.abort(rid)]

    def plan(self) -> BatchPlan | None:
        """The next step, its slots allocated; None if nothing is left to do, or nothing before the
        step under way is committed."""
        is_ahead = bool(self._under_way)
        if is_ahead:
            assert self._under_way[-1].is_advanced, "commit, fail or advance the last plan first"
            if not may_go_ahead(self._under_way[-1].plan):
                return None
        now = self._clock()
        self._expire(now)
        if not self._live:
            return None
        number = self._num_planned + 1
        rows = self._planner.plan(number, now, is_ahead=is_ahead)
        if not rows:
            assert is_ahead, f"no progress: {self.stats()}"
            return None
        self._num_planned = number
        plan = BatchPlan(tuple(rows))
        self._under_way.append(Step(plan, number))
        return plan

    def advance(self, plan: BatchPlan) -> None:
        """The step was launched: from here on plans count the tokens it is choosing."""
        step = self._under_way[-1]
        assert plan is step.plan and not step.is_advanced, "not the step planned last"
        step.is_advanced = True
        for entry in plan.rows:
            if entry.sample:
                entry.request.num_pending += 1
                self._start_decoding(entry.request)

    def commit(self, plan: BatchPlan, results: Sequence[RowResult]) -> list[TokenDelta]:
        """Take a step's results, in the plan's order; what each sequence gained or ended with."""
        step = self._under_way[0]
        assert plan is step.plan and len(results) == len(plan.rows), "not the oldest step's results"
        self._under_way.popleft()
        self._num_steps += 1
        self._num_computed += plan.num_tokens
        now = self._clock()
        deltas = []
        for entry, result in zip(plan.rows, results, strict=True):
            if not self._is_live(entry.request):
                continue  # it ended while the step was under way
            if step.is_advanced and _is_choice(entry):
                entry.request.num_pending -= 1
            if (delta := self._commit_row(entry, result, now)) is not None:
                deltas.append(delta)
        return deltas

    def _commit_row(self, entry: PlannedRows, result: RowResult, now: float) -> TokenDelta | None:
        request = entry.request
        if result.error is not None:
            return self._fail_request(request, result.error, now)
        request.num_sure = entry.end
        if entry.scored:
            keep_scores(entry, result)
        if entry.end < len(request.prefill_ids):
            return None
        if request.first_token is None:
            request.first_token = now
        if not entry.sample:
            assert request.ending is not None, f"{request.spec.rid}: rows for nothing"
            return self._finish(request, request.ending, now)
        assert result.next_token is not None, f"{request.spec.rid}: no token was sampled"
        if not _is_choice(entry):
            return None
        return self._accept_token(request, result.next_token, result.logprob, now)

    def _accept_token(
        self, request: Request, token: int, logprob: TokenLogprob | None, now: float
    ) -> TokenDelta:
        self._start_decoding(request)
        try:
            num_before = request.num_tokens
            ending = append(request, token)
            if request.num_tokens > num_before:
                self._num_generated += 1
                request.logprobs += () if logprob is None else (logprob,)
            if ending is None:
                ending = self._jump_forward(request)
        except GrammarError as error:  # outgrew its limits
            return self._fail_request(request, refusal(error, request.spec.sampling).info(), now)
        except EngineError as error:
            return self._fail_request(request, error.info(), now)
        if ending is not None and not request.lacks_logprobs:
            return self._finish(request, ending, now)
        request.ending = ending
        return token_delta(request)

    def _finish(self, request: Request, ending: FinishReason, now: float) -> TokenDelta:
        """All of its answer is computed."""
        self._num_finished += 1
        return self._end(request, final_delta(request, now, ending, take_unsent(request)))

    def _start_decoding(self, request: Request) -> None:
        if request.seq in self._queues.prefilling:
            self._queues.decoding[request.seq] = self._queues.prefilling.pop(request.seq)

    def fail(self, error: ErrorInfo) -> list[TokenDelta]:
        """The step failed, or one of two under way: their requests end with `error`, the others
        go on.

        What the steps would have computed is taken out of the tree: its K and V do not exist.
        """
        steps = list(self._under_way)
        assert steps, "no step is under way"
        self._under_way.clear()
        self._num_steps += len(steps)
        now = self._clock()
        rows = (entry for step in steps for entry in step.plan.rows)
        requests = [r for r in dict.fromkeys(entry.request for entry in rows) if self._is_live(r)]
        for request in requests:
            self._residency.release(request, keep_decoded=False)
        self._residency.forget_since(steps[0].number)
        self._num_failed += len(requests)
        deltas = [self._end(request, final_delta(request, now, error)) for request in requests]
        self.check_invariants()
        return deltas

    def _fail_request(self, request: Request, error: ErrorInfo, now: float) -> TokenDelta:
        """End one request for its own fault; what only it computed is not trusted."""
        node = request.node
        self._residency.release(request, keep_decoded=False)
        self._residency.forget(node, min_end=request.num_cached or 0)
        self._num_failed += 1
        return self._end(request, final_delta(request, now, error))

    def drain_expired(self) -> list[TokenDelta]:
        """Final deltas of sequences whose deadline passed, since the last call."""
        expired, self._expired = self._expired, []
        return expired

    def _is_live(self, request: Request) -> bool:
        return self._live.get(request.spec.rid, {}).get(request.spec.index) is request

    def _expire(self, now: float) -> None:
        for request in self._deadlines.expired(now):
            self._num_failed += 1
            error = deadline_error(request, now)
            self._expired.append(self._end(request, final_delta(request, now, error)))

    def flush_cache(self) -> int:
        """Forget every cached prefix that no running request uses; slots freed."""
        return self._residency.tree.flush()

    def retract(self, request: Request) -> None:
        """Send a running request back to waiting between two steps. Its answer stays the same."""
        assert not self._under_way, "a step is under way"
        self._planner.retract(request)

    def retract_all(self) -> None:
        """Send every running request back to waiting."""
        for request in self._queues.running():
            self.retract(request)

    def stats(self) -> EngineStats:
        """Gauges and counters of this moment."""
        pool, tree, running = self._residency.pool, self._residency.tree, self._queues.running()
        num_private = sum(request.num_computed - request.tree_len for request in running)
        return EngineStats(
            num_running=len(running),
            num_waiting=len(self._queues.waiting),
            num_slots=pool.num_slots,
            num_free_slots=pool.num_free,
            num_cached_slots=tree.num_cached,
            num_evictable_slots=tree.num_evictable,
            num_leaked_slots=pool.num_slots - pool.num_free - tree.num_cached - num_private,
            prompt_tokens=self._planner.num_prompt_tokens,
            cached_tokens=self._planner.num_cached_tokens,
            computed_tokens=self._num_computed,
            generated_tokens=self._num_generated,
            num_steps=self._num_steps,
            num_retracted=self._planner.num_retracted,
            num_finished=self._num_finished,
            num_aborted=self._num_aborted,
            num_failed=self._num_failed,
            num_forced=self._num_forced,
        )

    def check_invariants(self) -> None:
        """Assert that slots, locks and queues fit together. O(slots): for tests and faults."""
        queues = self._queues
        self._residency.check_invariants(queues.running())
        for request in queues.waiting.values():
            assert request.node is None and request.num_computed == 0, request.spec.rid
        for request in queues.prefilling.values():
            assert request.num_computed == request.tree_len, request.spec.rid
            assert request.next_row <= len(request.prefill_ids), request.spec.rid
        if not self._under_way:
            for request in queues.decoding.values():
                assert request.num_computed < request.num_tokens, request.spec.rid
        queued = [*queues.waiting, *queues.prefilling, *queues.decoding]
        live = [r.seq for siblings in self._live.values() for r in siblings.values()]
        assert sorted(queued) == sorted(live), "a request is in no queue or in two"

    def _end(self, request: Request, delta: TokenDelta) -> TokenDelta:
        """Take an ended request out of everything; `delta` is the last its caller hears of it."""
        self._residency.release(request, keep_decoded=True)
        if self._config.disable_radix_cache:
            self._residency.tree.drop(request.namespace)
        queues, spec = self._queues, request.spec
        for queue in (queues.waiting, queues.prefilling, queues.decoding):
            queue.pop(request.seq, None)
        siblings = self._live[spec.rid]
        del siblings[spec.index]
        if not siblings:
            del self._live[spec.rid]
        return delta


def _is_choice(entry: PlannedRows) -> bool:
    """Does the row choose a token that is not known? A grammar may have forced it meanwhile."""
    return entry.sample and entry.end == entry.request.num_tokens
