"""The model on the CPU: from weights and batch to the compiled step's arrays, and back."""

import numpy as np
import torch

from ramify.runtime.cache.kv_pool import KVPool
from ramify.runtime.executor.batch import Batch
from ramify.runtime.kernels.cpu.attention import SPLIT
from ramify.runtime.kernels.cpu.linear import flat_view, linear
from ramify.runtime.kernels.cpu.llama_step import (
    PHASES,
    PRIVATE_ROWS,
    Shape,
    StepRows,
    StepScratch,
    StepWeights,
    local_size,
    step,
)
from ramify.runtime.kernels.cpu.team import ThreadTeam
from ramify.runtime.kernels.cpu.tiles import GATHER_AHEAD
from ramify.runtime.models.config import ModelConfig
from ramify.runtime.models.weights import ModelWeights

DTYPES = (torch.float32, torch.bfloat16)
_NO_WINDOW = 1 << 40


class CPURunner:
    """Runs batches through the compiled step on a team of threads of its own."""

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        cos: torch.Tensor,
        sin: torch.Tensor,
        num_threads: int,
    ) -> None:
        self._config = config
        self._weights = _step_weights(weights, cos, sin)
        self._lm_head = weights.lm_head
        self._eps = np.float32(config.rms_norm_eps)
        self._team = ThreadTeam(num_threads)
        self._scratch: StepScratch | None = None
        self._compile()

    def forward(self, batch: Batch, kv_pool: KVPool) -> torch.Tensor:
        """What `LlamaModel.forward` gives: [num_logits, hidden_size] in the model's dtype."""
        config = self._config
        shape = Shape(
            num_layers=config.num_layers,
            hidden=config.hidden_size,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            wide=config.intermediate_size,
            window=config.sliding_window or _NO_WINDOW,
            pool_layer_stride=kv_pool.k[0].numel(),
        )
        rows = _step_rows(batch, shape.window)
        hidden = torch.empty(
            (batch.logit_rows.shape[0], config.hidden_size), dtype=self._lm_head.dtype
        )
        self._team.run(
            step,
            shape,
            self._eps,
            self._weights,
            flat_view(kv_pool.k),
            flat_view(kv_pool.v),
            rows,
            self._scratch_for(shape, rows),
            np.zeros(config.num_layers * PHASES, np.int64),
            flat_view(hidden),
        )
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[num_logits, vocab_size] float32."""
        return linear(hidden.contiguous(), self._lm_head, self._team)

    def _compile(self) -> None:
        """Run one token, so that code is compiled or read from disk now, not in a request."""
        config = self._config
        one, two = torch.zeros(1, dtype=torch.int64), torch.tensor([0, 1], dtype=torch.int32)
        slot = torch.zeros(1, dtype=torch.int32)
        batch = Batch(one, one, slot, two, two, slot, one, 1, (1,), (1,))
        pool = KVPool(
            num_layers=config.num_layers,
            num_slots=1,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            dtype=self._lm_head.dtype,
            device="cpu",
        )
        self.logits(self.forward(batch, pool))

    def close(self) -> None:
        """End the threads."""
        self._team.close()

    def _scratch_for(self, shape: Shape, rows: StepRows) -> StepScratch:
        """Memory for this step: the last step's, or new where that is too small."""
        heads, dim, threads = shape.num_heads, shape.head_dim, self._team.num_threads
        num_rows = rows.positions.size
        if num_rows <= PRIVATE_ROWS:
            places = int(rows.split_start[-1])
        else:
            places = threads * int(np.diff(rows.split_start).max())
        old = self._scratch
        if (
            old is not None
            and old.x.size >= num_rows * shape.hidden
            and old.peaks.size >= places * heads
        ):
            return old
        num_rows = max(num_rows, old.x.size // shape.hidden if old else PRIVATE_ROWS)
        places = max(2 * places, old.peaks.size // heads if old else 0)
        model, width = self._weights.embed.dtype, max(shape.hidden, heads * dim)
        self._scratch = StepScratch(
            x=np.zeros(num_rows * shape.hidden, np.float32),
            private=np.zeros((threads, PRIVATE_ROWS * width), model),
            shared=np.zeros(num_rows * width, model),
            local=np.zeros((threads, local_size(shape)), np.float32),
            q=np.zeros((num_rows * heads + 4) * dim, model),
            act=np.zeros(num_rows * shape.wide, model),
            partial=np.zeros(places * heads * dim, np.float32),
            peaks=np.zeros(places * heads, np.float32),
            sums=np.zeros(places * heads, np.float32),
        )
        return self._scratch


def _step_weights(weights: ModelWeights, cos: torch.Tensor, sin: torch.Tensor) -> StepWeights:
    def wide(tensor: torch.Tensor | None) -> np.ndarray:
        return np.zeros(0, np.float32) if tensor is None else flat_view(tensor.float().contiguous())

    return StepWeights(
        embed=flat_view(weights.embed),
        attn_norm=wide(weights.attn_norm),
        qkv=flat_view(weights.qkv),
        qkv_bias=wide(weights.qkv_bias),
        q_norm=wide(weights.q_norm),
        k_norm=wide(weights.k_norm),
        o=flat_view(weights.o),
        o_bias=wide(weights.o_bias),
        mlp_norm=wide(weights.mlp_norm),
        gate_up=flat_view(weights.gate_up),
        gate_up_bias=wide(weights.gate_up_bias),
        down=flat_view(weights.down),
        down_bias=wide(weights.down_bias),
        final_norm=wide(weights.final_norm),
        cos=wide(cos),
        sin=wide(sin),
    )


def _step_rows(batch: Batch, window: int) -> StepRows:
    positions = batch.positions.numpy()
    first_split = np.maximum(positions + 1 - window, 0) // SPLIT
    split_start = np.zeros(positions.size + 1, np.int64)
    np.cumsum(positions // SPLIT + 1 - first_split, out=split_start[1:])
    padding = np.zeros(GATHER_AHEAD, np.int32)
    return StepRows(
        input_ids=batch.input_ids.numpy(),
        positions=positions,
        out_loc=batch.out_loc.numpy(),
        kv_start=np.repeat(batch.kv_indptr.numpy()[:-1].astype(np.int64), batch.q_lens),
        slot_ids=np.concatenate((batch.slot_ids.numpy(), padding)),
        split_start=split_start,
        logit_rows=batch.logit_rows.numpy(),
    )
