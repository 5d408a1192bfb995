"""From logits to tokens: masks, penalties, filters, one draw per row, log-probabilities.

R rows, V vocabulary. Every operation is row by row, so a request's tokens depend on its own logits,
parameters, seed and position only. Order: grammar bitmask and min_tokens, repetition, frequency and
presence penalty, logit bias, temperature, top-k, top-p, min-p, then one draw by inverse CDF in the
order of token ids. Tokens tied with the last one a filter keeps are kept too.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch

from ramify.lang.errors import ErrorInfo
from ramify.lang.protocol import Sampling, TokenLogprob
from ramify.runtime.core import Request
from ramify.runtime.executor.philox import uniforms

_NUCLEUS_CANDIDATES = 256  # likeliest tokens looked at before the whole vocabulary is sorted


class Sampled(NamedTuple):
    """The choice for one row, or why there is none."""

    token: int | None
    logprob: TokenLogprob | None  # when the request asked for it: raw logits, temperature 1
    error: ErrorInfo | None


def sample(
    logits: torch.Tensor, requests: Sequence[Request], bitmask: torch.Tensor | None = None
) -> list[Sampled]:
    """Choose the next token of each request. `logits` (float32) is overwritten.

    `bitmask` is what `apply_bitmask` takes: the tokens each row's grammar allows.
    """
    assert logits.shape[0] == len(requests), (logits.shape, len(requests))
    asked = [row for row, request in enumerate(requests) if request.spec.logprobs.output]
    raw_logprobs = torch.log_softmax(logits[asked], dim=-1) if asked else None
    if bitmask is not None:
        apply_bitmask(logits, bitmask)
    for row, request in enumerate(requests):
        _adjust(logits[row], request)
    peaks, likeliest = logits.max(dim=-1)  # NaN wins a maximum, so a row with one shows here
    fit = torch.isfinite(peaks).tolist()
    tokens = likeliest.tolist()
    drawn = [
        row
        for row, request in enumerate(requests)
        if fit[row] and request.spec.sampling.temperature > 0.0
    ]
    if drawn:
        choices = _draw(logits[drawn], [requests[row] for row in drawn])
        for row, token in zip(drawn, choices, strict=True):
            tokens[row] = token
    logprobs: dict[int, TokenLogprob] = {}
    chosen = [row for row in asked if fit[row]]
    if raw_logprobs is not None and chosen:
        picked = raw_logprobs[[asked.index(row) for row in chosen]]
        tops = [requests[row].spec.logprobs.top for row in chosen]
        found = token_logprobs(picked, [tokens[row] for row in chosen], tops)
        logprobs = dict(zip(chosen, found, strict=True))
    return [
        Sampled(tokens[row], logprobs.get(row), None)
        if fit[row]
        else Sampled(None, None, _unfit(float(peaks[row])))
        for row in range(len(requests))
    ]


def apply_bitmask(logits: torch.Tensor, bitmask: torch.Tensor) -> None:
    """Set the logits of tokens that are not allowed to -inf, in place.

    `bitmask` is [R, ceil(V / 32)] int32 on the same device: bit t % 32 of word t // 32 is set where
    token t is allowed. Bits beyond the vocabulary are ignored.
    """
    num_rows, vocab_size = logits.shape
    num_words = (vocab_size + 31) // 32
    assert bitmask.shape == (num_rows, num_words), (bitmask.shape, logits.shape)
    mask_bytes = bitmask.view(torch.uint8).int().view(-1)  # low byte first
    ceilings = _byte_ceilings(logits.device).index_select(0, mask_bytes)
    torch.minimum(logits, ceilings.view(num_rows, num_words * 32)[:, :vocab_size], out=logits)


@cache
def _byte_ceilings(device: torch.device) -> torch.Tensor:
    """[256, 8] float32: +inf where the bit of a byte is set, -inf elsewhere. A minimum with these
    takes a tenth of the time of filling under a mask."""
    bits = torch.arange(256)[:, None] >> torch.arange(8) & 1
    return torch.where(bits == 1, torch.inf, -torch.inf).to(device, torch.float32)


def token_logprobs(
    logprobs: torch.Tensor, token_ids: Sequence[int], tops: Sequence[int]
) -> list[TokenLogprob]:
    """Log-probability of one token per row, with the `tops[row]` likeliest beside it."""
    index = torch.tensor(token_ids, device=logprobs.device)
    own = logprobs.gather(1, index[:, None])[:, 0].tolist()
    most = min(max(tops), logprobs.shape[1])
    values: list[list[float]] = [[]] * len(own)
    ids: list[list[int]] = [[]] * len(own)
    if most:
        top = logprobs.topk(most, dim=-1)
        values, ids = top.values.tolist(), top.indices.tolist()
    return [
        TokenLogprob(
            own[row], token_id, tuple(zip(values[row][:count], ids[row][:count], strict=True))
        )
        for row, (token_id, count) in enumerate(zip(token_ids, tops, strict=True))
    ]


def _adjust(logits: torch.Tensor, request: Request) -> None:
    """Apply the request's own changes to its row, in place."""
    sampling = request.spec.sampling
    if sampling.repetition_penalty != 1.0:
        seen = _index(np.unique(request.token_ids), logits)
        values = logits[seen]
        penalty = sampling.repetition_penalty
        logits[seen] = torch.where(values > 0, values / penalty, values * penalty)
    if (sampling.frequency_penalty or sampling.presence_penalty) and request.output_len:
        output = np.asarray(request.token_ids[request.num_prompt :])
        ids, counts = np.unique(output, return_counts=True)
        amounts = torch.from_numpy(
            (counts * sampling.frequency_penalty + sampling.presence_penalty).astype(np.float32)
        )
        logits[_index(ids, logits)] -= amounts.to(logits.device)
    if sampling.logit_bias:
        biases = torch.tensor(list(sampling.logit_bias.values()), device=logits.device)
        logits[_index(list(sampling.logit_bias), logits)] += biases
    if request.output_len < sampling.min_tokens:
        stops = list(sampling.stop_token_ids)
        if not sampling.ignore_eos:
            stops += request.spec.eos_token_ids
        if stops:
            logits[_index(stops, logits)] = -torch.inf


def _index(ids: Sequence[int] | np.ndarray, like: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(np.asarray(ids, np.int64), device=like.device)


def _draw(logits: torch.Tensor, requests: Sequence[Request]) -> list[int]:
    """One token per row from the filtered distribution."""
    samplings = [request.spec.sampling for request in requests]
    probs = _filtered(logits, samplings)
    cdf = probs.double().cumsum_(dim=-1)
    draws = uniforms(
        [s.seed or 0 for s in samplings],
        [request.spec.index for request in requests],
        [request.output_len for request in requests],
    )
    points = torch.from_numpy(draws).to(cdf.device)[:, None]
    points = points * cdf[:, -1:]
    tokens = torch.searchsorted(cdf, points, right=True)[:, 0]  # first cdf above the point
    return tokens.clamp_(max=cdf.shape[1] - 1).tolist()


def _filtered(logits: torch.Tensor, samplings: Sequence[Sampling]) -> torch.Tensor:
    """Probabilities after temperature, top-k, top-p and min-p, not normalised: [R, V] float32."""
    vocab_size = logits.shape[1]

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=logits.device)[:, None]

    # A temperature below 1e-6 would overflow; at 1e-6 the likeliest token has all the probability.
    scaled = logits / column([max(s.temperature, 1e-6) for s in samplings])
    top_ks = [s.top_k if 0 < s.top_k < vocab_size else vocab_size for s in samplings]
    if min(top_ks) < vocab_size:
        largest = max(k for k in top_ks if k < vocab_size)
        ranked = scaled.topk(largest, dim=-1).values
        kth = torch.tensor([min(k, largest) - 1 for k in top_ks], device=logits.device)
        floor = ranked.gather(1, kth[:, None])
        limited = torch.tensor([k < vocab_size for k in top_ks], device=logits.device)[:, None]
        scaled = scaled.masked_fill((scaled < floor) & limited, -torch.inf)
    probs = torch.softmax(scaled, dim=-1)
    if min(s.top_p for s in samplings) < 1.0:
        floor = _nucleus_floor(probs, column([s.top_p for s in samplings]))
        limited = torch.tensor([s.top_p < 1.0 for s in samplings], device=probs.device)[:, None]
        probs = probs.masked_fill((probs < floor) & limited, 0.0)
    if max(s.min_p for s in samplings) > 0.0:
        floor = probs.amax(dim=-1, keepdim=True) * column([s.min_p for s in samplings])
        probs = probs.masked_fill(probs < floor, 0.0)
    return probs


def _nucleus_floor(probs: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """Smallest probability in each row's nucleus: the fewest likeliest tokens that hold top_p."""
    candidates = min(_NUCLEUS_CANDIDATES, probs.shape[1])
    ranked = probs.topk(candidates, dim=-1).values
    if candidates < probs.shape[1] and bool((ranked.sum(-1) < top_p[:, 0]).any()):
        ranked = probs.sort(dim=-1, descending=True).values
    before = ranked.cumsum(dim=-1) - ranked  # probability of the tokens ahead of each
    size = (before < top_p).sum(dim=-1, keepdim=True)
    return ranked.gather(1, size - 1)


def unfit_logprobs(values: Sequence[TokenLogprob]) -> ErrorInfo | None:
    """Why log-probabilities of known tokens cannot be given; None if they can."""
    for value in values:
        if value.logprob is None or value.logprob != value.logprob:
            return ErrorInfo(
                message="the model's logits of a token it was given are not finite",
                type="EngineError",
                code="bad_logits",
            )
    return None


def _unfit(peak: float) -> ErrorInfo:
    what = (
        "no token is allowed (all logits are -inf)"
        if peak == -float("inf")
        else f"the model's logits are not finite (largest: {peak})"
    )
    return ErrorInfo(
        message=f"{what}: this request cannot go on; other requests are not affected",
        type="EngineError",
        code="bad_logits",
    )
