"""A work list where the attention kernel reads it."""

import numpy as np
import torch

from ramify.runtime.kernels.work_list import ITEM_FIELDS, WorkList

MAX_PROGRAMS = 1024  # of one launch
_SPARE = MAX_PROGRAMS * ITEM_FIELDS  # programs look past the last item for one without rows


class WorkBuffers:
    """A work list on the device, in buffers that never move, so that CUDA graphs can replay it."""

    def __init__(
        self,
        *,
        max_large: int,
        max_small: int,
        max_entries: int,
        max_rows: int,
        max_parts: int,
        num_heads: int,
        num_kv_heads: int,
        head_size: int,
        device: torch.device | str,
    ) -> None:
        large, small = max_large * ITEM_FIELDS, max_small * ITEM_FIELDS
        self._limits = (large, small, max_entries, max_entries, 2 * max_rows)
        # [sum of sizes] int32 device: the arrays of `WorkList`, and the rows with several parts,
        # -1 behind the last
        sizes = [large + _SPARE, small + _SPARE, *self._limits[2:], max_rows]
        lists = torch.zeros(sum(sizes), dtype=torch.int32, device=device)
        self._places = lists.split(sizes)
        self.large_items, self.small_items, *entries = self._places
        self.item_rows, self.item_parts, self.row_parts, self.merged_rows = entries
        self.most_rows = 0  # of any item of the list last loaded
        self.num_merged: int | None = None  # rows with several parts; None: lists may change
        # [max_rows, num_kv_heads] int32 device: parts that have arrived; zero between launches
        self.arrived = torch.zeros(max_rows, num_kv_heads, dtype=torch.int32, device=device)
        # [max_parts, num_heads, head_size] fp32 device: partial results
        self.parts = torch.empty(max_parts, num_heads, head_size, device=device)
        # [max_parts, num_heads] fp32 device: log2 of the sum of exponentials of each part
        self.part_lse = torch.empty(max_parts, num_heads, device=device)

    @classmethod
    def holding(
        cls,
        work: WorkList,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_size: int,
        device: torch.device | str,
    ) -> "WorkBuffers":
        """Buffers just large enough for one list, loaded with it."""
        buffers = cls(
            max_large=len(work.large_items),
            max_small=len(work.small_items),
            max_entries=len(work.item_rows),
            max_rows=len(work.row_parts),
            max_parts=work.num_parts,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_size=head_size,
            device=device,
        )
        buffers.load(work)
        buffers.num_merged = int((work.row_parts[:, 1] > 1).sum())
        return buffers

    def has_room(self, work: WorkList) -> bool:
        """Does a list fit?"""
        sizes = (array.size for array in work[:5])
        fits = all(size <= limit for size, limit in zip(sizes, self._limits, strict=True))
        return fits and work.num_parts <= len(self.parts)

    def load(self, work: WorkList) -> None:
        """Copy a list in, in the order of the stream; the host does not wait."""
        if not self.has_room(work):
            sizes = [array.size for array in work[:5]]
            raise ValueError(
                f"work list of {sizes} numbers and {work.num_parts} partial results: room for "
                f"{list(self._limits)} and {len(self.parts)}"
            )
        self.most_rows = int(work.items[:, 1].max(initial=0))
        large, small, *entries = (array.reshape(-1) for array in work[:5])
        merged = np.full(len(self.merged_rows), -1, np.int32)
        rows = np.flatnonzero(work.row_parts[:, 1] > 1)
        merged[: len(rows)] = rows
        entries.append(merged)
        end = np.zeros(_SPARE, np.int32)
        packed = torch.from_numpy(np.concatenate((large, end, small, end, *entries)))
        if self.row_parts.is_cuda:
            packed = packed.pin_memory()
        sizes = [len(large) + _SPARE, len(small) + _SPARE, *map(len, entries)]
        for place, part in zip(self._places, packed.split(sizes), strict=True):
            place[: len(part)].copy_(part, non_blocking=True)
