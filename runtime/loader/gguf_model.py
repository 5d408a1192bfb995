"""A GGUF file of the llama architecture, seen as a Hugging Face model.

What llama.cpp changes on the way in is undone here: tensor names, the order of the rows of q and k
(llama.cpp turns neighbouring pairs in rope, Hugging Face turns halves), quantization, metadata.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ramify.lang.errors import LoadError

_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_ROPE_FACTORS = "rope_freqs.weight"  # Llama 3.1's scaling, as divisors of the frequencies


class QuantizedTensor(NamedTuple):
    """One tensor of the file under its Hugging Face name; `dequantize()` reads it."""

    name: str
    shape: tuple[int, ...]
    source: Any  # gguf.ReaderTensor
    num_permuted_heads: int  # heads whose rows llama.cpp has reordered; 0 = none

    def dequantize(self) -> np.ndarray:
        """[shape] float32, writable: float tensors of the file are a read-only memory map."""
        from gguf.quants import dequantize

        values = dequantize(self.source.data, self.source.tensor_type)
        values = np.require(values, np.float32, "W").reshape(self.shape)
        if not self.num_permuted_heads:
            return values
        pairs = values.reshape(self.num_permuted_heads, -1, 2, *self.shape[1:])
        return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(self.shape)


class GGUFModel:
    """Metadata and tensors of one GGUF file."""

    def __init__(self, path: Path) -> None:
        try:
            from gguf import GGUFReader
        except ImportError as error:
            raise LoadError(
                f"{path} is a GGUF file, and the package gguf that reads it is not installed; "
                "run: pip install 'ramify[demo]'"
            ) from error
        self.path = path
        try:
            self._reader = GGUFReader(path)
        except (ValueError, IndexError, OSError, KeyError) as error:
            raise LoadError(
                f"{path} cannot be read as GGUF ({error}): it is cut off or damaged; get it again"
            ) from error
        architecture = self.get("general.architecture")
        if architecture != "llama":
            raise LoadError(
                f"{path}: GGUF architecture {architecture!r}: must be llama; for other models give "
                "the Hugging Face directory"
            )

    def get(self, key: str, default: Any = None) -> Any:
        """Value of a metadata field: number, string or list."""
        field = self._reader.get_field(key)
        return default if field is None else field.contents()

    def require(self, key: str) -> Any:
        """As `get`, but the field must be there."""
        value = self.get(key)
        if value is None:
            raise LoadError(f"{self.path} has no metadata field {key!r}: the file is incomplete")
        return value

    def tensors(self) -> Iterator[QuantizedTensor]:
        """All tensors a Llama checkpoint has."""
        num_heads = self.require("llama.attention.head_count")
        num_kv_heads = self.get("llama.attention.head_count_kv", num_heads)
        for source in self._reader.tensors:
            if source.name == _ROPE_FACTORS:
                continue
            name = self._hugging_face_name(source.name)
            heads = {"q_proj": num_heads, "k_proj": num_kv_heads}.get(name.split(".")[-2], 0)
            shape = tuple(int(size) for size in reversed(source.shape))
            yield QuantizedTensor(name, shape, source, heads)

    def config(self) -> dict[str, Any]:
        """The config.json of this model, readable by transformers 4 and 5."""
        hidden_size = self.require("llama.embedding_length")
        num_heads = self.require("llama.attention.head_count")
        names = {source.name: source for source in self._reader.tensors}
        if "token_embd.weight" not in names:
            raise LoadError(f"{self.path} has no tensor token_embd.weight: the file is incomplete")
        head_dim = self.get("llama.attention.key_length", hidden_size // num_heads)
        theta = _clean(self.get("llama.rope.freq_base", 10000.0))
        scaling = self._rope_scaling(names, theta, head_dim)
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": int(names["token_embd.weight"].shape[-1]),
            "hidden_size": hidden_size,
            "intermediate_size": self.require("llama.feed_forward_length"),
            "num_hidden_layers": self.require("llama.block_count"),
            "num_attention_heads": num_heads,
            "num_key_value_heads": self.get("llama.attention.head_count_kv", num_heads),
            "head_dim": head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": _clean(self.require("llama.attention.layer_norm_rms_epsilon")),
            "max_position_embeddings": self.require("llama.context_length"),
            "rope_theta": theta,
            "rope_scaling": scaling,
            "rope_parameters": {"rope_theta": theta, **(scaling or {"rope_type": "default"})},
            "attention_bias": "blk.0.attn_q.bias" in names,
            "mlp_bias": "blk.0.ffn_gate.bias" in names,
            "tie_word_embeddings": "output.weight" not in names,
            "bos_token_id": self.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.get("tokenizer.ggml.eos_token_id"),
            "torch_dtype": "bfloat16",
            "dtype": "bfloat16",
        }
        return config

    def _hugging_face_name(self, name: str) -> str:
        head, _, suffix = name.rpartition(".")
        prefix, place = "", head
        if head.startswith("blk."):
            _, index, place = head.split(".", 2)
            prefix = f"model.layers.{index}."
        if place not in _TENSORS or suffix not in ("weight", "bias"):
            raise LoadError(
                f"{self.path}: tensor {name!r} is not part of a plain Llama model (a mixture of "
                "experts, an adapter?); such files are not supported"
            )
        return f"{prefix}{_TENSORS[place]}.{suffix}"

    def _rope_scaling(
        self, names: dict[str, Any], theta: float, head_dim: int
    ) -> dict[str, Any] | None:
        kind = self.get("llama.rope.scaling.type", "none")
        if _ROPE_FACTORS in names:
            return self._llama3_scaling(names[_ROPE_FACTORS], theta, head_dim)
        if kind == "none":
            return None
        if kind == "linear":
            factor = _clean(self.require("llama.rope.scaling.factor"))
            return {"rope_type": "linear", "factor": factor}
        raise LoadError(
            f"{self.path}: llama.rope.scaling.type={kind!r}: must be none or linear in a GGUF "
            "file; give the Hugging Face directory of this model"
        )

    def _llama3_scaling(self, tensor: Any, theta: float, head_dim: int) -> dict[str, Any]:
        """Which of the Llama 3 releases' settings give the divisors the file holds."""
        held = np.asarray(tensor.data, dtype=np.float64).reshape(-1)
        for factor in (8.0, 32.0):  # Llama 3.1 and 3.3; Llama 3.2
            if np.allclose(held, _llama3_divisors(theta, head_dim, factor), rtol=1e-4):
                return {
                    "rope_type": "llama3",
                    "factor": factor,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 8192,
                }
        raise LoadError(
            f"{self.path}: tensor {_ROPE_FACTORS} holds rope factors that are not those of Llama "
            "3.1, 3.2 or 3.3; give the Hugging Face directory of this model"
        )


def _llama3_divisors(theta: float, head_dim: int, factor: float) -> list[float]:
    low_wavelength, high_wavelength = 8192 / 1.0, 8192 / 4.0
    divisors = []
    for dim in range(0, head_dim, 2):
        wavelength = 2 * math.pi * theta ** (dim / head_dim)
        if wavelength < high_wavelength:
            divisors.append(1.0)
        elif wavelength > low_wavelength:
            divisors.append(factor)
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return divisors


def _clean(value: float) -> float:
    """The shortest decimal that is this float32: 9.99999975e-06 was written as 1e-05."""
    return float(str(np.float32(value)))
