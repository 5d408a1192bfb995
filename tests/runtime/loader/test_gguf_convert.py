"""GGUF files: a tiny one written here, and the bundled model."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ramify.lang.errors import LoadError
from ramify.runtime.config import BUNDLED_MODEL
from ramify.runtime.loader.bundled import find_bundled_gguf
from ramify.runtime.loader.gguf_convert import convert_gguf
from ramify.runtime.loader.gguf_model import _TENSORS, _llama3_divisors
from ramify.runtime.loader.resolve import resolve_model
from ramify.runtime.loader.weights import iterate_weights
from ramify.runtime.tokenizer.tokenizer import load_tokenizer

HEADS, KV_HEADS, HEAD_DIM, HIDDEN, WIDE = 4, 2, 16, 64, 96
TOKENS = ["<|end|>", *(chr(code) for code in range(33, 127)), "th", "the", "Ġ"]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAMIFY_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def permuted(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """As llama.cpp's converter writes q and k."""
    halves = weight.reshape(num_heads, 2, -1, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path: Path, weights: dict[str, np.ndarray], **fields: object) -> None:
    writer = gguf.GGUFWriter(path, str(fields.pop("arch", "llama")))
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(WIDE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(str(fields.pop("pre", "smollm")))
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, *[1] * (len(TOKENS) - 1)])
    writer.add_token_merges(["t h", "th e"])
    writer.add_eos_token_id(0)
    for key, value in fields.items():
        getattr(writer, f"add_{key}")(value)
    for name, tensor in weights.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    """Names and shapes of a one-layer file; values are exact in bfloat16."""
    rng = np.random.default_rng(0)
    q_size, kv_size = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    shapes = {
        "token_embd.weight": (len(TOKENS), HIDDEN),
        "output_norm.weight": (HIDDEN,),
        "blk.0.attn_norm.weight": (HIDDEN,),
        "blk.0.attn_q.weight": (q_size, HIDDEN),
        "blk.0.attn_k.weight": (kv_size, HIDDEN),
        "blk.0.attn_v.weight": (kv_size, HIDDEN),
        "blk.0.attn_output.weight": (HIDDEN, q_size),
        "blk.0.ffn_norm.weight": (HIDDEN,),
        "blk.0.ffn_gate.weight": (WIDE, HIDDEN),
        "blk.0.ffn_up.weight": (WIDE, HIDDEN),
        "blk.0.ffn_down.weight": (HIDDEN, WIDE),
    }
    return {
        name: rng.integers(-127, 128, shape).astype(np.float32) / 64
        for name, shape in shapes.items()
    }


def hugging_face_name(name: str) -> str:
    place, suffix = name.removeprefix("blk.0.").rsplit(".", 1)
    prefix = "model.layers.0." if name.startswith("blk.") else ""
    return f"{prefix}{_TENSORS[place]}.{suffix}"


def test_tensors_come_back_as_they_were(
    cache: Path, tmp_path: Path, weights: dict[str, np.ndarray]
) -> None:
    stored = dict(weights)
    for name, heads in (("blk.0.attn_q.weight", HEADS), ("blk.0.attn_k.weight", KV_HEADS)):
        stored[name] = permuted(weights[name], heads)
    write_gguf(tmp_path / "tiny.gguf", stored)
    files = resolve_model(tmp_path / "tiny.gguf")
    assert files.config.tie_word_embeddings and files.config.rms_norm_eps == 1e-5
    loaded = {name: tensor.float().numpy() for name, tensor in iterate_weights(files)}
    assert loaded.keys() == {hugging_face_name(name) for name in weights}
    for name, tensor in weights.items():
        np.testing.assert_array_equal(loaded[hugging_face_name(name)], tensor)


def test_a_changed_file_is_converted_again(
    cache: Path, tmp_path: Path, weights: dict[str, np.ndarray]
) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, weights)
    directory = convert_gguf(path)
    before = (directory / "manifest.json").read_bytes()
    assert convert_gguf(path) == directory
    assert (directory / "manifest.json").read_bytes() == before
    weights["output_norm.weight"][:] = 3
    write_gguf(path, weights)
    assert convert_gguf(path) == directory
    norm = load_file(directory / "model.safetensors")["model.norm.weight"]
    assert torch.equal(norm, torch.full((HIDDEN,), 3.0, dtype=torch.bfloat16))


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3_rope_factors_are_recognised(
    cache: Path, tmp_path: Path, weights: dict[str, np.ndarray], factor: float
) -> None:
    factors = np.array(_llama3_divisors(10000.0, HEAD_DIM, factor), np.float32)
    write_gguf(tmp_path / "a.gguf", {**weights, "rope_freqs.weight": factors})
    rope = resolve_model(tmp_path / "a.gguf").config.rope
    assert (rope.type, rope.factor) == ("llama3", factor)
    write_gguf(tmp_path / "b.gguf", {**weights, "rope_freqs.weight": factors * 2})
    with pytest.raises(LoadError, match=r"rope_freqs\.weight"):
        resolve_model(tmp_path / "b.gguf")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"arch": "qwen2moe"}, "GGUF architecture 'qwen2moe'"),
        ({"pre": "tekken"}, "pre-tokenizer 'tekken'.*smollm"),
        ({"rope_scaling_type": gguf.RopeScalingType.YARN}, "scaling.type='yarn'"),
    ],
)
def test_what_is_not_supported_is_named(
    cache: Path,
    tmp_path: Path,
    weights: dict[str, np.ndarray],
    fields: dict[str, object],
    says: str,
) -> None:
    write_gguf(tmp_path / "odd.gguf", weights, **fields)
    with pytest.raises(LoadError, match=says):
        convert_gguf(tmp_path / "odd.gguf")


def test_a_tensor_of_another_model_is_named(
    cache: Path, tmp_path: Path, weights: dict[str, np.ndarray]
) -> None:
    write_gguf(tmp_path / "moe.gguf", {**weights, "blk.0.ffn_gate_exps.weight": np.ones((2, 2))})
    with pytest.raises(LoadError, match="ffn_gate_exps"):
        convert_gguf(tmp_path / "moe.gguf")


@pytest.mark.parametrize("size", [0, 3, 200, 5000])
def test_a_damaged_file_is_a_load_error(
    cache: Path, tmp_path: Path, weights: dict[str, np.ndarray], size: int
) -> None:
    path = tmp_path / "cut.gguf"
    write_gguf(path, weights)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(LoadError, match=r"cut\.gguf cannot be read as GGUF"):
        convert_gguf(path)


def test_a_wrong_hash_is_refused(
    cache: Path, tmp_path: Path, weights: dict[str, np.ndarray]
) -> None:
    write_gguf(tmp_path / "tiny.gguf", weights)
    with pytest.raises(LoadError, match="is damaged: its sha256 is"):
        convert_gguf(tmp_path / "tiny.gguf", sha256="0" * 64)


@pytest.fixture(scope="module")
def bundled() -> Path:
    return resolve_model(BUNDLED_MODEL).directory


@pytest.mark.weights
def test_bundled_weights_equal_those_transformers_reads(bundled: Path) -> None:
    from transformers import AutoModelForCausalLM

    source = find_bundled_gguf()
    theirs = AutoModelForCausalLM.from_pretrained(
        source.parent, gguf_file=source.name, dtype=torch.float32
    ).state_dict()
    ours = dict(iterate_weights(resolve_model(BUNDLED_MODEL)))
    assert theirs.keys() - ours.keys() == {"lm_head.weight"}  # tied
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name].to(torch.bfloat16)), name


@pytest.mark.weights
def test_bundled_tokenizer_splits_digits(bundled: Path) -> None:
    files = resolve_model(BUNDLED_MODEL)
    tokenizer = load_tokenizer(bundled, files.config)
    assert len(tokenizer.encode("2024", is_first=True)) == 4
    assert tokenizer.encode("<|im_start|>user\n", is_first=True)[0] == 1
    assert tokenizer.eos_token_ids == (2,)
    assert tokenizer.decode(tokenizer.encode("héllo 🎉 日本", is_first=True)) == "héllo 🎉 日本"
    assert "SmolLM" in str(tokenizer.chat_template)


@pytest.mark.weights
def test_bundled_directory_is_read_by_transformers(bundled: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(bundled)
    assert config.rope_parameters["rope_theta"] == 100000.0
    assert json.loads((bundled / "config.json").read_text())["rope_theta"] == 100000.0
    assert config.rms_norm_eps == 1e-5
    theirs = AutoTokenizer.from_pretrained(bundled)
    ours = load_tokenizer(bundled, resolve_model(BUNDLED_MODEL).config)
    for text in ("In 2024, 3 cats", "  def f():\n\treturn 1", "<|im_end|>\nüber"):
        assert ours.encode(text, is_first=True) == theirs(text).input_ids
