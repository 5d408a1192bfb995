import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ramify.lang.errors import LoadError
from ramify.runtime.loader.resolve import resolve_model
from ramify.runtime.loader.weights import iterate_weights, parameter_shapes
from tests.tiny_models import TINY_MODELS, make_tiny_model

TinyModels = Callable[[str], Path]


@pytest.fixture
def broken(tiny_model_dir: TinyModels, tmp_path: Path) -> Path:
    """A copy of a good model, to be damaged."""
    return Path(shutil.copytree(tiny_model_dir("llama"), tmp_path / "model"))


@pytest.mark.parametrize("name", TINY_MODELS)
def test_shapes_are_those_of_the_checkpoint(tiny_model_dir: TinyModels, name: str) -> None:
    files = resolve_model(tiny_model_dir(name))
    stored = {key: tuple(tensor.shape) for key, tensor in iterate_weights(files)}
    assert stored == parameter_shapes(files.config)


def test_sharded_weights_equal_single_ones(tiny_model_dir: TinyModels, tmp_path: Path) -> None:
    single = dict(iterate_weights(resolve_model(tiny_model_dir("qwen3"))))
    sharded = resolve_model(make_tiny_model("qwen3", tmp_path, max_shard_size="100KB"))
    assert len(sharded.weights) > 2
    again = dict(iterate_weights(sharded))
    assert single.keys() == again.keys()
    assert all(torch.equal(single[name], again[name]) for name in single)


def test_dummy_weights_depend_on_name_and_seed_alone(tiny_model_dir: TinyModels) -> None:
    files = resolve_model(tiny_model_dir("llama-tied-biases"), "dummy", seed=3)
    first, again = dict(iterate_weights(files)), dict(iterate_weights(files))
    assert {name: tuple(t.shape) for name, t in first.items()} == parameter_shapes(files.config)
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = dict(iterate_weights(dataclasses.replace(files, dummy_seed=4)))
    wide = "model.embed_tokens.weight"
    assert not torch.equal(first[wide], other[wide])
    assert first[wide].std().item() == pytest.approx(0.02, rel=0.05)
    assert first["model.norm.weight"].mean().item() == pytest.approx(1.0, abs=0.02)


def test_a_cut_off_file_is_named(broken: Path) -> None:
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(LoadError, match=r"model\.safetensors is not a whole .* bytes, its header"):
        resolve_model(broken)


@pytest.mark.parametrize(
    "content", [b"", b"1234", b"\xff" * 64, b"\x10" + bytes(7) + b"not json" * 2]
)
def test_a_file_that_is_no_safetensors_is_named(broken: Path, content: bytes) -> None:
    (broken / "model.safetensors").write_bytes(content)
    with pytest.raises(LoadError, match=r"model\.safetensors is not a whole safetensors file"):
        resolve_model(broken)


def test_a_header_that_lies_is_a_load_error(broken: Path) -> None:
    path = broken / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"F32"', b'"F64"', 1))
    with pytest.raises(LoadError, match=r"model\.safetensors cannot be read"):
        list(iterate_weights(resolve_model(broken)))


def test_quantized_tensors_are_refused(broken: Path) -> None:
    path = broken / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] = torch.zeros(64, dtype=torch.int8)
    save_file(tensors, path)
    with pytest.raises(LoadError, match=r"model\.norm\.weight.*int8"):
        list(iterate_weights(resolve_model(broken)))


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    path = make_tiny_model("qwen2", tmp_path, max_shard_size="100KB")
    shard = sorted(path.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(LoadError, match=f"lacks 1 of the .*{shard.name}"):
        resolve_model(path)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ("{", "is not a checkpoint index"),
        ('{"weight_map": [1]}', "is not a checkpoint index"),
        ('{"weight_map": {"a": "../../etc/passwd"}}', "must be a file name in its directory"),
    ],
)
def test_a_bad_index_is_named(broken: Path, index: str, says: str) -> None:
    (broken / "model.safetensors.index.json").write_text(index)
    with pytest.raises(LoadError, match=says):
        resolve_model(broken)


def test_pickles_are_refused(broken: Path) -> None:
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(LoadError, match=r"pytorch_model\.bin, a pickle.*safetensors"):
        resolve_model(broken)
    (broken / "pytorch_model.bin").unlink()
    with pytest.raises(LoadError, match="holds no weights"):
        resolve_model(broken)


def test_config_errors_come_before_weights(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    del config["num_hidden_layers"]
    (broken / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadError, match=r"config\.json has no field 'num_hidden_layers'"):
        resolve_model(broken)
