"""Sampling on a GPU: parameters go up in one copy, tokens come back in one.

R rows, V vocabulary. The order of operations is that of `sampler`: raw log-probabilities, grammar
bitmask, penalties and biases, one draw.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ramify.lang.errors import ErrorInfo
from ramify.lang.protocol import Sampling, TokenLogprob
from ramify.runtime.core import Request
from ramify.runtime.executor.batch import to_device
from ramify.runtime.executor.philox import uniforms
from ramify.runtime.executor.sampler import Sampled
from ramify.runtime.kernels.adjust_logits import adjust_logits
from ramify.runtime.kernels.bitmask import apply_bitmask
from ramify.runtime.kernels.logprobs import logprobs
from ramify.runtime.kernels.sample import sample


class Draws(NamedTuple):
    """What a step chose, on its way to the host."""

    tokens: torch.Tensor  # [R] int32 device; -1: the row's logits allow no choice
    logprobs: "Logprobs | None"  # of the rows that asked


class Logprobs(NamedTuple):
    """Log-probabilities of one token a row, and of the likeliest."""

    values: torch.Tensor  # [R] float32
    top_values: torch.Tensor  # [R, N] float32
    top_tokens: torch.Tensor  # [R, N] int32

    def to_host(self) -> "Logprobs":
        """Asynchronously, into pinned memory."""
        return Logprobs(*map(to_host, self))

    def read(self, tokens: Sequence[int], tops: Sequence[int]) -> list[TokenLogprob]:
        """By row: the token's and the `tops[row]` likeliest. On the host, once copied."""
        values = self.values.tolist()
        top_values, top_tokens = self.top_values.tolist(), self.top_tokens.tolist()
        return [
            TokenLogprob(
                values[row],
                token,
                tuple(zip(top_values[row][:count], top_tokens[row][:count], strict=True)),
            )
            for row, (token, count) in enumerate(zip(tokens, tops, strict=True))
        ]


def draw(logits: torch.Tensor, requests: Sequence[Request], bitmask: torch.Tensor | None) -> Draws:
    """Choose a token for each row of `logits` [R, V] float32, which is overwritten.

    `bitmask` is [R, ceil(V / 32)] int32 on the host: the tokens each row's grammar allows.
    """
    device = logits.device
    asked = [row for row, request in enumerate(requests) if request.spec.logprobs.output]
    raw = logits[to_device(np.array(asked, np.int64), device)] if asked else None
    if bitmask is not None:
        _mask(logits, requests, bitmask)
    _adjust(logits, requests)
    tokens = torch.empty(len(requests), dtype=torch.int32, device=device)
    floats, top_k = _parameters(requests, device)
    sample(logits, floats[0], top_k, floats[1], floats[2], floats[3], tokens)
    if raw is None:
        return Draws(tokens, None)
    chosen = tokens[to_device(np.array(asked, np.int64), device)].clamp(min=0)
    tops = [requests[row].spec.logprobs.top for row in asked]
    return Draws(tokens, score(raw, chosen, max(tops)))


def score(logits: torch.Tensor, tokens: torch.Tensor, num_top: int) -> Logprobs:
    """Log-probabilities of `tokens` [R] int32 under `logits` [R, V], and the likeliest."""
    rows, device = len(logits), logits.device
    found = Logprobs(
        torch.empty(rows, dtype=torch.float32, device=device),
        torch.empty((rows, num_top), dtype=torch.float32, device=device),
        torch.empty((rows, num_top), dtype=torch.int32, device=device),
    )
    logprobs(logits, tokens, *found)
    return found


def read(
    tokens: Sequence[int], requests: Sequence[Request], found: Logprobs | None
) -> list[Sampled]:
    """What was chosen, as the scheduler takes it. On the host, once copied."""
    asked = [row for row, request in enumerate(requests) if request.spec.logprobs.output]
    by_row: dict[int, TokenLogprob] = {}
    if found is not None:
        tops = [requests[row].spec.logprobs.top for row in asked]
        by_row = dict(zip(asked, found.read([tokens[row] for row in asked], tops), strict=True))
    return [
        Sampled(token, by_row.get(row), None) if token >= 0 else Sampled(None, None, _UNFIT)
        for row, token in enumerate(tokens)
    ]


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that the host does not wait for: whoever reads it waits for an event first."""
    if not tensor.is_cuda:
        return tensor
    out = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return out.copy_(tensor, non_blocking=True)


def _mask(logits: torch.Tensor, requests: Sequence[Request], bitmask: torch.Tensor) -> None:
    held = [row for row, request in enumerate(requests) if request.guide is not None]
    ids = np.full(len(requests), -1, np.int32)
    ids[held] = np.arange(len(held), dtype=np.int32)
    table = to_device(bitmask.numpy()[held], logits.device)
    apply_bitmask(logits, table, to_device(ids, logits.device))


def _parameters(
    requests: Sequence[Request], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """[4, R] float32: temperature, top_p, min_p, uniform; [R] int32: top_k."""
    samplings = [request.spec.sampling for request in requests]
    packed = np.zeros((5, len(requests)), np.float32)
    packed[0] = [s.temperature for s in samplings]
    packed[1] = [s.top_p for s in samplings]
    packed[2] = [s.min_p for s in samplings]
    drawn = np.flatnonzero(packed[0]).tolist()
    draws = uniforms(
        [samplings[row].seed or 0 for row in drawn],
        [requests[row].spec.index for row in drawn],
        [requests[row].output_ahead for row in drawn],
    )
    packed[3, drawn] = np.minimum(draws.astype(np.float32), _BELOW_ONE)
    packed[4].view(np.int32)[:] = [s.top_k for s in samplings]
    on_device = to_device(packed, device)
    return on_device[:4], on_device[4].view(torch.int32)


class _Change(NamedTuple):
    num_output: int = 0  # times the token is in the output
    is_seen: int = 0
    bias: float = 0.0


def _adjust(logits: torch.Tensor, requests: Sequence[Request]) -> None:
    """Penalties, biases and bans of the rows that have any."""
    changes: dict[tuple[int, int], _Change] = {}
    for row, request in enumerate(requests):
        _add_changes(changes, row, request)
    if not changes:
        return
    where = np.array(list(changes), np.int32).T
    what = np.array([(c.num_output, c.is_seen) for c in changes.values()], np.int32).T
    ints = to_device(np.ascontiguousarray(np.concatenate((where, what))), logits.device)
    bias = to_device(np.array([c.bias for c in changes.values()], np.float32), logits.device)
    settings = [request.spec.sampling for request in requests]
    by_row = np.array(
        [(s.repetition_penalty, s.frequency_penalty, s.presence_penalty) for s in settings],
        np.float32,
    ).T
    rows = to_device(np.ascontiguousarray(by_row), logits.device)
    adjust_logits(logits, ints[0], ints[1], ints[2], ints[3], bias, rows[0], rows[1], rows[2])


def _add_changes(changes: dict[tuple[int, int], _Change], row: int, request: Request) -> None:
    s = request.spec.sampling
    if s.repetition_penalty != 1.0:
        for token in {*request.token_ids}:
            changes[row, token] = _Change(is_seen=1)
    if s.frequency_penalty or s.presence_penalty:
        ids, counts = np.unique(request.token_ids[request.num_prompt :], return_counts=True)
        for token, count in zip(ids.tolist(), counts.tolist(), strict=True):
            changes[row, token] = changes.get((row, token), _Change())._replace(num_output=count)
    for token, bias in _biases(s, request).items():
        changes[row, token] = changes.get((row, token), _Change())._replace(bias=bias)


def _biases(s: Sampling, request: Request) -> dict[int, float]:
    biases = dict(s.logit_bias)
    if request.output_ahead < s.min_tokens:
        stops = s.stop_token_ids + (() if s.ignore_eos else request.spec.eos_token_ids)
        biases |= dict.fromkeys(stops, -float("inf"))
    return biases


_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))
_UNFIT = ErrorInfo(
    message="no token can be chosen: all logits are -inf, or some are not finite; this request "
    "cannot go on; other requests are not affected",
    type="EngineError",
    code="bad_logits",
)
