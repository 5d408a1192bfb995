"""Steps of few rows with prefill among them: a forward pass replayed from CUDA graphs.

A prompt that joins those which decode, or a span that a grammar forced, makes a step of dozens to
thousands of rows. Launched operation by operation it would take the host longer than the device:
20 ms on an H200's host for 28 layers, in which the device does 9,000 rows of a 0.6B model. The rows
are padded to one of a few sizes, a graph is captured when its size comes for the third time;
all that differs from step to step is read on the device.
"""

import numpy as np
import torch

from ramify.runtime.cache.kv_pool import KVPool
from ramify.runtime.executor.batch import upload
from ramify.runtime.executor.replay import Replay
from ramify.runtime.executor.slot_table import SlotTable
from ramify.runtime.executor.work import Planner
from ramify.runtime.kernels.attention_tiles import StepTiles
from ramify.runtime.kernels.work_buffers import WorkBuffers
from ramify.runtime.kernels.work_list import WorkList
from ramify.runtime.models.gpu_runner import DeviceRows, GPURunner

LARGEST = 4096  # rows; graphs of more would hold much memory for their activations
_STEPS = ((128, 16), (512, 64), (LARGEST, 256))  # up to so many rows, a graph every so many


def padded_size(num_rows: int) -> int:
    """Rows of the graph that runs a step."""
    step = next(step for most, step in _STEPS if num_rows <= most)
    return -(-num_rows // step) * step


class SmallStep:
    """Runs steps of up to LARGEST rows; keeps what graphs read and write."""

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
        # Capturing takes as long as a launch: not for sizes that come once or twice.
        self._replay = Replay(table, planner, max_rows=LARGEST, patience=2, graphs=graphs)
        device = table.slots.device
        # [3 * LARGEST] int32 device: of a step of T rows [3, T]: token, position, slot of each
        self._rows = torch.zeros(3 * LARGEST, dtype=torch.int32, device=device)
        # [LARGEST, hidden size] device: one for all graphs
        self._hidden = torch.empty(
            (LARGEST, runner.config.hidden_size), dtype=runner.dtype, device=device
        )

    def run(self, packed: np.ndarray, work: WorkList, tiles: StepTiles) -> torch.Tensor:
        """`packed`: [3, T] int32 token (-1 - a row of the table: the one given last), position,
        slot. [T, hidden size], ready for `GPURunner.logits`, good until the next call."""
        num_rows = packed.shape[1]
        size = padded_size(num_rows)
        padded = np.zeros((3, size), np.int32)
        padded[2] = -1
        padded[:, :num_rows] = packed
        upload(padded.reshape(-1), self._rows[: padded.size])
        buffers = self._replay.load(work)
        self._replay.run((size, tiles), lambda: self._forward(size, buffers, tiles))
        return self._hidden[:num_rows]

    def _forward(self, size: int, work: WorkBuffers, tiles: StepTiles) -> None:
        tokens, positions, out_loc = self._rows[: 3 * size].view(3, size)
        hidden = self._runner.forward(
            DeviceRows(
                input_ids=self._table.known(tokens),
                positions=positions,
                out_loc=out_loc,
                slots=self._table.slots,
                work=work,
                tiles=tiles,
            ),
            self._kv_pool,
        )
        self._hidden[:size].copy_(hidden)
