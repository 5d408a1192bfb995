"""Penalties of requests that have any: what each has seen, counted on the device.

The token that a step samples is counted where it lies, so that the next step need not wait until
the host has read it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ramify.runtime.core import PlannedRows, Request
from ramify.runtime.executor.batch import to_device
from ramify.runtime.kernels.penalties import penalize

_FIRST_STATES = 8


@dataclass(slots=True)
class _Place:
    """A request's row of counts."""

    state: int
    slots: np.ndarray  # the request's own list when it was placed: a new one after a retraction
    num_counted: int = 0  # positions whose tokens were counted


class Penalized(NamedTuple):
    """The rows of some requests that have penalties."""

    rows: list[int]
    places: list[_Place]
    settings: torch.Tensor  # [4, R] float32 device: state (int32 bits, -1 = none) and penalties
    where: torch.Tensor  # [2, len(rows)] int64 device: row, first number of its counts


class Penalties:
    """Counts of the requests that have penalties; rows are made as they are needed."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        self._device = device
        # [states, vocabulary] int32 device: `seen` of `kernels.penalties`
        self._seen = torch.zeros((0, vocab_size), dtype=torch.int32, device=device)
        self._free: list[int] = []
        self._places: dict[Request, _Place] = {}

    def of(self, entries: Sequence[PlannedRows]) -> "Penalized | None":
        """What there is to do for these requests, step after step; None: nothing."""
        rows = [row for row, entry in enumerate(entries) if _has_penalties(entry)]
        if not rows:
            return None
        places = [self._place(entries[row].request) for row in rows]
        packed = np.zeros((4, len(entries)), np.float32)
        states = packed[0].view(np.int32)
        states[:] = -1
        states[rows] = [place.state for place in places]
        settings = [entries[row].request.spec.sampling for row in rows]
        packed[1, rows] = [s.repetition_penalty for s in settings]
        packed[2, rows] = [s.frequency_penalty for s in settings]
        packed[3, rows] = [s.presence_penalty for s in settings]
        where = np.array([rows, [place.state * self._vocab_size for place in places]], np.int64)
        on_device = to_device(packed, self._device), to_device(where, self._device)
        return Penalized(rows, places, *on_device)

    def apply(
        self, logits: torch.Tensor, entries: Sequence[PlannedRows], penalized: "Penalized"
    ) -> None:
        """Change the logits of `entries`; their tokens up to each `end` count."""
        self._count_known(entries, penalized)
        rows = penalized.settings
        penalize(logits, self._seen, rows[0].view(torch.int32), rows[1], rows[2], rows[3])

    def count(
        self, tokens: torch.Tensor, entries: Sequence[PlannedRows], penalized: "Penalized"
    ) -> None:
        """Count the tokens [R] int32 that were chosen for `entries`."""
        rows, bases = penalized.where
        chosen = tokens.index_select(0, rows).clamp(min=0)  # -1: the request ends with an error
        self._seen.view(-1).index_add_(0, bases + chosen, torch.full_like(chosen, 2))
        for row, place in zip(penalized.rows, penalized.places, strict=True):
            place.num_counted = entries[row].end + 1

    def _count_known(self, entries: Sequence[PlannedRows], penalized: "Penalized") -> None:
        """Count tokens that were not chosen here: prompts, and what a grammar forced."""
        where, amounts = [], []
        for row, place in zip(penalized.rows, penalized.places, strict=True):
            entry = entries[row]
            if place.num_counted < entry.end:
                ids, counts = _counts(entry.request, place.num_counted, entry.end)
                where.append(ids + place.state * self._vocab_size)
                amounts.append(counts)
        if where:
            at = to_device(np.concatenate(where), self._device)
            more = to_device(np.concatenate(amounts), self._device)
            self._seen.view(-1).index_add_(0, at, more)

    def _place(self, request: Request) -> _Place:
        place = self._places.get(request)
        if place is not None and place.slots is request.slots:
            return place
        if place is not None:
            self._release(request)
        if not self._free:
            self._sweep()
        if not self._free:
            self._grow()
        place = self._places[request] = _Place(self._free.pop(), request.slots)
        self._seen[place.state].zero_()
        return place

    def _grow(self) -> None:
        old = len(self._seen)
        more = self._seen.new_zeros((max(old, _FIRST_STATES), self._vocab_size))
        self._seen = torch.cat([self._seen, more])
        self._free.extend(range(len(self._seen) - 1, old - 1, -1))

    def _sweep(self) -> None:
        """Take back the rows of ended and retracted requests."""
        for request, place in list(self._places.items()):
            if request.node is None or place.slots is not request.slots:
                self._release(request)

    def _release(self, request: Request) -> None:
        self._free.append(self._places.pop(request).state)


def _has_penalties(entry: PlannedRows) -> bool:
    request, s = entry.request, entry.request.spec.sampling
    if request.node is None:  # ended while the step was under way
        return False
    return bool(s.repetition_penalty != 1.0 or s.frequency_penalty or s.presence_penalty)


def _counts(request: Request, start: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """(token, amount to add to `seen`) of positions [start, end), each token once."""
    known = np.array(request.token_ids[start:end], np.int64)
    assert len(known) == end - start, f"{request.spec.rid}: tokens up to {end} are not known"
    num_prompt = max(0, request.num_prompt - start)
    prompt, _ = np.unique(known[:num_prompt], return_counts=True)
    output, counts = np.unique(known[num_prompt:], return_counts=True)
    ids = np.concatenate([prompt, output])
    amounts = np.concatenate([np.ones(len(prompt)), 2 * counts]).astype(np.int32)
    return ids, amounts
