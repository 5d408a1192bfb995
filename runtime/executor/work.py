"""Work lists of planned steps: who runs through which radix nodes, and how that is cut."""

from collections.abc import Sequence

import torch

from ramify.runtime.cache.radix_tree import RadixNode
from ramify.runtime.core import PlannedRows, Request
from ramify.runtime.kernels.attention_tiles import StepTiles, choose_tiles
from ramify.runtime.kernels.chunk_attention import HEAD_SIZES
from ramify.runtime.kernels.work_buffers import WorkBuffers
from ramify.runtime.kernels.work_list import (
    SHARE_MIN,
    SMALL_ROWS,
    Query,
    WorkList,
    cut_ranges,
    find_ranges,
)
from ramify.runtime.models.config import ModelConfig
from ramify.runtime.models.gpu_runner import Chunk

CHUNK_ROWS = 512  # fewer rows leave many of the device's SMs without a tile
CHUNK_END = 2048  # up to here what is gained is what it costs to put K and V in order

_MOST_PARTED = 1024  # rows with partial results that buffers have room for from the beginning


class Planner:
    """Plans the attention of one model on one device."""

    def __init__(
        self,
        config: ModelConfig,
        device: torch.device,
        num_sms: int,
        share_min: int | None = SHARE_MIN,
    ) -> None:
        self._device = device
        self._num_sms = num_sms
        self._share_min = share_min  # as of `plan_work`
        self._window = config.sliding_window
        self._group = config.num_heads // config.num_kv_heads
        self._shape = {
            "num_heads": config.num_heads,
            "num_kv_heads": config.num_kv_heads,
            "head_size": config.head_dim,
        }

    def plan(
        self, rows: Sequence[PlannedRows], bases: Sequence[int]
    ) -> tuple[WorkBuffers, StepTiles]:
        """Of one step, used once. `bases`: where in the slot table each request's region is."""
        work, tiles = self.lay_out(rows, bases)
        return WorkBuffers.holding(work, **self._shape, device=self._device), tiles

    def lay_out(
        self, rows: Sequence[PlannedRows], bases: Sequence[int], room: int = 0
    ) -> tuple[WorkList, StepTiles]:
        """The list, right for as long as each request grows by up to `room` tokens."""
        queries = []
        at = 0
        for entry, base in zip(rows, bases, strict=True):
            num_rows = entry.end - entry.start
            if not self._is_chunk(entry):
                request = entry.request
                queries.append(
                    Query(at, num_rows, entry.start, base, _path(request), request.slots)
                )
            at += num_rows
        found = find_ranges(queries, group=self._group, room=room, share_min=self._share_min)
        tiles = choose_tiles(self._shape["head_size"], at, has_large=found.has_large)
        small, large = tiles.small, tiles.large
        assert small is not None, "known only once the work is cut"
        work = cut_ranges(
            found,
            num_rows=at,
            num_kv_heads=self._shape["num_kv_heads"],
            tile_rows=large.rows if large else SMALL_ROWS,
            num_ctas=self._num_sms * small.ctas_per_sm,
            num_large_ctas=self._num_sms * large.ctas_per_sm if large else 1,
            window=self._window,
        )
        return work, tiles if len(work.small_items) else tiles._replace(small=None)

    def chunks(self, rows: Sequence[PlannedRows], bases: Sequence[int]) -> tuple[Chunk, ...]:
        """The rows of a step that `lay_out` leaves to `chunk_attention`."""
        found = []
        at = 0
        for entry, base in zip(rows, bases, strict=True):
            num_rows = entry.end - entry.start
            if self._is_chunk(entry):
                found.append(Chunk(at, num_rows, base, entry.end))
            at += num_rows
        return tuple(found)

    def _is_chunk(self, entry: PlannedRows) -> bool:
        """Whether these rows are worth putting the request's K and V in order first."""
        return (
            self._window is None
            and self._shape["head_size"] in HEAD_SIZES
            and entry.end - entry.start >= CHUNK_ROWS
            and entry.end >= CHUNK_END
        )

    def buffers(self, work: WorkList, max_rows: int) -> WorkBuffers:
        """Buffers for lists of decode steps, with room for longer ones than `work`."""
        return WorkBuffers(
            max_large=2 * len(work.large_items) + 4 * max_rows,
            max_small=2 * len(work.small_items) + 4 * max_rows,
            max_entries=2 * len(work.item_rows) + 8 * max_rows,
            max_rows=max_rows,
            max_parts=2 * work.num_parts + 4 * min(max_rows, _MOST_PARTED),
            **self._shape,
            device=self._device,
        )


def _path(request: Request) -> list[RadixNode]:
    """The radix nodes that hold the request's prompt, root first."""
    path = []
    node = request.node
    while node is not None and node.end:
        path.append(node)
        node = node.parent
    path.reverse()
    return path
