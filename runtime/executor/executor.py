"""Runs one planned step: batch, forward, logits, tokens."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from ramify.lang.errors import ErrorInfo
from ramify.lang.protocol import TokenLogprob
from ramify.runtime.cache.kv_pool import KVPool
from ramify.runtime.core import BatchPlan, PlannedRows, Request, RowResult
from ramify.runtime.executor.batch import prepare
from ramify.runtime.executor.constraints import Constraints, MaskFiller
from ramify.runtime.executor.sampler import Sampled, sample, token_logprobs, unfit_logprobs
from ramify.runtime.models.llama import LlamaModel

_LOGIT_BYTES = 64 << 20  # most memory the logits of known tokens take at once


class _Target(NamedTuple):
    """A known token whose log-probability is wanted."""

    entry: int  # index in the plan
    token_id: int
    top: int


class Executor:
    """Owns nothing but references to model and pool; called from one thread at a time."""

    def __init__(self, model: LlamaModel, kv_pool: KVPool) -> None:
        self.model = model
        self.kv_pool = kv_pool
        self._masks = MaskFiller(model.config.vocab_size, has_own_thread=model.device.type == "cpu")

    @torch.inference_mode()
    def execute(self, plan: BatchPlan) -> list[RowResult]:
        """Run the step; one result per entry of `plan.rows`, in order."""
        if self.model.has_own_threads and torch.get_num_threads() > 1:
            # torch's helpers spin for milliseconds after a parallel operation, on the cores that
            # the model's threads need: a step of two rows took twice as long as a step of one.
            torch.set_num_threads(1)
        batch = prepare(plan, self.model.device)
        sampling = [entry.request for entry in plan.rows if entry.sample]
        masks = self._masks.begin(sampling)
        hidden = self.model.forward(batch, self.kv_pool)
        sampled = self._sample(hidden[: batch.num_sampled], sampling, masks())
        scored = self._score(hidden[batch.num_sampled :], plan.rows)
        results = []
        for entry, (logprobs, error) in zip(plan.rows, scored, strict=True):
            choice = next(sampled) if entry.sample else Sampled(None, None, None)
            results.append(
                RowResult(
                    next_token=choice.token,
                    logprob=choice.logprob,
                    scores=logprobs,
                    error=choice.error or error,
                )
            )
        return results

    def close(self) -> None:
        """End the threads of masks and model."""
        self._masks.close()
        self.model.close()

    def _sample(
        self, hidden: torch.Tensor, requests: Sequence[Request], constraints: Constraints
    ) -> Iterator[Sampled]:
        if not requests:
            return iter(())
        choices = sample(self.model.logits(hidden), requests, constraints.bitmask)
        for row, error in constraints.errors.items():
            choices[row] = Sampled(None, None, error)
        return iter(choices)

    def _score(
        self, hidden: torch.Tensor, rows: Sequence[PlannedRows]
    ) -> list[tuple[tuple[TokenLogprob, ...], ErrorInfo | None]]:
        """Log-probabilities of known tokens, entry by entry; logits in bounded chunks."""
        targets = [
            _Target(index, entry.request.token_ids[position + 1], entry.request.spec.logprobs.top)
            for index, entry in enumerate(rows)
            for position in entry.scored
        ]
        found: list[list[TokenLogprob]] = [[] for _ in rows]
        chunk = max(1, _LOGIT_BYTES // (4 * self.model.config.vocab_size))
        for start in range(0, len(targets), chunk):
            part = targets[start : start + chunk]
            logprobs = torch.log_softmax(self.model.logits(hidden[start : start + chunk]), dim=-1)
            values = token_logprobs(logprobs, [t.token_id for t in part], [t.top for t in part])
            for target, value in zip(part, values, strict=True):
                found[target.entry].append(value)
        return [(tuple(values), unfit_logprobs(values)) for values in found]
