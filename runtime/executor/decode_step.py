"""Decode steps: one row per request, replayed from CUDA graphs.

A graph is captured when a batch of its size first comes. Everything that differs from step to step
is read on the device: one small upload of what `begin_rows` takes, the table of slots, the token
each request was given last, and the work list, which is planned anew only when the requests change
or have outgrown it. Where nothing but a draw stands between logits and tokens, it is in the graph.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from ramify.runtime.cache.kv_pool import KVPool
from ramify.runtime.core import PlannedRows
from ramify.runtime.executor.batch import upload
from ramify.runtime.executor.device_sampler import choose
from ramify.runtime.executor.replay import Replay
from ramify.runtime.executor.slot_table import Place, SlotTable
from ramify.runtime.executor.work import Planner
from ramify.runtime.kernels.attention_tiles import StepTiles
from ramify.runtime.kernels.decode_rows import begin_rows, end_rows
from ramify.runtime.kernels.work_buffers import WorkBuffers
from ramify.runtime.models.gpu_runner import DeviceRows, GPURunner

ROOM = 16  # steps that a work list serves before it is planned anew
_DENSE = 32  # every batch size up to here has its own graph; above, steps of 8, then of 16
_MIDDLE = 64
End = Literal["logits", "likeliest", "drawn"]  # what a step ends with: logits, or tokens chosen so


def graph_size(num_rows: int) -> int:
    """Rows of the graph that runs a batch."""
    if num_rows <= _DENSE:
        return num_rows
    step = 8 if num_rows <= _MIDDLE else 16
    return -(-num_rows // step) * step


class DecodeStep:
    """Runs decode steps; keeps the work list and what graphs read and write."""

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
        most = graph_size(table.padding_row)
        self._replay = Replay(table, planner, max_rows=most, patience=0, graphs=graphs)
        device = table.slots.device
        # [9 * most] int32 device: of a step of B rows, [4, B] as of `begin_rows` and then [5, B]
        # as of `device_sampler.choose`
        self._packed = torch.zeros(9 * most, dtype=torch.int32, device=device)
        self._input_ids = torch.zeros(most, dtype=torch.int32, device=device)
        self._tokens = torch.zeros(most, dtype=torch.int32, device=device)
        # [most, vocabulary] float32 device: one for all graphs, which would keep one each
        self._logits = torch.empty((most, runner.config.vocab_size), device=device)
        self._work: WorkBuffers | None = None
        self._tiles: StepTiles | None = None
        self._places: list[Place] = []
        self._room = 0

    def run(self, rows: Sequence[PlannedRows], places: list[Place]) -> torch.Tensor:
        """[B, vocabulary] float32 logits, good until the next call. `places`: of the rows, whose
        slots before their own are listed."""
        self._run(rows, places, "logits")
        return self._logits[: len(rows)]

    def choose(
        self, rows: Sequence[PlannedRows], places: list[Place], draws: np.ndarray | None
    ) -> torch.Tensor:
        """[B] int32: the tokens of rows that are plain, -1 where there is no choice; good until the
        next call. The rows' next steps begin with them. `draws`: [5, B] as of `Group.draws`."""
        self._run(rows, places, "likeliest" if draws is None else "drawn", draws)
        return self._tokens[: len(rows)]

    def _run(
        self,
        rows: Sequence[PlannedRows],
        places: list[Place],
        end: End,
        draws: np.ndarray | None = None,
    ) -> None:
        work, tiles = self._update_work(rows, places)
        size = graph_size(len(rows))
        self._upload(rows, places, size, draws)

        def forward() -> None:
            self._forward(size, work, tiles)
            if end != "logits":
                self._choose(size, is_drawn=end == "drawn")

        self._replay.run((size, tiles, end), forward)

    def _forward(self, size: int, work: WorkBuffers, tiles: StepTiles) -> None:
        rows = self._packed[: 4 * size].view(4, size)
        begin_rows(rows, self._table.slots, self._table.last_token, self._input_ids[:size])
        hidden = self._runner.forward(
            DeviceRows(
                input_ids=self._input_ids[:size],
                positions=rows[1],
                out_loc=rows[2],
                slots=self._table.slots,
                work=work,
                tiles=tiles,
            ),
            self._kv_pool,
        )
        self._runner.logits(hidden, out=self._logits[:size])

    def _choose(self, size: int, *, is_drawn: bool) -> None:
        packed = self._packed[: 9 * size].view(9, size)
        tokens = self._tokens[:size]
        choose(self._logits[:size], packed[4:] if is_drawn else None, tokens)
        end_rows(packed[:4], tokens, self._table.last_token)

    def _upload(
        self,
        rows: Sequence[PlannedRows],
        places: list[Place],
        size: int,
        draws: np.ndarray | None,
    ) -> None:
        packed = np.zeros((4 if draws is None else 9, size), np.int32)
        packed[0, len(rows) :], packed[2, len(rows) :] = self._table.padding_row, -1
        mine = packed[:, : len(rows)]
        mine[0] = [place.row for place in places]
        mine[1] = [entry.start for entry in rows]
        mine[2] = [entry.request.slots[entry.start] for entry in rows]
        mine[3] = mine[1] + np.array([place.base for place in places], np.int32)
        for entry, place in zip(rows, places, strict=True):
            place.num_listed = entry.end
        if draws is not None:
            mine[4:] = draws
        upload(packed.reshape(-1), self._packed[: packed.size])

    def _update_work(
        self, rows: Sequence[PlannedRows], places: list[Place]
    ) -> tuple[WorkBuffers, StepTiles]:
        """The work list on the device, planned anew if it no longer fits."""
        # A place is one admission of one request: a retracted one comes back with another.
        same = len(places) == len(self._places) and all(map(_is, places, self._places))
        if same and self._room and self._work is not None and self._tiles is not None:
            self._room -= 1
            return self._work, self._tiles
        bases = [place.base for place in places]
        work, tiles = self._planner.lay_out(rows, bases, room=ROOM)
        self._work = self._replay.load(work)
        self._tiles, self._places, self._room = tiles, places, ROOM
        return self._work, tiles


def _is(one: object, other: object) -> bool:
    return one is other
