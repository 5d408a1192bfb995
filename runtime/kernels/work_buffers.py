"""A work list where the attention kernel reads it."""

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
        self.max_items = max_items
        spare = (max_items + MAX_PROGRAMS) * ITEM_FIELDS
        sizes = [spare, max_entries, max_entries, 2 * max_rows]
        # [sum of sizes] int32 device: the arrays of `WorkList`, and their host copy
        self._lists = torch.zeros(sum(sizes), dtype=torch.int32, device=device)
        self.items, self.item_rows, self.item_parts, self.row_parts = self._lists.split(sizes)
        self._staging = torch.zeros(sum(sizes), dtype=torch.int32, pin_memory=self._lists.is_cuda)
        self._views = self._staging.split(sizes)
        self.most_rows = 0  # of any item of the list last loaded
        # [max_rows, num_kv_heads] int32 device: parts that have arrived; zero between launches
        self.arrived = torch.zeros(max_rows, num_kv_heads, dtype=torch.int32, device=device)
        # [max_parts, num_heads, head_size] fp32 device: partial results
        self.parts = torch.empty(max_parts, num_heads, head_size, device=device)
        # [max_parts, num_heads] fp32 device: log2 of the sum of exponentials of each part
        self.part_lse = torch.empty(max_parts, num_heads, device=device)

    def load(self, work: WorkList) -> None:
        """Copy a list in, asynchronously: the one before it must have been copied by then."""
        arrays = (work.items, work.item_rows, work.item_parts, work.row_parts)
        limits = (self.max_items * ITEM_FIELDS, *(view.numel() for view in self._views[1:]))
        for name, array, limit in zip(work._fields, arrays, limits, strict=False):
            if array.size > limit:
                raise ValueError(f"work list: {array.size} numbers in {name}, room for {limit}")
        if work.num_parts > self.parts.shape[0]:
            raise ValueError(f"{work.num_parts} partial results, room for {self.parts.shape[0]}")
        self.most_rows = int(work.items[:, 1].max(initial=0))
        for array, view in zip(arrays, self._views, strict=True):
            view[: array.size] = torch.from_numpy(array.reshape(-1))
        self._views[0][work.items.size :] = 0
        self._lists.copy_(self._staging, non_blocking=True)
