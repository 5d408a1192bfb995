"""Runs planned steps on a GPU: decode steps and small ones with prefill from CUDA graphs, larger
ones launch by launch.

A step has three parts. `launch` starts the forward pass; `Launched.choose` the choice of tokens,
which where a grammar holds one of the rows comes after the step before was committed; `results`
waits for the device, and nothing else does. Whatever a launch reads on the device was put there
earlier in the order of the one stream that everything runs on.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from ramify.lang.protocol import TokenLogprob
from ramify.runtime.cache.kv_pool import KVPool
from ramify.runtime.core import BatchPlan, PlannedRows, RowResult
from ramify.runtime.executor import device_sampler
from ramify.runtime.executor.batch import to_device
from ramify.runtime.executor.decode_step import DecodeStep
from ramify.runtime.executor.device_sampler import DeviceSampler, Draws, Logprobs
from ramify.runtime.executor.sampler import Sampled, unfit_logprobs
from ramify.runtime.executor.slot_table import SlotTable
from ramify.runtime.executor.small_step import SmallStep
from ramify.runtime.executor.work import Planner
from ramify.runtime.kernels.work_list import SHARE_MIN
from ramify.runtime.models.gpu_runner import DeviceRows, GPURunner
from ramify.runtime.models.llama import LlamaModel

_LOGIT_BYTES = 256 << 20  # most memory the logits of known tokens take at once


class GPUExecutor:
    """Owns the device's view of the running requests; called from one thread at a time."""

    def __init__(
        self,
        model: LlamaModel,
        kv_pool: KVPool,
        *,
        max_requests: int,
        graphs: bool = True,
        share_min: int | None = SHARE_MIN,
    ) -> None:
        """`graphs=False`: all steps launch by launch. `share_min`: as of `plan_work`."""
        self._runner = GPURunner(model)
        self._kv_pool = kv_pool
        self._device = model.device
        self._vocab_size = model.config.vocab_size
        entries = max(2 * kv_pool.num_slots, 1 << 16)
        self._table = SlotTable(max_requests=max_requests, num_entries=entries, device=self._device)
        self._work = Planner(model.config, self._device, self._runner.num_sms, share_min)
        self._decode = DecodeStep(
            self._runner,
            kv_pool,
            self._table,
            self._work,
            graphs=graphs and model.device.type == "cuda",
        )
        self._small = SmallStep(
            self._runner,
            kv_pool,
            self._table,
            self._work,
            graphs=graphs and model.device.type == "cuda",
        )
        self._sampler = DeviceSampler(self._vocab_size, max_requests, self._device)

    @torch.inference_mode()
    def execute(self, plan: BatchPlan) -> list[RowResult]:
        """Run the step; one result per entry of `plan.rows`, in order."""
        step = self.launch(plan)
        step.choose()
        return step.results()

    @torch.inference_mode()
    def launch(self, plan: BatchPlan) -> "Launched":
        """Start the step; the device may still be at work when this returns."""
        places = [self._table.place(entry.request) for entry in plan.rows]
        scored: list[_Scored] = []
        if all(map(_is_decode, plan.rows)):
            if any(p.num_listed < e.start for e, p in zip(plan.rows, places, strict=True)):
                self._send_slots(plan.rows)
            group = self._sampler.group(plan.rows)
            if group.is_plain:
                tokens = self._decode.choose(plan.rows, places, group.draws(plan.rows))
                step = Launched(plan, scored, lambda: Draws(tokens, None, {}), self._device)
                step.choose()
                return step
            logits = self._decode.run(plan.rows, places)
        else:
            self._send_slots(plan.rows)
            logits, scored = self._mixed(plan.rows)
        choosing = [entry for entry in plan.rows if entry.sample]
        rows = np.array([self._table.place(entry.request).row for entry in choosing], np.int64)
        step = Launched(plan, scored, partial(self._draw, logits, choosing, rows), self._device)
        if all(entry.request.guide is None for entry in choosing):
            step.choose()
        return step

    def close(self) -> None:
        """Wait for what is under way."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _send_slots(self, rows: Sequence[PlannedRows]) -> None:
        at, slots = self._table.unsent(rows)
        if len(at):
            packed = to_device(np.concatenate((at, slots)), self._device)
            self._table.slots.index_copy_(0, packed[: len(at)].long(), packed[len(at) :])

    @torch.inference_mode()
    def _draw(
        self, logits: torch.Tensor, entries: Sequence[PlannedRows], rows: np.ndarray
    ) -> Draws | None:
        """Choose tokens; the next decode step of these requests starts from them. `rows`: the
        entries' rows in the table when they were launched."""
        if not entries:
            return None
        draws = self._sampler.draw(logits, entries)
        tokens = draws.tokens.clamp(min=0)  # -1 is no token
        self._table.last_token.index_copy_(0, to_device(rows, self._device), tokens)
        return draws

    def _mixed(self, rows: Sequence[PlannedRows]) -> "tuple[torch.Tensor, list[_Scored]]":
        """Any step: the logits of rows that sample, and the scores of known tokens."""
        starts = np.cumsum([0, *(entry.end - entry.start for entry in rows)])
        targets = _targets(rows)
        sampled = [int(starts[i + 1]) - 1 for i, entry in enumerate(rows) if entry.sample]
        wanted = sampled + [
            int(starts[t.entry]) + t.position - rows[t.entry].start for t in targets
        ]
        hidden = self._forward(rows)[to_device(np.array(wanted, np.int64), self._device)]
        logits = self._runner.logits(hidden[: len(sampled)])
        return logits, self._score(hidden[len(sampled) :], targets, rows)

    def _forward(self, rows: Sequence[PlannedRows]) -> torch.Tensor:
        """Of all rows of the step: [T, hidden size], ready for `GPURunner.logits`."""
        packed = self._pack(rows)
        bases = [self._table.place(entry.request).base for entry in rows]
        chunks = self._work.chunks(rows, bases)
        if packed.shape[1] <= self._small.most_rows and not chunks:
            return self._small.run(packed, *self._work.lay_out(rows, bases))
        work, tiles = self._work.plan(rows, bases)
        tokens, positions, out_loc = to_device(packed, self._device)
        return self._runner.forward(
            DeviceRows(
                input_ids=self._table.known(tokens),
                positions=positions,
                out_loc=out_loc,
                slots=self._table.slots,
                work=work,
                tiles=tiles,
                chunks=chunks,
            ),
            self._kv_pool,
        )

    def _pack(self, rows: Sequence[PlannedRows]) -> np.ndarray:
        """[3, T] int32: token, position, slot (-1 = not stored) of each row.

        A token that the step under way is choosing is -1 - the request's row in the table.
        """
        packed = np.empty((3, sum(entry.end - entry.start for entry in rows)), np.int32)
        at = 0
        for entry in rows:
            request, end = entry.request, at + entry.end - entry.start
            known = min(end, at + request.num_tokens - entry.start)
            packed[0, at:known] = request.token_ids[entry.start : entry.end]
            packed[0, known:end] = -1 - self._table.place(request).row
            packed[1, at:end] = np.arange(entry.start, entry.end)
            packed[2, at:end] = request.slots[entry.start : entry.end]
            packed[2, at : at + entry.write_from - entry.start] = -1
            at = end
        return packed

    def _score(
        self, hidden: torch.Tensor, targets: "list[_Target]", rows: Sequence[PlannedRows]
    ) -> "list[_Scored]":
        """Log-probabilities of known tokens; logits in bounded chunks."""
        found = []
        chunk = max(1, _LOGIT_BYTES // (4 * self._vocab_size))
        for start in range(0, len(targets), chunk):
            part = targets[start : start + chunk]
            tokens = [rows[t.entry].request.token_ids[t.position + 1] for t in part]
            logits = self._runner.logits(hidden[start : start + chunk])
            most = max(rows[t.entry].request.spec.logprobs.top for t in part)
            on_device = to_device(np.array(tokens, np.int32), self._device)
            scores = device_sampler.score(logits, on_device, most)
            found.append(_Scored(part, tokens, scores.to_host()))
        return found


class Launched:
    """A step under way; `results` waits for it."""

    def __init__(
        self,
        plan: BatchPlan,
        scored: "list[_Scored]",
        draw: Callable[[], Draws | None],
        device: torch.device,
    ) -> None:
        self._plan = plan
        self._scored = scored
        self._draw: Callable[[], Draws | None] | None = draw  # None once it was called
        self._draws: Draws | None = None  # on its way to the host
        self._done = None if device.type == "cpu" else torch.Event(device)

    def choose(self) -> None:
        """Start the choice of tokens, if it was not: from here on grammars may move on."""
        if self._draw is None:
            return
        draws, self._draw = self._draw(), None
        self._draws = draws and draws.to_host()
        if self._done is not None:
            self._done.record()

    def results(self) -> list[RowResult]:
        """One per entry of the plan, in order."""
        assert self._draw is None, "no tokens were chosen yet"
        if self._done is not None:
            self._done.synchronize()
        sampled = iter(self._sampled())
        scores = self._scores()
        results = []
        for entry, known in zip(self._plan.rows, scores, strict=True):
            choice = next(sampled) if entry.sample else Sampled(None, None, None)
            results.append(
                RowResult(
                    next_token=choice.token,
                    logprob=choice.logprob,
                    scores=tuple(known),
                    error=choice.error or unfit_logprobs(known),
                )
            )
        return results

    def _sampled(self) -> list[Sampled]:
        if self._draws is None:
            return []
        return self._draws.read([entry for entry in self._plan.rows if entry.sample])

    def _scores(self) -> list[list[TokenLogprob]]:
        rows = self._plan.rows
        found: list[list[TokenLogprob]] = [[] for _ in rows]
        for part in self._scored:
            tops = [rows[t.entry].request.spec.logprobs.top for t in part.targets]
            values = part.scores.read(part.tokens, tops)
            for target, value in zip(part.targets, values, strict=True):
                found[target.entry].append(value)
        return found


class _Target(NamedTuple):
    """A known token whose log-probability is wanted: the one after `position`."""

    entry: int  # index in the plan
    position: int


class _Scored(NamedTuple):
    """Log-probabilities of some targets, on their way to the host."""

    targets: list[_Target]
    tokens: list[int]
    scores: Logprobs


def _targets(rows: Sequence[PlannedRows]) -> list[_Target]:
    return [
        _Target(index, position) for index, entry in enumerate(rows) for position in entry.scored
    ]


def _is_decode(entry: PlannedRows) -> bool:
    """One token that the device sampled itself, stored and sampled from."""
    request = entry.request
    return (
        entry.end - entry.start == 1
        and entry.start == entry.write_from
        and entry.sample
        and entry.end > len(request.prefill_ids)
    )
