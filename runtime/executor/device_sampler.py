"""Sampling on a GPU: parameters go up in one copy, tokens come back in one.

R rows, V vocabulary. The order of operations is that of `sampler`: raw log-probabilities, grammar
bitmask, penalties and biases, one draw. Nothing here needs to know the tokens of the steps before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ramify.lang.errors import ErrorInfo
from ramify.lang.protocol import TokenLogprob
from ramify.runtime.core import PlannedRows, Request
from ramify.runtime.executor.batch import to_device
from ramify.runtime.executor.mask_table import MaskTable
from ramify.runtime.executor.penalties import Penalized, Penalties
from ramify.runtime.executor.philox import uniforms
from ramify.runtime.executor.sampler import Sampled
from ramify.runtime.kernels.add_bias import add_bias
from ramify.runtime.kernels.argmax import argmax
from ramify.runtime.kernels.bitmask import apply_bitmask
from ramify.runtime.kernels.logprobs import logprobs
from ramify.runtime.kernels.sample import sample


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


class Draws(NamedTuple):
    """What a step chose, row by row."""

    tokens: torch.Tensor  # [R] int32; -1: the row's logits allow no choice
    logprobs: Logprobs | None  # of the rows that asked
    errors: dict[int, ErrorInfo]  # by row: its grammar outgrew its limits

    def to_host(self) -> "Draws":
        """Asynchronously, into pinned memory."""
        logprobs = self.logprobs and self.logprobs.to_host()
        return Draws(to_host(self.tokens), logprobs, self.errors)

    def read(self, entries: Sequence[PlannedRows]) -> list[Sampled]:
        """As the scheduler takes it. On the host, once copied."""
        tokens = self.tokens.tolist()
        by_row: dict[int, TokenLogprob] = {}
        if self.logprobs is not None:
            asked = [row for row, entry in enumerate(entries) if _wants_logprobs(entry)]
            tops = [entries[row].request.spec.logprobs.top for row in asked]
            found = self.logprobs.read([tokens[row] for row in asked], tops)
            by_row = dict(zip(asked, found, strict=True))
        choices = [
            Sampled(token, by_row.get(row), None) if token >= 0 else Sampled(None, None, _UNFIT)
            for row, token in enumerate(tokens)
        ]
        for row, error in self.errors.items():
            choices[row] = Sampled(None, None, error)
        return choices


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """What stays the same for as long as the same requests choose, step after step."""

    requests: list[Request]
    slots: list[np.ndarray]  # of each: another list after a retraction, or once it ended
    asked: list[int]  # rows whose log-probabilities are wanted
    wanted: torch.Tensor | None  # [len(asked)] int64 device: the same
    biased: list[int]  # rows with biases, or with a least number of tokens
    drawn: list[int]  # rows with a temperature
    parameters: np.ndarray  # [5, R] float32: temperature, top_p, min_p, place of uniform, top_k
    penalized: Penalized | None

    @property
    def is_plain(self) -> bool:
        """Does nothing but a draw stand between their logits and their tokens?"""
        is_changed = self.biased or self.penalized or self.asked
        return not is_changed and all(request.guide is None for request in self.requests)

    def draws(self, entries: Sequence[PlannedRows]) -> np.ndarray | None:
        """[5, R] int32, as of `choose`: the parameters of these entries' draws; None: none has a
        temperature."""
        if not self.drawn:
            return None
        rows = [entries[row] for row in self.drawn]
        draws = uniforms(
            [entry.request.spec.sampling.seed or 0 for entry in rows],
            [entry.request.spec.index for entry in rows],
            [_output_len(entry) for entry in rows],
        )
        found = self.parameters.copy()
        found[3, self.drawn] = np.minimum(draws.astype(np.float32), _BELOW_ONE)
        return found.view(np.int32)

    def is_of(self, entries: Sequence[PlannedRows]) -> bool:
        """Are these the same requests?"""
        if len(entries) != len(self.requests):
            return False
        return all(
            entry.request is request and request.slots is slots
            for entry, request, slots in zip(entries, self.requests, self.slots, strict=True)
        )


class DeviceSampler:
    """Chooses tokens for rows of logits; keeps masks and counts on the device."""

    def __init__(self, vocab_size: int, max_requests: int, device: torch.device) -> None:
        self._device = device
        self._masks = MaskTable(vocab_size, max_requests, device)
        self._penalties = Penalties(vocab_size, device)
        self._group = self._make_group(())  # of the step before

    def group(self, entries: Sequence[PlannedRows]) -> Group:
        """What holds for as long as these requests choose."""
        if not self._group.is_of(entries):
            self._group = self._make_group(entries)
        return self._group

    def draw(self, logits: torch.Tensor, entries: Sequence[PlannedRows]) -> Draws:
        """Choose a token for each row of `logits` [R, V] float32, which is overwritten.

        Grammars have to be where their entries end, or past it.
        """
        group = self.group(entries)
        raw = None if group.wanted is None else logits[group.wanted]
        masks = self._masks.rows(entries)
        if masks.row_ids is not None:
            apply_bitmask(logits, self._masks.table, masks.row_ids)
        if group.penalized is not None:
            self._penalties.apply(logits, entries, group.penalized)
        _add_biases(logits, entries, group.biased)
        tokens = torch.empty(len(entries), dtype=torch.int32, device=self._device)
        draws = group.draws(entries)
        choose(logits, None if draws is None else to_device(draws, self._device), tokens)
        if group.penalized is not None:
            self._penalties.count(tokens, entries, group.penalized)
        if raw is None or group.wanted is None:
            return Draws(tokens, None, masks.errors)
        most = max(entries[row].request.spec.logprobs.top for row in group.asked)
        chosen = tokens[group.wanted].clamp(min=0)
        return Draws(tokens, score(raw, chosen, most), masks.errors)

    def _make_group(self, entries: Sequence[PlannedRows]) -> Group:
        requests = [entry.request for entry in entries]
        samplings = [request.spec.sampling for request in requests]
        asked = [row for row, entry in enumerate(entries) if _wants_logprobs(entry)]
        parameters = np.zeros((5, len(entries)), np.float32)
        parameters[0] = [s.temperature for s in samplings]
        parameters[1] = [s.top_p for s in samplings]
        parameters[2] = [s.min_p for s in samplings]
        parameters[4].view(np.int32)[:] = [s.top_k for s in samplings]
        return Group(
            requests,
            [request.slots for request in requests],
            asked,
            to_device(np.array(asked, np.int64), self._device) if asked else None,
            [row for row, s in enumerate(samplings) if s.logit_bias or s.min_tokens],
            np.flatnonzero(parameters[0]).tolist(),
            parameters,
            self._penalties.of(entries),
        )


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


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy that the host does not wait for: whoever reads it waits for an event first."""
    if not tensor.is_cuda:
        return tensor.clone()  # the next step may write where this one did
    out = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return out.copy_(tensor, non_blocking=True)


def choose(logits: torch.Tensor, draws: torch.Tensor | None, tokens: torch.Tensor) -> None:
    """Choose `tokens` [R] int32 from `logits` [R, V]: the likeliest ones, or by `draws` [5, R]
    int32: the bits of temperature, top_p, min_p and a uniform number, all float32; top_k."""
    if draws is None:
        argmax(logits, tokens)
    else:
        temperature, top_p, min_p, uniform = draws[:4].view(torch.float32)
        sample(logits, temperature, draws[4], top_p, min_p, uniform, tokens)


def _wants_logprobs(entry: PlannedRows) -> bool:
    return entry.request.spec.logprobs.output


def _output_len(entry: PlannedRows) -> int:
    """Tokens of the answer before the one to be chosen."""
    return entry.end - entry.request.num_prompt


def _add_biases(logits: torch.Tensor, entries: Sequence[PlannedRows], rows: Sequence[int]) -> None:
    """Biases and bans of `rows`, as far as they still have any."""
    found = [(row, token, bias) for row in rows for token, bias in _biases(entries[row]).items()]
    if not found:
        return
    packed = np.empty((3, len(found)), np.int32)
    packed[0] = [row for row, _, _ in found]
    packed[1] = [token for _, token, _ in found]
    packed[2].view(np.float32)[:] = [bias for _, _, bias in found]
    on_device = to_device(packed, logits.device)
    add_bias(logits, on_device[0], on_device[1], on_device[2].view(torch.float32))


def _biases(entry: PlannedRows) -> dict[int, float]:
    s = entry.request.spec.sampling
    biases = dict(s.logit_bias)
    if _output_len(entry) < s.min_tokens:
        stops = s.stop_token_ids + (() if s.ignore_eos else entry.request.spec.eos_token_ids)
        biases |= dict.fromkeys(stops, -float("inf"))
    return biases


_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))
_UNFIT = ErrorInfo(
    message="no token can be chosen: all logits are -inf, or some are not finite; this request "
    "cannot go on; other requests are not affected",
    type="EngineError",
    code="bad_logits",
)
