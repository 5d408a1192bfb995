import pytest
import torch
from safetensors.torch import load_file

from ramify.lang.errors import LoadError
from ramify.runtime.models.config import load_model_config
from ramify.runtime.models.weights import load_weights

CPU = torch.device("cpu")


@pytest.fixture
def checkpoint(tiny_model_dir):
    directory = tiny_model_dir("qwen2")
    return load_model_config(directory), load_file(directory / "model.safetensors")


def _load(checkpoint):
    config, tensors = checkpoint
    return load_weights(config, tensors.items(), torch.float32, CPU)


def test_missing_tensor_is_named(checkpoint):
    del checkpoint[1]["model.layers.1.self_attn.k_proj.bias"]
    with pytest.raises(LoadError, match=r"lacks tensor 'model.layers.1.self_attn.k_proj.bias'"):
        _load(checkpoint)


def test_unknown_tensor_is_named(checkpoint):
    checkpoint[1]["model.layers.9.mlp.up_proj.weight"] = torch.zeros(1)
    with pytest.raises(LoadError, match=r"'model.layers.9.mlp.up_proj.weight' \[1\] has no place"):
        _load(checkpoint)


def test_wrong_shape_is_named_with_both_shapes(checkpoint):
    checkpoint[1]["model.norm.weight"] = torch.zeros(65)
    with pytest.raises(LoadError, match=r"'model.norm.weight' has shape \[65\].*\[64\]"):
        _load(checkpoint)


def test_a_tensor_given_twice_is_an_error(checkpoint):
    config, tensors = checkpoint
    pairs = [*tensors.items(), ("model.norm.weight", tensors["model.norm.weight"])]
    with pytest.raises(LoadError, match="stored twice"):
        load_weights(config, pairs, torch.float32, CPU)


def test_tied_head_shares_the_embedding_even_if_stored_again(checkpoint):
    checkpoint[1]["lm_head.weight"] = torch.zeros_like(checkpoint[1]["model.embed_tokens.weight"])
    weights = _load(checkpoint)
    assert weights.lm_head is weights.embed
    assert torch.equal(weights.embed, checkpoint[1]["model.embed_tokens.weight"])


def test_parts_are_fused_in_order_and_counted_once(checkpoint):
    weights, tensors = _load(checkpoint), checkpoint[1]
    parts = [tensors[f"model.layers.2.self_attn.{name}_proj.weight"] for name in "qkv"]
    assert torch.equal(weights.qkv[2], torch.cat(parts))
    parts = [tensors[f"model.layers.2.mlp.{name}_proj.weight"] for name in ("gate", "up")]
    assert torch.equal(weights.gate_up[2], torch.cat(parts))
    assert weights.num_bytes == sum(tensor.nbytes for tensor in tensors.values())
