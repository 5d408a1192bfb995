import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ramify.lang.errors import LoadError
from ramify.runtime.models.config import (
    RopeConfig,
    load_model_config,
    model_config_from_dict,
)

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def config(**changes: Any) -> Any:
    return model_config_from_dict({**LLAMA, **changes})


def of(family: str) -> dict[str, Any]:
    return {"architectures": [f"{family}ForCausalLM"]}


def test_both_spellings_of_rope_read_alike() -> None:
    old = config(rope_theta=5e5, rope_scaling=LLAMA3_ROPE)
    older = config(
        rope_theta=5e5, rope_scaling={**LLAMA3_ROPE, "rope_type": None, "type": "llama3"}
    )
    new = config(rope_parameters={**LLAMA3_ROPE, "rope_theta": 5e5})
    assert old == older == new
    assert new.rope == RopeConfig(type="llama3", theta=5e5, factor=8.0)
    assert config(rope_theta=7.0, rope_scaling=None).rope == RopeConfig(theta=7.0)


def test_yarn_and_linear() -> None:
    rope = config(rope_scaling={"type": "yarn", "factor": 4.0, "beta_fast": 16}).rope
    assert (rope.type, rope.factor, rope.beta_fast) == ("yarn", 4.0, 16.0)
    assert rope.original_max_position == 512
    assert config(rope_scaling={"type": "linear", "factor": 2}).rope.factor == 2.0


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_dtype_of_both_versions(key: str) -> None:
    assert config(**{key: "float16"}).dtype == "float16"


def test_what_an_architecture_implies() -> None:
    qwen2 = config(**of("Qwen2"))
    assert qwen2.qkv_bias and not qwen2.o_bias and not qwen2.mlp_bias
    qwen3 = config(**of("Qwen3"))
    assert qwen3.qk_norm and qwen3.head_dim == 128 and not qwen3.qkv_bias
    llama = config(attention_bias=True, mlp_bias=True)
    assert llama.qkv_bias and llama.o_bias and llama.mlp_bias and llama.head_dim == 16
    assert config(head_dim=24).head_dim == 24
    assert config(num_key_value_heads=None).num_kv_heads == 4


def test_sliding_windows() -> None:
    assert config(**of("Mistral"), sliding_window=128).sliding_window == 128
    assert config(**of("Mistral"), sliding_window=None).sliding_window is None
    assert config(**of("Mistral"), sliding_window=512).sliding_window is None  # never reached
    assert config(sliding_window=128).sliding_window is None  # Llama has none
    qwen = of("Qwen2")
    assert config(**qwen, sliding_window=128).sliding_window is None
    on = {**qwen, "use_sliding_window": True, "sliding_window": 128}
    assert config(**on, max_window_layers=28).sliding_window is None
    assert config(**on, max_window_layers=0).sliding_window == 128
    with pytest.raises(LoadError, match="max_window_layers=1: must be 0 or at least"):
        config(**on, max_window_layers=1)


def test_eos_may_be_one_or_several() -> None:
    assert config(eos_token_id=5).eos_token_ids == (5,)
    assert config(eos_token_id=[5, 6], bos_token_id=1).eos_token_ids == (5, 6)
    assert config().eos_token_ids == () and config().bos_token_id is None


@pytest.mark.parametrize("name", [name for name in LLAMA if name != "num_key_value_heads"])
def test_a_missing_field_is_named(name: str) -> None:
    raw = {key: value for key, value in LLAMA.items() if key != name}
    with pytest.raises(LoadError, match=f"config.json has no field '{name}'") as caught:
        model_config_from_dict(raw)
    assert caught.value.param == name


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"vocab_size": 10**12}, "vocab_size=1000000000000: must be an integer between 1 and"),
        ({"num_hidden_layers": -1}, "num_hidden_layers=-1: must be an integer between 1"),
        ({"hidden_size": "64"}, "hidden_size='64'"),
        ({"hidden_size": True}, "hidden_size=True"),
        ({"hidden_size": 66}, "num_attention_heads=4: must be a divisor of hidden_size=66"),
        ({"num_key_value_heads": 3}, "num_key_value_heads=3: must be a divisor"),
        ({"head_dim": 15}, "head_dim=15: must be even"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps=nan"),
        ({"rms_norm_eps": 0}, "rms_norm_eps=0"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu': must be silu"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings='yes': must be true or false"),
        ({"eos_token_id": 1000}, "eos_token_id=1000: must be a token id in"),
        ({"dtype": "int8"}, "dtype='int8': must be one of bfloat16"),
        ({"quantization_config": {"bits": 4}}, "quantized checkpoints are not supported"),
        ({"rope_theta": 0}, "rope_theta=0: must be a number above 0"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor=0: must be a number above 0"),
        ({"rope_scaling": {"type": "linear"}}, "rope_scaling has no field 'factor'"),
        ({"rope_scaling": {"type": "longrope", "factor": 1}}, "rope_type='longrope': must be one"),
        ({"rope_scaling": 3}, "rope_scaling=3: must be a JSON object"),
        ({"rope_parameters": {**LLAMA3_ROPE, "high_freq_factor": 1.0}}, "above low_freq_factor=1"),
        ({"rope_interleaved": True}, "rope_interleaved=True: must be false"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5: must be 1"),
    ],
)
def test_an_absurd_field_is_named_with_its_value(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(LoadError) as caught:
        config(**changes)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_architecture_lists_those_supported() -> None:
    with pytest.raises(LoadError, match=r"GPT2LMHeadModel.*LlamaForCausalLM, Mistral"):
        config(architectures=["GPT2LMHeadModel"])


@pytest.mark.parametrize("content", [None, "", "{", "[]", "\xff"])
def test_an_unreadable_file_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(LoadError, match=r"config\.json"):
        load_model_config(tmp_path)


@pytest.mark.parametrize("name", ["llama-tied-biases", "llama3-rope", "mistral-window", "qwen3"])
def test_what_transformers_writes_is_read_as_it_means_it(
    tiny_model_dir: Callable[[str], Path], name: str
) -> None:
    from transformers import AutoConfig

    path = tiny_model_dir(name)
    ours, theirs = load_model_config(path), AutoConfig.from_pretrained(path)
    assert ours.num_layers == theirs.num_hidden_layers
    assert ours.head_dim == theirs.head_dim
    assert ours.tie_word_embeddings == theirs.tie_word_embeddings
    assert ours.rope.theta == theirs.rope_parameters["rope_theta"]
    assert ours.rope.type == theirs.rope_parameters["rope_type"]
    assert ours.sliding_window == getattr(theirs, "sliding_window", None)
    assert ours.dtype == "float32" == json.loads((path / "config.json").read_text())["dtype"]
