"""The rows of a step: decode tokens of all running requests, then prefill chunks up to a budget."""

from dataclasses import dataclass, field

import numpy as np

from ramify.runtime.config import EngineConfig
from ramify.runtime.core import PlannedRows, Request
from ramify.runtime.scheduler.policy import CACHE_AWARE, MAX_OVERTAKES, ordering
from ramify.runtime.scheduler.residency import Residency

# Slots kept back for the next tokens of each running request when another is admitted: so many
# steps, about, before pressure may send one back to waiting.
DECODE_RESERVE = 64


@dataclass(slots=True)
class Queues:
    """Every live request, in exactly one of these, by `seq`. Running: prefilling or decoding."""

    waiting: dict[int, Request] = field(default_factory=dict)
    prefilling: dict[int, Request] = field(default_factory=dict)
    decoding: dict[int, Request] = field(default_factory=dict)

    @property
    def num_running(self) -> int:
        """Requests that hold slots."""
        return len(self.prefilling) + len(self.decoding)

    def running(self) -> list[Request]:
        """Requests that hold slots."""
        return [*self.decoding.values(), *self.prefilling.values()]


@dataclass(slots=True)
class _Draft:
    """A step in the making."""

    step: int
    now: float
    rows: list[PlannedRows]
    budget: int  # rows that may still be added
    has_prefill: bool = False


class Planner:
    """Chooses each step's rows and sees to it that they have slots."""

    def __init__(self, config: EngineConfig, residency: Residency, queues: Queues) -> None:
        self.residency = residency
        self.queues = queues
        self.num_retracted = 0
        self.num_prompt_tokens = 0
        self.num_cached_tokens = 0
        self._max_running = config.max_running_requests
        self._budget = config.max_prefill_tokens
        self._chunk_size = config.chunked_prefill_size
        self._policy = config.schedule_policy
        self._ordering = ordering(config.schedule_policy, config.random_seed)
        self._num_overtakes = 0  # admissions since the longest waiting request was admitted

    def plan(self, step: int, now: float, *, is_ahead: bool) -> list[PlannedRows]:
        """The rows of step number `step` (from 1); empty only if no request is live, or, with
        another step under way (`is_ahead`), if that has to be committed first."""
        if self._urgent_slots() > self.residency.num_available:
            if is_ahead:
                return []
            self._relieve_pressure()
        rows = self._decode_rows()
        draft = _Draft(step, now, rows, self._budget - sum(row.end - row.start for row in rows))
        for request in self._unfinished_prefills():
            if draft.budget > 0:
                self._plan_chunk(request, draft)
        self._admit(draft)
        return draft.rows

    def _unfinished_prefills(self) -> list[Request]:
        """Oldest first: not those whose last chunk is under way."""
        prefilling = self.queues.prefilling
        requests = (prefilling[seq] for seq in sorted(prefilling))
        return [request for request in requests if request.next_row < len(request.prefill_ids)]

    def retract(self, request: Request) -> None:
        """Send a running request back to waiting; what it computed stays in the tree for it."""
        queues = self.queues
        self.residency.release(request, keep_decoded=True)
        request.prefill_ids = np.array(request.token_ids[: request.num_rows], dtype=np.int32)
        request.match, request.is_resumed = None, True
        queues.prefilling.pop(request.seq, None)
        queues.decoding.pop(request.seq, None)
        queues.waiting[request.seq] = request
        self.num_retracted += 1

    def _relieve_pressure(self) -> None:
        """Retract until all decoding requests fit, and the oldest running one whatever it does.

        The oldest is never retracted, so at least one request always gets on and ends.
        """
        need = self._urgent_slots()
        running = self.queues.running()
        oldest = min(request.seq for request in running)
        victims = sorted((r for r in running if r.seq != oldest), key=self._cost_of_retraction)
        for victim in victims:
            self.retract(victim)
            need = self._urgent_slots()
            if need <= self.residency.num_available:
                return
        raise AssertionError(f"{need} slots needed by one request that was checked to fit")

    def _urgent_slots(self) -> int:
        queues = self.queues
        need = _num_decode_rows(queues.decoding)
        request = next(iter(self._unfinished_prefills()), None)
        budget = self._budget - need
        if request is None or budget <= 0:
            return need
        if queues.decoding and min(queues.decoding) < request.seq:
            return need
        match = self.residency.match(request)
        end = self._chunk_end(request, _first_row(request, match.length), budget, is_first=True)
        assert end is not None
        return need + self.residency.tree.num_unlocked(match) + max(end - match.length, 0)

    def _cost_of_retraction(self, request: Request) -> tuple[int, int, int]:
        """Least first: priority, then tokens that may have to be computed again, then youth."""
        priority = request.spec.priority if self._policy == "priority" else 0
        lost = request.num_computed - self.residency.shared_len(request)
        return (priority, lost, -request.seq)

    def _decode_rows(self) -> list[PlannedRows]:
        decoding = self.queues.decoding
        if not decoding:
            return []
        rows = []
        slots, taken = self.residency.allocate(_num_decode_rows(decoding)), 0
        for request in decoding.values():
            start = request.num_computed
            end = start + _num_rows(request)
            if end == start:
                continue
            request.slots[start:end] = slots[taken : taken + end - start]
            request.num_computed = end
            taken += end - start
            sample = request.ending is None
            rows.append(PlannedRows(request, start, end, start, sample, _scored(request, end)))
        return rows

    def _chunk_end(
        self, request: Request, first_row: int, budget: int, *, is_first: bool
    ) -> int | None:
        """Where the request's next chunk ends; None if it must wait for a step of its own.

        With chunking off a prompt longer than the budget goes as a step's first prefill.
        """
        prefill_len = len(request.prefill_ids)
        if self._chunk_size != -1:
            return min(prefill_len, first_row + min(self._chunk_size, budget))
        fits = is_first or prefill_len - first_row <= budget
        return prefill_len if fits else None

    def _plan_chunk(self, request: Request, draft: _Draft) -> bool:
        """Add the request's next prefill chunk to the step if it fits budget and pool."""
        residency = self.residency
        match = residency.match(request)
        first = _first_row(request, match.length)
        end = self._chunk_end(request, first, draft.budget, is_first=not draft.has_prefill)
        if end is None:
            return False
        room = residency.num_available - residency.tree.num_unlocked(match)
        if end - match.length > room:
            end = match.length + room
            if self._chunk_size == -1 or end <= first:
                return False
        residency.share(request)
        residency.extend(request, end, step=draft.step)
        self._count_cached(request, first)
        request.next_row = end
        row = PlannedRows(
            request,
            first,
            end,
            write_from=min(max(match.length, first), end),
            sample=end == len(request.prefill_ids) and request.ending is None,
            scored=_scored(request, end),
        )
        draft.rows.append(row)
        draft.budget -= end - first
        draft.has_prefill = True
        return True

    def _count_cached(self, request: Request, first: int) -> None:
        """`first`: the next row to compute. What a grammar forced counts as no prompt."""
        num_skipped = max(min(first, request.num_prompt) - request.next_row, 0)
        if request.num_cached is None:
            request.num_cached = 0
            self.num_prompt_tokens += request.num_prompt
        if not request.is_resumed:
            request.num_cached += num_skipped
            self.num_cached_tokens += num_skipped

    def _admit(self, draft: _Draft) -> None:
        """Start waiting requests in the policy's order; one that does not fit is passed over.

        Every `MAX_OVERTAKES` admissions the longest waiting request has its turn: it goes first,
        and if it does not fit nobody else is admitted until it does.
        """
        queues = self.queues
        if not queues.waiting or not self._can_admit(draft, 0):
            return
        reserved = sum(map(_decode_reserve, queues.decoding.values()))
        reserved += sum(map(_reserve, queues.prefilling.values()))
        if not self._can_admit(draft, reserved):
            return
        candidates = iter(self._ordered())
        oldest = min(queues.waiting)
        while queues.waiting and self._can_admit(draft, reserved):
            is_turn = self._num_overtakes >= MAX_OVERTAKES
            request = queues.waiting[oldest] if is_turn else next(candidates, None)
            if request is None:
                return
            if request.seq not in queues.waiting:
                continue
            if not self._fits(request, reserved) or not self._plan_chunk(request, draft):
                if is_turn:
                    return
                continue
            del queues.waiting[request.seq]
            queues.prefilling[request.seq] = request
            request.first_planned = request.first_planned or draft.now
            reserved += _reserve(request)
            self._num_overtakes += 1
            if request.seq == oldest:
                self._num_overtakes = 0
                oldest = min(queues.waiting, default=-1)

    def _can_admit(self, draft: _Draft, reserved: int) -> bool:
        return (
            draft.budget > 0
            and self.queues.num_running < self._max_running
            and self.residency.num_available > reserved
        )

    def _ordered(self) -> list[Request]:
        waiting = list(self.queues.waiting.values())
        if self._policy in CACHE_AWARE:
            is_current = self.residency.tree.is_current
            for request in waiting:
                if request.match is None or not is_current(request.match):
                    self.residency.match(request)
        return self._ordering(waiting)

    def _fits(self, request: Request, reserved: int) -> bool:
        """Whether its whole prefill and its next tokens fit beside what is `reserved`."""
        match = self.residency.match(request)
        need = len(request.prefill_ids) - match.length + _decode_reserve(request)
        taken = reserved + self.residency.tree.num_unlocked(match)
        return need + taken <= self.residency.num_available


def _num_decode_rows(decoding: dict[int, Request]) -> int:
    return sum(map(_num_rows, decoding.values()))


def _num_rows(request: Request) -> int:
    """The last token of a request that decodes, and before it those that a grammar forced; none if
    the step under way is its last."""
    if request.ending is not None:
        return request.num_rows - request.num_computed
    if request.output_ahead >= request.spec.sampling.max_tokens:
        return 0
    return request.num_ahead - request.num_computed


def _scored(request: Request, end: int) -> range:
    """Positions below `end` whose next token is known and still lacks its log-probability."""
    if not request.lacks_logprobs:
        return range(0)
    return range(request.num_scored - 1, min(end, request.score_end - 1))


def _first_row(request: Request, num_matched: int) -> int:
    """First row to compute: past what is cached, but all whose logits are needed."""
    first = min(num_matched, len(request.prefill_ids) - 1)
    if request.lacks_logprobs:
        first = min(first, request.num_scored - 1)
    assert first >= request.next_row, f"{request.spec.rid}: row {first} is computed already"
    return first


def _decode_reserve(request: Request) -> int:
    """Slots its next tokens will take; the last token never has one."""
    left = request.spec.sampling.max_tokens - request.output_len - 1
    return min(max(left, 0), DECODE_RESERVE)


def _reserve(request: Request) -> int:
    """Slots a running request is going to ask for: the rest of its prefill and its next tokens."""
    return max(len(request.prefill_ids) - request.num_computed, 0) + _decode_reserve(request)
