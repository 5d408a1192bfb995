"""What a step's results mean for a request: is it done, and what is its caller told."""

from dataclasses import dataclass

from ramify.lang.errors import ErrorInfo
from ramify.lang.protocol import FinishReason, TokenLogprob
from ramify.runtime.core import BatchPlan, PlannedRows, Request, RowResult, TokenDelta

_LENGTH = FinishReason(type="length")


@dataclass(slots=True)
class Step:
    """A plan that is not committed yet."""

    plan: BatchPlan
    number: int  # from 1; what the tree's nodes say they were born in
    is_advanced: bool = False  # are its tokens counted as pending?


def stop_reason(request: Request, token: int) -> FinishReason | None:
    """Why `token`, chosen and not part of the answer, ends the request; None if it goes on."""
    if token in request.stop_ids and request.output_len >= request.spec.sampling.min_tokens:
        return FinishReason(type="stop", matched=token)
    if request.guide is not None and request.guide.is_finished:  # also with ignore_eos
        return FinishReason(type="stop", matched=token)
    return None


def end_reason(request: Request) -> FinishReason | None:
    """Why the token just appended was the last one; None if another follows."""
    if request.guide is not None and request.guide.must_end:
        return FinishReason(type="stop")
    if request.output_len >= request.spec.sampling.max_tokens:
        return _LENGTH
    return None


def may_go_ahead(plan: BatchPlan) -> bool:
    """May the next step be planned before the host has seen what this one finds? Not if the choice
    of a next token needs those before it on the host: a grammar, penalties, prompt logprobs."""

    def waits(entry: PlannedRows) -> bool:
        s = entry.request.spec.sampling
        return (
            entry.logprob_start is not None
            or entry.request.guide is not None
            or s.repetition_penalty != 1.0
            or s.frequency_penalty != 0.0
            or s.presence_penalty != 0.0
        )

    return not any(map(waits, plan.rows))


def keep_prompt_logprobs(entry: PlannedRows, result: RowResult) -> None:
    """Collect a chunk's log-probabilities of prompt tokens."""
    request, start = entry.request, entry.logprob_start
    assert start is not None
    expected = min(entry.end, request.num_prompt - 1) - max(entry.start, start)
    found = len(result.prompt_logprobs)
    assert found == expected, f"{request.spec.rid}: {found} prompt logprobs, {expected} planned"
    request.prompt_logprobs.extend(result.prompt_logprobs)


def prefill_delta(request: Request, now: float) -> TokenDelta:
    """The only delta of a request that generates nothing."""
    return final_delta(request, now, _LENGTH, is_prefill_end=True)


def token_delta(
    request: Request, tokens: tuple[int, ...], logprob: TokenLogprob | None, *, is_prefill_end: bool
) -> TokenDelta:
    """Some tokens more."""
    spec = request.spec
    logprobs = () if logprob is None else (logprob,)
    if not is_prefill_end:
        return TokenDelta(spec.rid, spec.index, tokens, logprobs)
    return TokenDelta(spec.rid, spec.index, tokens, logprobs, _prompt_logprobs(request))


def final_delta(
    request: Request,
    now: float,
    outcome: FinishReason | ErrorInfo,
    *,
    tokens: tuple[int, ...] = (),
    logprob: TokenLogprob | None = None,
    is_prefill_end: bool = False,
) -> TokenDelta:
    """The last delta: the last tokens of the answer, if any, and what the request cost."""
    spec = request.spec
    planned = now if request.first_planned is None else request.first_planned
    first = now if request.first_token is None else request.first_token
    return TokenDelta(
        spec.rid,
        spec.index,
        token_ids=tokens,
        logprobs=() if logprob is None else (logprob,),
        prompt_logprobs=_prompt_logprobs(request) if is_prefill_end else None,
        finish=outcome if isinstance(outcome, FinishReason) else None,
        error=outcome if isinstance(outcome, ErrorInfo) else None,
        num_cached=request.num_cached or 0,
        queue_s=planned - request.arrival,
        prefill_s=first - planned,
        decode_s=now - first,
    )


def _prompt_logprobs(request: Request) -> tuple[TokenLogprob, ...] | None:
    if request.spec.logprobs.prompt_start is None:
        return None
    return tuple(request.prompt_logprobs)
