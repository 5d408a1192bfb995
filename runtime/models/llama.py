"""The Llama family: Llama, SmolLM2, Mistral, Qwen2 and dense Qwen3, told apart by `ModelConfig`.

T tokens in the batch, H query heads, K key-value heads, D head size, C hidden size.
"""

import os
from collections.abc import Iterable

import torch
from torch.nn.functional import linear, silu

from ramify.runtime.cache.kv_pool import KVPool
from ramify.runtime.executor.batch import Batch
from ramify.runtime.layers.attention import attention, store_kv
from ramify.runtime.layers.norm import rms_norm
from ramify.runtime.layers.rope import apply_rope, rope_tables
from ramify.runtime.models.config import ModelConfig
from ramify.runtime.models.cpu_runner import DTYPES, CPURunner
from ramify.runtime.models.weights import ModelWeights, load_weights


class LlamaModel:
    """Weights and the forward pass. Holds no state between steps."""

    def __init__(
        self, config: ModelConfig, weights: ModelWeights, num_positions: int, num_threads: int
    ) -> None:
        self.config = config
        self.weights = weights
        cos, sin = rope_tables(config, num_positions)
        self._cpu: CPURunner | None = None
        if self.device.type == "cpu" and self.dtype in DTYPES:
            self._cpu = CPURunner(config, weights, cos, sin, num_threads)
        self.cos = cos.to(self.device)  # [num_positions, head_dim / 2] float32
        self.sin = sin.to(self.device)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.weights.embed.device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, activations and the KV pool."""
        return self.weights.embed.dtype

    @property
    def has_own_threads(self) -> bool:
        """Whether the forward pass runs on threads of its own instead of torch's."""
        return self._cpu is not None

    def forward(self, batch: Batch, kv_pool: KVPool) -> torch.Tensor:
        """Run the batch, writing its K and V: [num_logits, hidden_size], the rows of logit_rows."""
        if self._cpu is not None:
            return self._cpu.forward(batch, kv_pool)
        return self.forward_torch(batch, kv_pool)

    def forward_torch(self, batch: Batch, kv_pool: KVPool) -> torch.Tensor:
        """`forward` in torch's own operations: any batch, any device."""
        weights, eps = self.weights, self.config.rms_norm_eps
        x_TC = weights.embed[batch.input_ids]
        for layer in range(self.config.num_layers):
            normed_TC = rms_norm(x_TC, weights.attn_norm[layer], eps)
            x_TC = x_TC + self._attention(layer, normed_TC, batch, kv_pool)
            normed_TC = rms_norm(x_TC, weights.mlp_norm[layer], eps)
            x_TC = x_TC + self._mlp(layer, normed_TC)
        return rms_norm(x_TC[batch.logit_rows], weights.final_norm, eps)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[num_logits, hidden_size] -> [num_logits, vocab_size] float32."""
        if self._cpu is not None:
            return self._cpu.logits(hidden)
        return linear(hidden, self.weights.lm_head).float()

    def close(self) -> None:
        """End the threads the model runs on."""
        if self._cpu is not None:
            self._cpu.close()

    def _attention(
        self, layer: int, x_TC: torch.Tensor, batch: Batch, kv_pool: KVPool
    ) -> torch.Tensor:
        config, weights = self.config, self.weights
        heads, kv_heads, dim = config.num_heads, config.num_kv_heads, config.head_dim
        qkv_T = linear(x_TC, weights.qkv[layer], _row(weights.qkv_bias, layer))
        qkv_THD = qkv_T.view(-1, heads + 2 * kv_heads, dim)
        q_THD, k_TKD, v_TKD = torch.split(qkv_THD, [heads, kv_heads, kv_heads], dim=1)
        if weights.q_norm is not None and weights.k_norm is not None:
            q_THD = rms_norm(q_THD, weights.q_norm[layer], config.rms_norm_eps)
            k_TKD = rms_norm(k_TKD, weights.k_norm[layer], config.rms_norm_eps)
        cos_TD, sin_TD = self.cos[batch.positions], self.sin[batch.positions]
        q_THD = apply_rope(q_THD, cos_TD, sin_TD)
        k_TKD = apply_rope(k_TKD, cos_TD, sin_TD)
        k_pool_SKD, v_pool_SKD = kv_pool.k[layer], kv_pool.v[layer]
        store_kv(k_TKD, v_TKD, k_pool_SKD, v_pool_SKD, batch.out_loc)
        out_THD = attention(q_THD, k_pool_SKD, v_pool_SKD, batch, config.sliding_window)
        return linear(out_THD.flatten(1), weights.o[layer], _row(weights.o_bias, layer))

    def _mlp(self, layer: int, x_TC: torch.Tensor) -> torch.Tensor:
        weights = self.weights
        gate_up = linear(x_TC, weights.gate_up[layer], _row(weights.gate_up_bias, layer))
        gate, up = gate_up.chunk(2, dim=-1)
        return linear(silu(gate) * up, weights.down[layer], _row(weights.down_bias, layer))


def load_model(
    config: ModelConfig,
    weights: Iterable[tuple[str, torch.Tensor]],
    dtype: torch.dtype,
    device: torch.device | str,
    num_positions: int | None = None,
    num_threads: int | None = None,
) -> LlamaModel:
    """Build the model from a checkpoint's (name, tensor) pairs; `LoadError` if they do not fit.

    `num_positions` is the longest sequence to be served; None = all the model knows. `num_threads`
    are the threads of a forward pass on the CPU; None = the cores this process may use.
    """
    loaded = load_weights(config, weights, dtype, torch.device(device))
    return LlamaModel(
        config,
        loaded,
        num_positions or config.max_position_embeddings,
        num_threads or _num_cores(),
    )


def _row(stacked: torch.Tensor | None, layer: int) -> torch.Tensor | None:
    return None if stacked is None else stacked[layer]


def _num_cores() -> int:
    # torch's own count is no help: an engine that ran before in this process set it to 1.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
