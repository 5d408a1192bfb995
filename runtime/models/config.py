"""What a model is made of: config.json read once, checked, and given one spelling.

Checkpoints written by transformers 4 and 5 differ (`rope_theta` beside `rope_scaling`, or both in
`rope_parameters`; `torch_dtype` or `dtype`); nothing outside this file sees that. A field that is
missing or absurd is a `LoadError` that names it before a byte of weights is read.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ramify.lang.errors import LoadError

RopeType = Literal["default", "linear", "llama3", "yarn"]

SUPPORTED_ARCHITECTURES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)
_DTYPES = ("bfloat16", "float16", "float32")
_SCALED = ("linear", "llama3", "yarn")  # rope types with a factor
_MAX_DIM = 1 << 20  # widest hidden, feed-forward or attention width taken for real


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeConfig:
    """Rotary position embedding. Fields a type does not use keep their defaults."""

    type: RopeType = "default"
    theta: float = 10000.0
    factor: float = 1.0  # linear, llama3, yarn: how much longer the context became
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    original_max_position: int = 8192  # llama3, yarn: context before it was stretched
    attention_factor: float | None = None  # yarn: scale of cos and sin; None = from factor, mscale
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    mscale: float | None = None  # yarn
    mscale_all_dim: float | None = None  # yarn
    truncate: bool = True  # yarn: round the correction range to whole dimensions


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Shape of a decoder-only model of the Llama family. Sizes count elements."""

    architecture: str  # one of SUPPORTED_ARCHITECTURES
    vocab_size: int  # rows of the embedding; may exceed the tokenizer's tokens
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int  # need not be hidden_size / num_heads
    rms_norm_eps: float
    rope: RopeConfig
    max_position_embeddings: int
    tie_word_embeddings: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    qk_norm: bool  # RMSNorm over each head of q and k, before rope (Qwen3)
    sliding_window: int | None  # in every layer: a query sees this many positions, itself included
    hidden_act: Literal["silu"]
    initializer_range: float  # standard deviation of `dummy` weights
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]  # of config.json; generation_config.json may name more
    dtype: str  # of the checkpoint: bfloat16, float16 or float32


def load_model_config(directory: Path) -> ModelConfig:
    """Read `directory`/config.json."""
    path = directory / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LoadError(f"{path} does not exist: a model directory needs a config.json") from None
    except (OSError, ValueError) as error:
        raise LoadError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(raw, dict):
        raise LoadError(f"{path} holds {type(raw).__name__}: must be a JSON object")
    return model_config_from_dict(raw, source=str(path))


def model_config_from_dict(raw: dict[str, Any], *, source: str = "config.json") -> ModelConfig:
    """Check the fields of a parsed config.json; `source` names it in errors."""
    fields = _Fields(raw, source)
    architecture = _architecture(fields)
    family = architecture.removesuffix("ForCausalLM")
    hidden_size = fields.integer("hidden_size", low=1, high=_MAX_DIM)
    num_heads = fields.integer("num_attention_heads", low=1, high=4096)
    num_kv_heads = fields.integer("num_key_value_heads", low=1, high=4096, default=num_heads)
    if num_heads % num_kv_heads:
        raise fields.bad("num_key_value_heads", f"a divisor of num_attention_heads={num_heads}")
    head_dim = fields.integer(
        "head_dim", low=2, high=4096, default=128 if family == "Qwen3" else hidden_size // num_heads
    )
    if head_dim * num_heads != hidden_size and raw.get("head_dim") is None and family != "Qwen3":
        raise fields.bad("num_attention_heads", f"a divisor of hidden_size={hidden_size}")
    if head_dim % 2:
        raise fields.bad("head_dim", "even: rotary embeddings turn pairs")
    if fields.text("hidden_act", default="silu") not in ("silu", "swish"):
        raise fields.bad("hidden_act", "silu, the only activation of the supported architectures")
    attention_bias = fields.boolean("attention_bias", default=False)
    num_layers = fields.integer("num_hidden_layers", low=1, high=4096)
    max_position = fields.integer("max_position_embeddings", low=1, high=1 << 28)
    vocab_size = fields.integer("vocab_size", low=1, high=1 << 24)
    return ModelConfig(
        architecture=architecture,
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size", low=1, high=_MAX_DIM),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        rms_norm_eps=fields.number("rms_norm_eps", low=0.0, high=0.1, default=1e-6),
        rope=_rope(fields, max_position),
        max_position_embeddings=max_position,
        tie_word_embeddings=fields.boolean("tie_word_embeddings", default=False),
        qkv_bias=family == "Qwen2" or attention_bias,
        o_bias=family in ("Llama", "Qwen3") and attention_bias,
        mlp_bias=family == "Llama" and fields.boolean("mlp_bias", default=False),
        qk_norm=family == "Qwen3",
        sliding_window=_sliding_window(fields, family, num_layers, max_position),
        hidden_act="silu",
        initializer_range=fields.number("initializer_range", low=0.0, high=10.0, default=0.02),
        bos_token_id=_first(fields.token_ids("bos_token_id", vocab_size)),
        eos_token_ids=fields.token_ids("eos_token_id", vocab_size),
        dtype=_dtype(fields),
    )


class _Fields:
    """Typed reads from a JSON object; each failure names field, value and what is allowed."""

    def __init__(self, raw: dict[str, Any], source: str) -> None:
        self.raw = raw
        self.source = source

    def bad(self, name: str, allowed: str) -> LoadError:
        value = repr(self.raw.get(name))
        shown = value if len(value) <= 80 else f"{value[:77]}..."
        return LoadError(f"{self.source}: {name}={shown}: must be {allowed}", param=name)

    def get(self, name: str, default: Any) -> Any:
        value = self.raw.get(name)
        value = default if value is None else value
        if value is None:
            raise LoadError(
                f"{self.source} has no field {name!r}, which the model cannot be built without; "
                "add it, or take config.json again from where the model came from",
                param=name,
            )
        return value

    def integer(self, name: str, *, low: int, high: int, default: int | None = None) -> int:
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.bad(name, f"an integer between {low} and {high}")
        return value

    def number(self, name: str, *, low: float, high: float, default: float | None = None) -> float:
        """A finite number in (low, high]."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low < value <= high:
            raise self.bad(name, f"a number above {low:g} and at most {high:g}")
        return float(value)

    def boolean(self, name: str, *, default: bool) -> bool:
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self.bad(name, "true or false")
        return value

    def text(self, name: str, *, default: str) -> str:
        value = self.get(name, default)
        if not isinstance(value, str):
            raise self.bad(name, "a string")
        return value

    def token_ids(self, name: str, vocab_size: int) -> tuple[int, ...]:
        value = self.raw.get(name)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if any(type(i) is not int or not 0 <= i < vocab_size for i in ids):
            raise self.bad(name, f"a token id in [0, vocab_size={vocab_size}), or a list of them")
        return tuple(ids)


def _architecture(fields: _Fields) -> str:
    named = fields.get("architectures", None)
    architecture = named[0] if isinstance(named, list) and named else named
    if architecture not in SUPPORTED_ARCHITECTURES:
        raise fields.bad("architectures", f"one of {', '.join(SUPPORTED_ARCHITECTURES)}")
    if fields.raw.get("quantization_config") is not None:
        raise fields.bad("quantization_config", "absent: quantized checkpoints are not supported")
    return str(architecture)


def _dtype(fields: _Fields) -> str:
    name = "dtype" if fields.raw.get("dtype") is not None else "torch_dtype"
    dtype = fields.text(name, default="bfloat16").removeprefix("torch.")
    if dtype not in _DTYPES:
        raise fields.bad(name, f"one of {', '.join(_DTYPES)}")
    return dtype


def _sliding_window(fields: _Fields, family: str, num_layers: int, max_position: int) -> int | None:
    """The window of all layers, or None where no layer, or no context that fits, needs one."""
    if family == "Llama" or fields.raw.get("sliding_window") is None:
        return None
    if family != "Mistral" and not fields.boolean("use_sliding_window", default=False):
        return None
    window = fields.integer("sliding_window", low=1, high=1 << 28)
    if family != "Mistral":
        full_layers = fields.integer("max_window_layers", low=0, high=1 << 20, default=28)
        if full_layers >= num_layers:
            return None
        if full_layers:
            raise fields.bad("max_window_layers", f"0 or at least num_hidden_layers={num_layers}")
    return None if window >= max_position else window


def _rope(fields: _Fields, max_position: int) -> RopeConfig:
    """Rope from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling` (4)."""
    merged: dict[str, Any] = {
        name: fields.raw.get(name) for name in ("rope_theta", "partial_rotary_factor")
    }
    origin = "rope_scaling"
    for origin_name in ("rope_scaling", "rope_parameters"):
        value = fields.raw.get(origin_name)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise fields.bad(origin_name, "a JSON object or null")
        merged.update({key: item for key, item in value.items() if item is not None})
        origin = origin_name
    rope = _Fields(merged, f"{fields.source}: {origin}")
    rope_type = rope.text("rope_type", default=rope.text("type", default="default"))
    theta = rope.number("rope_theta", low=0.0, high=1e12, default=10000.0)
    if rope.number("partial_rotary_factor", low=0.0, high=1.0, default=1.0) != 1.0:
        raise rope.bad("partial_rotary_factor", "1: every dimension of a head is turned")
    if fields.boolean("rope_interleaved", default=False):
        raise fields.bad("rope_interleaved", "false: rope turns halves of a head, not pairs")
    if rope_type == "default":
        return RopeConfig(theta=theta)
    factor = rope.number("factor", low=0.0, high=1e6) if rope_type in _SCALED else 1.0
    if rope_type == "linear":
        return RopeConfig(type="linear", theta=theta, factor=factor)
    if rope_type == "llama3":
        return _llama3_rope(rope, theta, factor)
    if rope_type == "yarn":
        return _yarn_rope(rope, theta, factor, max_position)
    raise LoadError(
        f"{rope.source}: rope_type={rope_type!r}: must be one of default, linear, llama3, yarn; "
        "other ways to stretch the context are not supported",
        param="rope_type",
    )


def _llama3_rope(rope: _Fields, theta: float, factor: float) -> RopeConfig:
    low = rope.number("low_freq_factor", low=0.0, high=1e6)
    high = rope.number("high_freq_factor", low=0.0, high=1e6)
    if high <= low:
        raise rope.bad("high_freq_factor", f"above low_freq_factor={low:g}")
    return RopeConfig(
        type="llama3",
        theta=theta,
        factor=factor,
        low_freq_factor=low,
        high_freq_factor=high,
        original_max_position=rope.integer("original_max_position_embeddings", low=1, high=1 << 28),
    )


def _yarn_rope(rope: _Fields, theta: float, factor: float, max_position: int) -> RopeConfig:
    def optional(name: str) -> float | None:
        return rope.number(name, low=0.0, high=1e6) if name in rope.raw else None

    return RopeConfig(
        type="yarn",
        theta=theta,
        factor=factor,
        original_max_position=rope.integer(
            "original_max_position_embeddings", low=1, high=1 << 28, default=max_position
        ),
        attention_factor=optional("attention_factor"),
        beta_fast=rope.number("beta_fast", low=0.0, high=1e6, default=32.0),
        beta_slow=rope.number("beta_slow", low=0.0, high=1e6, default=1.0),
        mscale=optional("mscale"),
        mscale_all_dim=optional("mscale_all_dim"),
        truncate=rope.boolean("truncate", default=True),
    )


def _first(ids: tuple[int, ...]) -> int | None:
    return ids[0] if ids else None
