"""The model on a GPU: one launch per operation, nothing in between that waits for the device.

T rows, C hidden size, H query heads, K key-value heads, D head size, R rows of logits.
"""

from typing import NamedTuple

import torch
from torch.nn.functional import linear

from ramify.runtime.cache.kv_pool import KVPool
from ramify.runtime.kernels.attention import attention
from ramify.runtime.kernels.attention_tiles import StepTiles
from ramify.runtime.kernels.chunk_attention import chunk_attention
from ramify.runtime.kernels.gated import gated
from ramify.runtime.kernels.linear_small import linear_small
from ramify.runtime.kernels.rms_norm import rms_norm
from ramify.runtime.kernels.rope_store import rope_store
from ramify.runtime.kernels.work_buffers import WorkBuffers
from ramify.runtime.models.llama import LlamaModel

FUSED_ROWS = 1  # up to here the gate is the product's last step, instead of a launch of its own
FEW_ROWS = 64  # up to here a product is bound by reading its weight, which our kernel does faster


class Chunk(NamedTuple):
    """Rows [row, row + num_rows) of a step, the last of a request's first `end` positions, that
    attend by themselves instead of through the work list."""

    row: int
    num_rows: int
    slot_base: int  # position p of the request is in slots[slot_base + p]
    end: int


class DeviceRows(NamedTuple):
    """The rows of one forward pass, all on the device."""

    input_ids: torch.Tensor  # [T] int32
    positions: torch.Tensor  # [T] int32
    out_loc: torch.Tensor  # [T] int32: KV slot of each row, -1 = not stored
    slots: torch.Tensor  # [N] int32: the table that the work list's slot_base points into
    work: WorkBuffers  # what attends to what
    tiles: StepTiles
    chunks: tuple[Chunk, ...] = ()  # rows that the work list leaves out


class GPURunner:
    """Runs a model's forward pass through our kernels. Holds no state between steps."""

    def __init__(self, model: LlamaModel) -> None:
        self.config = model.config
        self.dtype = model.dtype
        self._model = model
        device = model.device
        self.num_sms = (
            torch.cuda.get_device_properties(device).multi_processor_count
            if device.type == "cuda"
            else 4  # Triton's interpreter
        )

    def forward(self, rows: DeviceRows, kv_pool: KVPool) -> torch.Tensor:
        """Run the rows, writing their K and V: [T, C], ready for `logits`."""
        config, weights, eps = self.config, self._model.weights, self.config.rms_norm_eps
        residual_TC = weights.embed.index_select(0, rows.input_ids)
        normed_TC = torch.empty_like(residual_TC)
        rms_norm(residual_TC, weights.attn_norm[0], normed_TC, eps=eps)
        out_TC = residual_TC
        for layer in range(config.num_layers):
            if layer:
                norm_C = weights.attn_norm[layer]
                rms_norm(out_TC, norm_C, normed_TC, eps=eps, residual_TC=residual_TC)
            out_TC = self._attention(layer, normed_TC, rows, kv_pool)
            norm_C = weights.mlp_norm[layer]
            rms_norm(out_TC, norm_C, normed_TC, eps=eps, residual_TC=residual_TC)
            out_TC = self._mlp(layer, normed_TC)
        final_TC = torch.empty_like(out_TC)
        rms_norm(out_TC, weights.final_norm, final_TC, eps=eps, residual_TC=residual_TC)
        return final_TC

    def logits(self, hidden_RC: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """[R, C] -> [R, vocabulary] float32, in `out` where it is given."""
        weight = self._model.weights.lm_head
        if out is None:
            shape = (hidden_RC.shape[0], weight.shape[0])
            out = torch.empty(shape, dtype=torch.float32, device=weight.device)
        if hidden_RC.shape[0] <= FEW_ROWS:
            linear_small(hidden_RC, weight, out)
        elif hidden_RC.is_cuda and hidden_RC.dtype != torch.float32:
            torch.ops.aten.mm.dtype_out(hidden_RC, weight.t(), torch.float32, out=out)
        else:
            out.copy_(linear(hidden_RC, weight))
        return out

    def _attention(
        self, layer: int, x_TC: torch.Tensor, rows: DeviceRows, kv_pool: KVPool
    ) -> torch.Tensor:
        config, weights = self.config, self._model.weights
        heads, kv_heads, dim = config.num_heads, config.num_kv_heads, config.head_dim
        k_pool_SKD, v_pool_SKD = kv_pool.k[layer], kv_pool.v[layer]
        qkv = _linear(x_TC, weights.qkv[layer], _row(weights.qkv_bias, layer))
        qkv_THD = qkv.view(-1, heads + 2 * kv_heads, dim)
        rope_store(
            qkv_THD,
            rows.positions,
            rows.out_loc,
            self._model.cos,
            self._model.sin,
            k_pool_SKD,
            v_pool_SKD,
            q_norm_D=_row(weights.q_norm, layer),
            k_norm_D=_row(weights.k_norm, layer),
            eps=config.rms_norm_eps,
        )
        out_THD = torch.empty((len(qkv_THD), heads, dim), dtype=qkv.dtype, device=qkv.device)
        if rows.work.most_rows:
            attention(
                qkv_THD[:, :heads],
                k_pool_SKD,
                v_pool_SKD,
                rows.slots,
                rows.positions,
                rows.work,
                out_THD,
                scale=dim**-0.5,
                window=config.sliding_window,
                tiles=rows.tiles,
                num_sms=self.num_sms,
            )
        for chunk in rows.chunks:
            slots = rows.slots[chunk.slot_base : chunk.slot_base + chunk.end]
            of_chunk = slice(chunk.row, chunk.row + chunk.num_rows)
            chunk_attention(
                qkv_THD[of_chunk, :heads],
                k_pool_SKD.index_select(0, slots),
                v_pool_SKD.index_select(0, slots),
                out_THD[of_chunk],
                scale=dim**-0.5,
            )
        return _linear(out_THD.flatten(1), weights.o[layer], _row(weights.o_bias, layer))

    def _mlp(self, layer: int, x_TC: torch.Tensor) -> torch.Tensor:
        weights = self._model.weights
        weight, bias = weights.gate_up[layer], _row(weights.gate_up_bias, layer)
        act = torch.empty((len(x_TC), weight.shape[0] // 2), dtype=x_TC.dtype, device=x_TC.device)
        if len(x_TC) <= FUSED_ROWS:
            linear_small(x_TC, weight, act, bias_N=bias, activation="silu")
        else:
            gated(_linear(x_TC, weight, bias), act)
        return _linear(act, weights.down[layer], _row(weights.down_bias, layer))


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if x.shape[0] > FEW_ROWS:
        return linear(x, weight, bias)
    out = torch.empty((x.shape[0], weight.shape[0]), dtype=x.dtype, device=x.device)
    linear_small(x, weight, out, bias_N=bias)
    return out


def _row(stacked: torch.Tensor | None, layer: int) -> torch.Tensor | None:
    return None if stacked is None else stacked[layer]
