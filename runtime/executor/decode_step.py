"""Decode steps: one row per request, replayed from CUDA graphs.

A graph is captured when a batch of its size first comes. Everything that differs from step to step
is read on the device: a small upload of (row, position, slot) per request, the table of slots, the
token each request was given last, and the work list, which is planned anew only when the requests
change or have outgrown it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from ramify.runtime.cache.kv_pool import KVPool
from ramify.runtime.core import PlannedRows
from ramify.runtime.executor.batch import to_device
from ramify.runtime.executor.slot_table import Place, SlotTable
from ramify.runtime.executor.work import Planner
from ramify.runtime.kernels.attention_tiles import Tiles
from ramify.runtime.kernels.work_buffers import WorkBuffers
from ramify.runtime.kernels.work_list import WorkList
from ramify.runtime.models.gpu_runner import DeviceRows, GPURunner

ROOM = 16  # steps that a work list serves before it is planned anew
_DENSE = 32  # every batch size up to here has its own graph; above, steps of 8, then of 16
_MIDDLE = 64


def graph_size(num_rows: int) -> int:
    """Rows of the graph that runs a batch."""
    if num_rows <= _DENSE:
        return num_rows
    step = 8 if num_rows <= _MIDDLE else 16
    return -(-num_rows // step) * step


class DecodeStep:
    """Runs decode steps; keeps work list, graphs and their static buffers."""

    def __init__(
        self,
        runner: GPURunner,
        kv_pool: KVPool,
        table: SlotTable,
        planner: Planner,
        *,
        graphs: bool,
    ) -> None:
        self._runner = runner
        self._kv_pool = kv_pool
        self._table = table
        self._planner = planner
        self._graphs: Graphs | None = Graphs() if graphs else None
        most = graph_size(table.padding_row)
        # [3, most] int32 device: state row, position, slot of each batch row
        self._rows = torch.zeros((3, most), dtype=torch.int32, device=table.slots.device)
        # [most, vocabulary] float32 device: one for all graphs, which would keep one each
        vocab_size = runner.config.vocab_size
        self._logits = torch.empty((most, vocab_size), device=table.slots.device)
        self._slots = table.slots  # as the graphs know it
        self._work: WorkBuffers | None = None
        self._tiles: Tiles | None = None
        self._places: list[Place] = []
        self._room = 0

    def run(self, rows: Sequence[PlannedRows]) -> torch.Tensor:
        """[B, vocabulary] float32 logits, good until the next call."""
        work, tiles = self._update_work(rows)
        size = graph_size(len(rows))
        self._upload(rows, size)
        if self._slots is not self._table.slots:
            self._slots = self._table.slots
            self._forget_graphs()

        def forward() -> None:
            self._forward(size, work, tiles)

        if self._graphs is None:
            forward()
        else:
            self._graphs.run((size, tiles), forward)
        return self._logits[: len(rows)]

    def _forward(self, size: int, work: WorkBuffers, tiles: Tiles) -> None:
        state_rows, positions, out_loc = self._rows[:, :size]
        hidden = self._runner.forward(
            DeviceRows(
                input_ids=self._table.last_token[state_rows],
                positions=positions,
                out_loc=out_loc,
                slots=self._slots,
                work=work,
                tiles=tiles,
            ),
            self._kv_pool,
        )
        self._runner.logits(hidden, out=self._logits[:size])

    def _upload(self, rows: Sequence[PlannedRows], size: int) -> None:
        packed = np.empty((3, size), np.int32)
        packed[:, len(rows) :] = ((self._table.padding_row,), (0,), (-1,))
        for at, entry in enumerate(rows):
            request = entry.request
            packed[:, at] = self._table.place(request).row, entry.start, request.slots[entry.start]
        self._rows[:, :size].copy_(to_device(packed, self._rows.device), non_blocking=True)

    def _update_work(self, rows: Sequence[PlannedRows]) -> tuple[WorkBuffers, Tiles]:
        """The work list on the device, planned anew if it no longer fits."""
        # A place is one admission of one request: a retracted one comes back with another.
        places = [self._table.place(entry.request) for entry in rows]
        same = len(places) == len(self._places) and all(map(_is, places, self._places))
        if same and self._room and self._work is not None and self._tiles is not None:
            self._room -= 1
            return self._work, self._tiles
        bases = [place.base for place in places]
        work, tiles = self._planner.lay_out(rows, bases, room=ROOM)
        buffers = self._load(work)
        self._tiles, self._places, self._room = tiles, places, ROOM
        return buffers, tiles

    def _load(self, work: WorkList) -> WorkBuffers:
        if self._work is None or not self._work.has_room(work):
            self._work = self._planner.buffers(work, len(self._logits))
            self._forget_graphs()
        self._work.load(work)
        return self._work

    def _forget_graphs(self) -> None:
        if self._graphs is not None:
            self._graphs = Graphs()


class Graphs:
    """Captured launches by key, in one memory pool."""

    def __init__(self) -> None:
        self._captured: dict[object, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def run(self, key: object, launch: Callable[[], None]) -> None:
        """Do what `launch` does, from a graph; it is captured the first time."""
        graph = self._captured.get(key)
        if graph is None:
            launch()  # compiles what is new; the replay does the same again
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                launch()
            self._captured[key] = graph
        graph.replay()


def _is(one: object, other: object) -> bool:
    return one is other
