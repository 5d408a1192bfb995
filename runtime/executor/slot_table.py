"""Where on the device each running request's slots are listed, by position.

One array for all requests: a region each, as long as the request can get. Kernels find the slot of
position p of a request at `base + p`. Rows of requests that were released are taken back when room
is needed; everything on the device happens in the order of one stream, so what a step in flight
still reads is not overwritten before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ramify.runtime.core import PlannedRows, Request

_SMALLEST = 256  # entries of a region; larger ones are powers of two


@dataclass(slots=True)
class Place:
    """A request's stable row, and its region of the table."""

    row: int
    base: int
    size: int
    slots: np.ndarray  # the request's own list when it was placed: a new one after a retraction
    num_listed: int = 0  # positions whose slots were sent


class SlotTable:
    """Hands out rows and regions, and knows what the device has been told."""

    def __init__(self, *, max_requests: int, num_entries: int, device: torch.device) -> None:
        # [num_entries] int32 device; entry 0 is nobody's: padding rows write there
        self.slots = torch.zeros(num_entries, dtype=torch.int32, device=device)
        # [max_requests + 1] int32 device: the token each row was given last; the last is padding's
        self.last_token = torch.zeros(max_requests + 1, dtype=torch.int32, device=device)
        self.padding_row = max_requests
        self._places: dict[Request, Place] = {}
        self._free_rows = list(range(max_requests - 1, -1, -1))
        self._free_regions: dict[int, list[int]] = {}  # size -> bases
        self._end = 1

    def place(self, request: Request) -> Place:
        """The request's place; a new one if it was just admitted."""
        place = self._places.get(request)
        if place is not None and place.slots is request.slots:
            return place
        if place is not None:
            self._release(request)
        size = max(_SMALLEST, 1 << (len(request.slots) - 1).bit_length())
        if not self._free_rows or not self._has_region(size):
            self._sweep()
        base = self._take_region(size)
        place = self._places[request] = Place(self._free_rows.pop(), base, size, request.slots)
        return place

    def unsent(self, entries: Sequence[PlannedRows]) -> tuple[np.ndarray, np.ndarray]:
        """(index into `slots`, slot) of every position below each entry's end that the device has
        not been told; from now on it counts as told."""
        at: list[np.ndarray] = []
        slots: list[np.ndarray] = []
        for entry in entries:
            place = self.place(entry.request)
            if place.num_listed < entry.end:
                at.append(np.arange(place.base + place.num_listed, place.base + entry.end))
                slots.append(entry.request.slots[place.num_listed : entry.end])
                place.num_listed = entry.end
        if not at:
            return np.zeros(0, np.int32), np.zeros(0, np.int32)
        return np.concatenate(at).astype(np.int32), np.concatenate(slots)

    def known(self, tokens: torch.Tensor) -> torch.Tensor:
        """`tokens` [T] int32, those filled in that were given last: -1 - row stands for them."""
        last = self.last_token[(-1 - tokens).clamp(min=0)]
        return torch.where(tokens < 0, last, tokens)

    def _has_region(self, size: int) -> bool:
        return bool(self._free_regions.get(size)) or self._end + size <= len(self.slots)

    def _take_region(self, size: int) -> int:
        free = self._free_regions.get(size)
        if free:
            return free.pop()
        while self._end + size > len(self.slots):
            self.slots = torch.cat([self.slots, torch.zeros_like(self.slots)])
        base = self._end
        self._end += size
        return base

    def _sweep(self) -> None:
        """Take back what ended or retracted requests held."""
        for request, place in list(self._places.items()):
            if request.node is None or place.slots is not request.slots:
                self._release(request)

    def _release(self, request: Request) -> None:
        place = self._places.pop(request)
        self._free_rows.append(place.row)
        self._free_regions.setdefault(place.size, []).append(place.base)
