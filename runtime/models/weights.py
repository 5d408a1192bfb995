"""The weights of a Llama-family model: stacked by layer, fused, and filled from a checkpoint."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ramify.lang.errors import LoadError
from ramify.runtime.models.config import ModelConfig

_IGNORED_SUFFIXES = (".rotary_emb.inv_freq",)  # derived from config.json; old checkpoints hold it


@dataclass(frozen=True, slots=True, eq=False)
class ModelWeights:
    """All tensors in the model's dtype on its device.

    L layers, V vocabulary, C hidden size, F feed-forward size, D head size; Q and K = widths of all
    query and all key-value heads. A matrix is [outputs, inputs]. None = the architecture has none.
    """

    embed: torch.Tensor  # [V, C]
    attn_norm: torch.Tensor  # [L, C]
    qkv: torch.Tensor  # [L, Q + 2K, C]: rows of q, then k, then v
    qkv_bias: torch.Tensor | None  # [L, Q + 2K]
    q_norm: torch.Tensor | None  # [L, D]
    k_norm: torch.Tensor | None  # [L, D]
    o: torch.Tensor  # [L, C, Q]
    o_bias: torch.Tensor | None  # [L, C]
    mlp_norm: torch.Tensor  # [L, C]
    gate_up: torch.Tensor  # [L, 2F, C]: rows of gate, then up
    gate_up_bias: torch.Tensor | None  # [L, 2F]
    down: torch.Tensor  # [L, C, F]
    down_bias: torch.Tensor | None  # [L, C]
    final_norm: torch.Tensor  # [C]
    lm_head: torch.Tensor  # [V, C]: the embedding itself where they are tied

    @property
    def num_bytes(self) -> int:
        """Memory of all tensors, a tied head counted once."""
        tensors = {id(t): t for name in self.__slots__ if (t := getattr(self, name)) is not None}
        return sum(tensor.nbytes for tensor in tensors.values())


def load_weights(
    config: ModelConfig,
    weights: Iterable[tuple[str, torch.Tensor]],
    dtype: torch.dtype,
    device: torch.device,
) -> ModelWeights:
    """Fill a model from a checkpoint's (name, tensor) pairs, in any order.

    A tensor that is missing, unknown, given twice or of the wrong shape is a `LoadError`.
    """
    model = _allocate(config, dtype, device)
    places = _places(config, model)
    filled: set[str] = set()
    for name, tensor in weights:
        if name.endswith(_IGNORED_SUFFIXES):
            continue
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue  # some checkpoints store the tied head a second time
        place = places.get(name)
        if place is None:
            raise LoadError(
                f"checkpoint tensor {name!r} {list(tensor.shape)} has no place in "
                f"{config.architecture}: the weights do not belong to this config.json"
            )
        if name in filled:
            raise LoadError(f"checkpoint tensor {name!r} is stored twice")
        if tensor.shape != place.shape:
            raise LoadError(
                f"checkpoint tensor {name!r} has shape {list(tensor.shape)}: config.json calls "
                f"for {list(place.shape)}"
            )
        place.copy_(tensor)
        filled.add(name)
    missing = [name for name in places if name not in filled]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise LoadError(
            f"the checkpoint lacks tensor {missing[0]!r} {list(places[missing[0]].shape)}{more}: "
            "the weights are incomplete or do not belong to this config.json"
        )
    return model


def _allocate(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> ModelWeights:
    def tensor(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=device)

    num_layers, hidden, wide = config.num_layers, config.hidden_size, config.intermediate_size
    q_size = config.num_heads * config.head_dim
    qkv_size = q_size + 2 * config.num_kv_heads * config.head_dim
    embed = tensor(config.vocab_size, hidden)
    return ModelWeights(
        embed=embed,
        attn_norm=tensor(num_layers, hidden),
        qkv=tensor(num_layers, qkv_size, hidden),
        qkv_bias=tensor(num_layers, qkv_size) if config.qkv_bias else None,
        q_norm=tensor(num_layers, config.head_dim) if config.qk_norm else None,
        k_norm=tensor(num_layers, config.head_dim) if config.qk_norm else None,
        o=tensor(num_layers, hidden, q_size),
        o_bias=tensor(num_layers, hidden) if config.o_bias else None,
        mlp_norm=tensor(num_layers, hidden),
        gate_up=tensor(num_layers, 2 * wide, hidden),
        gate_up_bias=tensor(num_layers, 2 * wide) if config.mlp_bias else None,
        down=tensor(num_layers, hidden, wide),
        down_bias=tensor(num_layers, hidden) if config.mlp_bias else None,
        final_norm=tensor(hidden),
        lm_head=embed if config.tie_word_embeddings else tensor(config.vocab_size, hidden),
    )


def _places(config: ModelConfig, model: ModelWeights) -> dict[str, torch.Tensor]:
    """Where each checkpoint tensor goes: views into the stacked and fused tensors of `model`."""
    q_size = config.num_heads * config.head_dim
    k_size = config.num_kv_heads * config.head_dim
    places = {"model.embed_tokens.weight": model.embed, "model.norm.weight": model.final_norm}
    if not config.tie_word_embeddings:
        places["lm_head.weight"] = model.lm_head
    whole: tuple[tuple[str, torch.Tensor | None], ...] = (
        ("input_layernorm.weight", model.attn_norm),
        ("post_attention_layernorm.weight", model.mlp_norm),
        ("self_attn.q_norm.weight", model.q_norm),
        ("self_attn.k_norm.weight", model.k_norm),
        ("self_attn.o_proj.weight", model.o),
        ("self_attn.o_proj.bias", model.o_bias),
        ("mlp.down_proj.weight", model.down),
        ("mlp.down_proj.bias", model.down_bias),
    )
    qkv_parts = {"q_proj": q_size, "k_proj": k_size, "v_proj": k_size}
    mlp_parts = {"gate_proj": config.intermediate_size, "up_proj": config.intermediate_size}
    fused: tuple[tuple[str, dict[str, int], str, torch.Tensor | None], ...] = (
        ("self_attn", qkv_parts, "weight", model.qkv),
        ("self_attn", qkv_parts, "bias", model.qkv_bias),
        ("mlp", mlp_parts, "weight", model.gate_up),
        ("mlp", mlp_parts, "bias", model.gate_up_bias),
    )
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}"
        for name, stacked in whole:
            if stacked is not None:
                places[f"{prefix}.{name}"] = stacked[layer]
        for block, parts, kind, stacked in fused:
            if stacked is None:
                continue
            pieces = torch.split(stacked[layer], list(parts.values()))
            for part, piece in zip(parts, pieces, strict=True):
                places[f"{prefix}.{block}.{part}.{kind}"] = piece
    return places
