"""Which tokens each row's grammar allows, as rows of a table on the device.

Grammars keep the masks of their states, so requests in the same state share one array: it is
uploaded once, and named by its row of the table from then on. Rows not named for longest make room;
all of it happens in the order of one stream, so what a step in flight still reads is not
overwritten before it.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from ramify.grammars.errors import GrammarError
from ramify.lang.errors import ErrorInfo
from ramify.runtime.core import PlannedRows
from ramify.runtime.executor.batch import to_device
from ramify.runtime.guide import one_token_mask, refusal

_MORE = 1024  # rows beyond one for each request


class Masks(NamedTuple):
    """The masks of a step's rows."""

    row_ids: (
        torch.Tensor | None
    )  # [R] int32 device: rows of the table, -1 = anything goes; None: all
    errors: dict[int, ErrorInfo]  # by row: the grammar outgrew its limits


NONE = Masks(None, {})


class MaskTable:
    """Masks on the device; takes no memory until a request has a grammar."""

    def __init__(self, vocab_size: int, max_requests: int, device: torch.device) -> None:
        self._num_words = (vocab_size + 31) // 32
        self._num_rows = max_requests + _MORE
        self._device = device
        # [rows, num_words] int32 device: bit t % 32 of word t // 32: token t is allowed
        self.table = torch.empty((0, self._num_words), dtype=torch.int32, device=device)
        self._kept: OrderedDict[int, tuple[int, np.ndarray]] = OrderedDict()  # by id of the array
        self.num_uploaded = 0

    def rows(self, entries: Sequence[PlannedRows]) -> Masks:
        """The rows that `entries` choose their tokens under; missing ones are sent."""
        if all(entry.request.guide is None for entry in entries):
            return NONE
        if not len(self.table):
            self.table = self.table.new_empty((self._num_rows, self._num_words))
        row_ids = np.full(len(entries), -1, np.int32)
        errors: dict[int, ErrorInfo] = {}
        fresh: list[tuple[int, np.ndarray]] = []
        for index, entry in enumerate(entries):
            try:
                mask = _allowed(entry)
            except GrammarError as error:
                errors[index] = refusal(error, entry.request.spec.sampling).info()
                continue
            if mask is not None:
                row_ids[index] = self._row(mask, fresh)
        self._send(fresh)
        return Masks(to_device(row_ids, self._device), errors)

    def _row(self, mask: np.ndarray, fresh: list[tuple[int, np.ndarray]]) -> int:
        found = self._kept.get(id(mask))
        if found is not None:
            self._kept.move_to_end(id(mask))
            return found[0]
        # At most one row per entry is named in a step: the oldest is not of this one.
        full = len(self._kept) == self._num_rows
        row = self._kept.popitem(last=False)[1][0] if full else len(self._kept)
        self._kept[id(mask)] = row, mask  # held, so that the id stays its own
        fresh.append((row, mask))
        return row

    def _send(self, fresh: list[tuple[int, np.ndarray]]) -> None:
        if not fresh:
            return
        words = np.zeros((len(fresh), self._num_words), np.int32)
        for at, (_, mask) in enumerate(fresh):
            words[at, : len(mask)] = mask
        rows = to_device(np.array([row for row, _ in fresh], np.int64), self._device)
        self.table.index_copy_(0, rows, to_device(words, self._device))
        self.num_uploaded += len(fresh)


def _allowed(entry: PlannedRows) -> np.ndarray | None:
    """[words] int32: what may follow the entry's last row; None: anything."""
    request = entry.request
    if request.guide is None or request.node is None:  # None: ended while the step was under way
        return None
    if entry.end < request.num_tokens:  # forced while the step was under way
        return one_token_mask(request.token_ids[entry.end])
    return request.guide.mask()
