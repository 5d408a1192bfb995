"""A work list where the attention kernel reads it."""

import numpy as np
import torch

from ramify.runtime.kernels.work_list import ITEM_FIELDS, WorkList

MAX_PROGRAMS = 1024  # of one launch


class WorkBuffers:
    """A work list on the device, in buffers that never move, so that CUDA graphs can replay it."""

    def __init__(
        self,
        *,
        max_items: int,
        max_entries: int,
        max_rows: int,
        max_parts: int,
        num_heads: int,
        num_kv_heads: int,
        head_size: int,
        device: torch.device | str,
    ) -> None:
        # Programs look past the last item for one without rows: that many spare items.
        sizes = [(max_items + MAX_PROGRAMS) * ITEM_FIELDS, max_entries, max_entries, 2 * max_rows]
        self._limits = (max_items * ITEM_FIELDS, *sizes[1:])
        # [sum of sizes] int32 device: the arrays of `WorkList`
        lists = torch.zeros(sum(sizes), dtype=torch.int32, device=device)
        self.items, self.item_rows, self.item_parts, self.row_parts = lists.split(sizes)
        self.most_rows = 0  # of any item of the list last loaded
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
            max_items=len(work.items),
            max_entries=len(work.item_rows),
            max_rows=len(work.row_parts),
            max_parts=work.num_parts,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_size=head_size,
            device=device,
        )
        buffers.load(work)
        return buffers

    def has_room(self, work: WorkList) -> bool:
        """Does a list fit?"""
        sizes = (array.size for array in work[:4])
        fits = all(size <= limit for size, limit in zip(sizes, self._limits, strict=True))
        return fits and work.num_parts <= len(self.parts)

    def load(self, work: WorkList) -> None:
        """Copy a list in, in the order of the stream; the host does not wait."""
        if not self.has_room(work):
            sizes = [array.size for array in work[:4]]
            raise ValueError(
                f"work list of {sizes} numbers and {work.num_parts} partial results: room for "
                f"{list(self._limits)} and {len(self.parts)}"
            )
        self.most_rows = int(work.items[:, 1].max(initial=0))
        end = np.zeros(MAX_PROGRAMS * ITEM_FIELDS, np.int32)
        arrays = [work.items.reshape(-1), end, *(array.reshape(-1) for array in work[1:4])]
        packed = torch.from_numpy(np.concatenate(arrays))
        if self.items.is_cuda:
            packed = packed.pin_memory()
        sizes = [len(arrays[0]) + len(end), *map(len, arrays[2:])]
        places = (self.items, self.item_rows, self.item_parts, self.row_parts)
        for place, part in zip(places, packed.split(sizes), strict=True):
            place[: len(part)].copy_(part, non_blocking=True)
