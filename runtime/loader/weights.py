"""Weights as (name, tensor) pairs, from safetensors files or from a seed."""

import hashlib
from collections.abc import Iterator

import torch
from safetensors import SafetensorError, safe_open

from ramify.lang.errors import LoadError
from ramify.runtime.loader.resolve import ModelFiles
from ramify.runtime.models.config import ModelConfig

_FLOATS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


def iterate_weights(
    files: ModelFiles, device: torch.device | str = "cpu"
) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of the model under its Hugging Face name.

    Tensors of a checkpoint are on the CPU, views of the memory-mapped file, in its dtype: copy
    before writing. Dummy weights are float32, drawn on `device` from N(0, initializer_range) (norms
    around 1), each from its own name and the seed, so that a tensor is the same in whatever order
    or part it is asked for.
    """
    if files.dummy_seed is not None:
        for name, shape in parameter_shapes(files.config).items():
            yield name, _random_tensor(name, shape, files.config, files.dummy_seed, device)
        return
    for path in files.weights:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - not a dict
                    tensor = file.get_tensor(name)
                    if tensor.dtype not in _FLOATS:
                        raise LoadError(
                            f"{path}: tensor {name!r} is {tensor.dtype}: must be bfloat16, "
                            "float16 or float32; quantized checkpoints are not supported"
                        )
                    yield name, tensor
        except (SafetensorError, OSError) as error:
            raise LoadError(f"{path} cannot be read as safetensors: {error}") from error


def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor a checkpoint of this architecture holds, by its Hugging Face name."""
    hidden, wide, head = config.hidden_size, config.intermediate_size, config.head_dim
    q_size, kv_size = config.num_heads * head, config.num_kv_heads * head
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for index in range(config.num_layers):
        layer = f"model.layers.{index}"
        linears = (
            (f"{layer}.self_attn.q_proj", q_size, hidden, config.qkv_bias),
            (f"{layer}.self_attn.k_proj", kv_size, hidden, config.qkv_bias),
            (f"{layer}.self_attn.v_proj", kv_size, hidden, config.qkv_bias),
            (f"{layer}.self_attn.o_proj", hidden, q_size, config.o_bias),
            (f"{layer}.mlp.gate_proj", wide, hidden, config.mlp_bias),
            (f"{layer}.mlp.up_proj", wide, hidden, config.mlp_bias),
            (f"{layer}.mlp.down_proj", hidden, wide, config.mlp_bias),
        )
        for name, rows, columns, has_bias in linears:
            shapes[f"{name}.weight"] = (rows, columns)
            if has_bias:
                shapes[f"{name}.bias"] = (rows,)
        if config.qk_norm:
            shapes[f"{layer}.self_attn.q_norm.weight"] = (head,)
            shapes[f"{layer}.self_attn.k_norm.weight"] = (head,)
        shapes[f"{layer}.input_layernorm.weight"] = (hidden,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (hidden,)
    shapes["model.norm.weight"] = (hidden,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes


def _random_tensor(
    name: str,
    shape: tuple[int, ...],
    config: ModelConfig,
    seed: int,
    device: torch.device | str,
) -> torch.Tensor:
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    generator = torch.Generator(device).manual_seed(int.from_bytes(digest, "little") >> 1)
    tensor = torch.empty(shape, dtype=torch.float32, device=device)
    tensor.normal_(0.0, config.initializer_range, generator=generator)
    return tensor.add_(1.0) if name.endswith("norm.weight") else tensor
