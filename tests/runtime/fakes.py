"""A model without arithmetic: the next token is a hash of the context and the request's seed.

The context is read back from the "KV pool", slot by slot, so a token is right only if every slot
of the request was written with the right token at the right position and not overwritten since.
"""

from zlib import crc32

import numpy as np

from ramify.lang.protocol import FinishReason, LogprobOptions, Sampling, TokenLogprob
from ramify.runtime.core import BatchPlan, PlannedRows, Request, RowResult, TokenRequest

VOCAB = 64
EOS = 0
NO_LOGPROBS = LogprobOptions()


class FakeExecutor:
    """Writes tokens where K and V would go, then reads them back."""

    def __init__(self, num_slots: int) -> None:
        self.tokens = np.full(num_slots, -1, dtype=np.int32)
        self.positions = np.full(num_slots, -1, dtype=np.int32)
        self.num_written = 0
        self._last_token: dict[Request, int] = {}  # chosen, perhaps not committed

    def execute(self, plan: BatchPlan) -> list[RowResult]:
        """Forward pass and choice at once."""
        return [self.choose(*row) for row in zip(plan.rows, self.forward(plan), strict=True)]

    def forward(self, plan: BatchPlan) -> list[np.ndarray]:
        """What each entry's rows see. Every row writes before any row reads, as in each layer of a
        model."""
        written: set[int] = set()
        for entry in plan.rows:
            request, first, end = entry.request, entry.write_from, entry.end
            assert entry.start <= first <= end, entry
            slots = request.slots[first:end]
            fresh = set(slots.tolist())
            assert len(fresh) == end - first and not fresh & written, "a slot is written twice"
            written |= fresh
            self.tokens[slots] = self._known(request, end)[first:end]
            self.positions[slots] = np.arange(first, end)
        self.num_written += len(written)
        return [self._context(entry) for entry in plan.rows]

    def _known(self, request: Request, end: int) -> list[int]:
        """The request's first `end` tokens; at most the last is not on the host yet."""
        known = request.token_ids[:end]
        assert len(known) + 1 >= end, f"{request.spec.rid}: {end - len(known)} tokens unknown"
        return known if len(known) == end else [*known, self._last_token[request]]

    def _context(self, entry: PlannedRows) -> np.ndarray:
        slots = entry.request.slots[: entry.end]
        rid = entry.request.spec.rid
        assert (self.positions[slots] == np.arange(entry.end)).all(), f"{rid}: wrong slots"
        return self.tokens[slots]

    def choose(self, entry: PlannedRows, context: np.ndarray) -> RowResult:
        """The token after the entry's rows, and scores of those that are known."""
        request, spec = entry.request, entry.request.spec
        token = next_token(context, spec.sampling.seed) if entry.sample else None
        if token is not None and entry.end < request.num_tokens:
            token = request.token_ids[entry.end]  # forced while the step was under way
        elif token is not None and request.guide is not None and request.guide.forced:
            token = request.guide.forced[0]  # the mask allows no other
        if token is not None:
            self._last_token[request] = token
        logprob = None
        if token is not None and spec.logprobs.output:
            logprob = fake_logprob(context, token)
        assert all(entry.start <= p < entry.end for p in entry.scored), entry
        scores = tuple(
            fake_logprob(context[: p + 1], request.token_ids[p + 1]) for p in entry.scored
        )
        return RowResult(token, logprob, scores)


def next_token(context: np.ndarray, seed: int | None) -> int:
    return crc32(np.asarray(context, dtype=np.int32).tobytes(), seed or 0) % VOCAB


def fake_logprob(context: np.ndarray, token: int) -> TokenLogprob:
    digest = crc32(np.asarray(context, dtype=np.int32).tobytes(), token)
    return TokenLogprob(-digest / 2**32, token)


def oracle(spec: TokenRequest) -> tuple[list[int], FinishReason]:
    """What `spec` must answer, computed alone and from scratch."""
    sampling, tokens, output = spec.sampling, list(spec.token_ids), []
    stops = set(sampling.stop_token_ids)
    if not sampling.ignore_eos:
        stops |= set(spec.eos_token_ids)
    while len(output) < sampling.max_tokens:
        token = next_token(np.array(tokens), sampling.seed)
        if token in stops and len(output) >= sampling.min_tokens:
            return output, FinishReason(type="stop", matched=token)
        output.append(token)
        tokens.append(token)
    return output, FinishReason(type="length")


def oracle_prompt_logprobs(spec: TokenRequest) -> tuple[TokenLogprob, ...] | None:
    start = spec.logprobs.prompt_start
    if start is None:
        return None
    ids = spec.token_ids
    return tuple(
        fake_logprob(np.array(ids[:p]), ids[p]) if p else TokenLogprob(None, ids[0])
        for p in range(start, len(ids))
    )


def token_request(
    rid: str,
    token_ids: list[int] | tuple[int, ...],
    *,
    index: int = 0,
    logprobs: LogprobOptions = NO_LOGPROBS,
    eos: tuple[int, ...] = (EOS,),
    priority: int = 0,
    deadline: float | None = None,
    namespace: str = "",
    seed: int = 0,
    **sampling: object,
) -> TokenRequest:
    return TokenRequest(
        rid,
        index,
        tuple(token_ids),
        Sampling(seed=seed, **sampling),  # type: ignore[arg-type]
        logprobs,
        eos,
        priority=priority,
        deadline=deadline,
        namespace=namespace,
    )
