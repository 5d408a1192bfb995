"""What a step's results mean for a request: is it done, and what is its caller told."""

from dataclasses import dataclass
from typing import NamedTuple

from ramify.lang.errors import EngineError, ErrorInfo
from ramify.lang.protocol import FinishReason, TokenLogprob
from ramify.runtime.core import BatchPlan, PlannedRows, Request, RowResult, TokenDelta

LENGTH = FinishReason(type="length")


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
        return LENGTH
    return None


def may_go_ahead(plan: BatchPlan) -> bool:
    """May the next step be planned before the host has seen what this one finds? Not if its rows
    depend on that: which tokens still lack their log-probability."""

    def waits(entry: PlannedRows) -> bool:
        spec, guide = entry.request.spec, entry.request.guide
        return bool(entry.scored) or (guide is not None and spec.logprobs.output)

    return not any(map(waits, plan.rows))


def append(request: Request, token: int) -> FinishReason | None:
    """Add a chosen token to the answer, unless it only ends it; why it ends here, if it does.

    May raise `GrammarError`, or `EngineError` where the grammar does not allow the token.
    """
    guide = request.guide
    if guide is not None and not guide.accept(token):
        raise EngineError(f"token {token} was sampled, which the request's grammar forbids")
    stop = stop_reason(request, token)
    if stop is not None:
        return stop
    request.token_ids.append(token)
    return end_reason(request)


def append_forced(request: Request) -> FinishReason | None:
    """Jump forward: the tokens that the grammar forces next, computed in one step together. Why the
    last of them ends the answer, if it does.

    A step under way may be choosing the first of them: nothing else is open to it.
    """
    forced = () if request.guide is None else request.guide.forced
    if not forced:
        return None
    request.num_pending = 0
    if not request.lacks_logprobs:
        request.num_scored = request.num_tokens
    ending: FinishReason | None = None
    for token in forced:
        ending = append(request, token)
        if ending is not None:
            break
    if request.spec.logprobs.output:
        request.score_end = request.num_tokens
    return ending


def keep_scores(entry: PlannedRows, result: RowResult) -> None:
    """Collect what a step found of tokens that it did not sample."""
    request, scored = entry.request, entry.scored
    found = len(result.scores)
    assert found == len(scored), f"{request.spec.rid}: {found} scores, {len(scored)} planned"
    num_prompt = max(request.num_prompt - 1 - scored.start, 0)
    request.prompt_logprobs += result.scores[:num_prompt]
    request.logprobs += result.scores[num_prompt:]
    request.num_scored = scored.stop + 1


class Unsent(NamedTuple):
    """What a delta tells of an answer."""

    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    prompt_logprobs: tuple[TokenLogprob, ...] | None = None


NOTHING = Unsent()


def take_unsent(request: Request) -> Unsent:
    """The tokens chosen since the last delta, as far as they have the log-probabilities they need;
    those of the prompt come with the first."""
    is_first = request.num_sent == request.num_prompt
    end = request.num_scored if request.lacks_logprobs else request.num_tokens
    tokens = tuple(request.token_ids[request.num_sent : end])
    logprobs = tuple(request.logprobs)
    assert not request.spec.logprobs.output or len(tokens) == len(logprobs), (tokens, logprobs)
    request.num_sent = end
    request.logprobs.clear()
    wants_prompt = is_first and request.spec.logprobs.prompt_start is not None
    return Unsent(tokens, logprobs, tuple(request.prompt_logprobs) if wants_prompt else None)


def token_delta(request: Request) -> TokenDelta:
    """Some tokens more."""
    return TokenDelta(request.spec.rid, request.spec.index, *take_unsent(request))


def final_delta(
    request: Request, now: float, outcome: FinishReason | ErrorInfo, unsent: Unsent = NOTHING
) -> TokenDelta:
    """The last delta: the last tokens of the answer, if any, and what the request cost."""
    spec = request.spec
    planned = now if request.first_planned is None else request.first_planned
    first = now if request.first_token is None else request.first_token
    return TokenDelta(
        spec.rid,
        spec.index,
        *unsent,
        finish=outcome if isinstance(outcome, FinishReason) else None,
        error=outcome if isinstance(outcome, ErrorInfo) else None,
        num_cached=request.num_cached or 0,
        queue_s=planned - request.arrival,
        prefill_s=first - planned,
        decode_s=now - first,
    )
