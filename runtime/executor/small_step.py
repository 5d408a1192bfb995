"""Steps of few rows with prefill among them: a forward pass replayed from CUDA graphs.

A prompt that joins those which decode, or a span that a grammar forced, makes a step of dozens to
thousands of rows. Launched operation by operation it would take the host longer than the device,
which does some 1,000 rows of an 8B model, and 9,000 of a 0.6B one, meanwhile. The rows are padded
to one of a few sizes, a graph is captured when its size comes for the third time; all that differs
from step to step is read on the device.
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
from ramify.runtime.models.config import ModelConfig
from ramify.runtime.models.gpu_runner import DeviceRows, GPURunner

LARGEST = 4096  # rows; graphs of more would hold much memory for their activations
_SMALLEST = 512  # rows up to which every model's launches take longer than the device
_LAYER_FLOPS = 5e11  # that a device does while the host launches a layer: 0.7 ms on an H200
_STEPS = ((128, 16), (_SMALLEST, 64), (LARGEST, 256))  # up to so many rows, a graph every so many


def most_rows(config: ModelConfig) -> int:
    """Rows up to which a step of this model is launched from a graph."""
    heads = 2 * (config.num_heads + config.num_kv_heads) * config.head_dim
    weights = config.hidden_size * (heads + 3 * config.intermediate_size)
    return min(LARGEST, max(_SMALLEST, int(_LAYER_FLOPS / (2 * weights)) // 256 * 256))


def padded_size(num_rows: int) -> int:
    """Rows of the graph that runs a step."""
    step = next(step for most, step in _STEPS if num_rows <= most)
    return -(-num_rows // step) * step


class SmallStep:
    """Runs steps of up to `most_rows` rows; keeps what graphs read and write."""

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
        self.most_rows = most_rows(runner.config)
        # Capturing takes as long as a launch: not for sizes that come once or twice.
        self._replay = Replay(table, planner, max_rows=self.most_rows, patience=2, graphs=graphs)
        device = table.slots.device
        # [3 * most_rows] int32 device: of a step of T rows [3, T]: token, position, slot of each
        self._rows = torch.zeros(3 * self.most_rows, dtype=torch.int32, device=device)
        # [most_rows, hidden size] device: one for all graphs
        self._hidden = torch.empty(
            (self.most_rows, runner.config.hidden_size), dtype=runner.dtype, device=device
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
