"""Scoring given continuations: which sequences the worker prefills, and what their numbers mean."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from ramify.lang.errors import Aborted, InvalidRequest, NotSupported, error_from_info
from ramify.lang.protocol import (
    ContinuationScore,
    LogprobOptions,
    Sampling,
    ScoreRequest,
    ScoreResult,
    Usage,
)
from ramify.runtime.core import TokenDelta, TokenRequest


class Candidate(NamedTuple):
    """One continuation after one prefix; neither is empty."""

    prefix: tuple[int, ...]
    tail: tuple[int, ...]


class Scored(NamedTuple):
    """What the worker found for one candidate."""

    logprobs: tuple[float, ...]
    top_token_ids: tuple[int, ...]
    num_cached: int


def candidates(
    request: ScoreRequest,
    prefix: Sequence[int],
    tails: Sequence[Sequence[int]],
    start_token: int | None,
) -> list[Candidate]:
    """Every sequence to score: all tails after `prefix`, then, if asked, after the start token."""
    if start_token is None and (request.unconditional or not prefix):
        raise NotSupported(
            "the model has no start token (neither BOS nor EOS), so nothing can stand before the "
            "continuations: give a prompt, and do not ask for unconditional log-probabilities"
        )
    for index, tail in enumerate(tails):
        if not tail:
            raise InvalidRequest(
                "an empty continuation has no probability: give at least one token",
                param=f"continuations[{index}]",
            )
    if not tails:
        raise InvalidRequest("no continuations to score: give at least one", param="continuations")
    alone = () if start_token is None else (start_token,)
    prefixes = [tuple(prefix) or alone]
    if request.unconditional:
        prefixes.append(alone)
    return [Candidate(head, tuple(tail)) for head in prefixes for tail in tails]


def token_request(
    request: ScoreRequest, index: int, candidate: Candidate, deadline: float | None
) -> TokenRequest:
    """The worker's view of a candidate: prefill only, log-probabilities from the tail's start."""
    return TokenRequest(
        rid=request.rid,
        index=index,
        token_ids=candidate.prefix + candidate.tail,
        sampling=Sampling(max_tokens=0, seed=0),
        logprobs=LogprobOptions(prompt_start=len(candidate.prefix), top=1),
        eos_token_ids=(),
        deadline=deadline,
        namespace=request.namespace,
    )


def scored(delta: TokenDelta) -> Scored:
    """The numbers in a candidate's last delta; raises its error."""
    if delta.error is not None:
        raise error_from_info(delta.error)
    if delta.finish is not None and delta.finish.type == "abort":
        raise Aborted("the request was aborted")
    assert delta.prompt_logprobs is not None, delta
    entries = delta.prompt_logprobs
    return Scored(
        logprobs=tuple(entry.logprob for entry in entries if entry.logprob is not None),
        top_token_ids=tuple(entry.top[0][1] for entry in entries),
        num_cached=delta.num_cached,
    )


def score_result(
    request: ScoreRequest, asked: Sequence[Candidate], found: Sequence[Scored], started: float
) -> ScoreResult:
    """The answer, given the numbers of all candidates in their order."""
    count = len(request.continuations)
    free = found[count:]
    scores = tuple(
        ContinuationScore(
            token_ids=asked[i].tail,
            logprobs=found[i].logprobs,
            top_token_ids=found[i].top_token_ids,
            unconditional_logprobs=free[i].logprobs if free else None,
        )
        for i in range(count)
    )
    usage = Usage(
        prompt_tokens=len(asked[0].prefix) + sum(len(asked[i].tail) for i in range(count)),
        cached_tokens=min(len(asked[0].prefix), found[0].num_cached),
        completion_tokens=0,
        prefill_s=time.monotonic() - started,
    )
    return ScoreResult(rid=request.rid, scores=scores, usage=usage)
