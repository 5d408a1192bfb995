"""From what the user typed to a directory with a model in it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ramify.lang.errors import LoadError
from ramify.runtime.config import BUNDLED_MODEL, LoadFormat
from ramify.runtime.loader.bundled import BUNDLED_SHA256, find_bundled_gguf
from ramify.runtime.loader.gguf_convert import convert_gguf
from ramify.runtime.loader.safetensors_index import find_safetensors
from ramify.runtime.models.config import ModelConfig, load_model_config

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_PATTERNS = ("*.json", "*.safetensors", "*.jinja", "*.tiktoken", "tokenizer.model")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A model that was found: all that loading needs to know."""

    name: str  # as asked for
    directory: Path  # config.json and tokenizer files
    config: ModelConfig
    weights: tuple[Path, ...]  # safetensors files; empty with dummy weights
    dummy_seed: int | None  # seed of random weights; None = real ones


def resolve_model(
    name_or_path: str | Path, load_format: LoadFormat = "auto", *, seed: int = 0
) -> ModelFiles:
    """Find the model `name_or_path`: a directory, a GGUF file, the bundled model, or a hub id.

    GGUF files become a directory in the user's cache the first time. `load_format="dummy"` reads
    everything but the weights, which are random numbers drawn from `seed`.
    """
    name = os.fspath(name_or_path)
    directory = _find_directory(name, load_format)
    dummy = load_format == "dummy"
    return ModelFiles(
        name=name,
        directory=directory,
        config=load_model_config(directory),
        weights=() if dummy else find_safetensors(directory),
        dummy_seed=seed if dummy else None,
    )


def _find_directory(name: str, load_format: LoadFormat) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        if path.suffix != ".gguf":
            raise LoadError(
                f"model {name!r} is a file, but not a .gguf: give the directory that holds "
                "config.json and *.safetensors, or a GGUF file"
            )
        _check_format(name, "a GGUF file", load_format, "gguf")
        return convert_gguf(path)
    if path.is_dir():
        gguf_files = sorted(path.glob("*.gguf"))
        if (path / "config.json").exists() or not gguf_files:
            _check_format(name, "a Hugging Face directory", load_format, "safetensors")
            return path
        if len(gguf_files) > 1:
            listed = ", ".join(file.name for file in gguf_files)
            raise LoadError(
                f"model directory {name!r} holds several GGUF files: name one: {listed}"
            )
        return _find_directory(str(gguf_files[0]), load_format)
    if name == BUNDLED_MODEL:
        _check_format(name, "a GGUF file", load_format, "gguf")
        return convert_gguf(find_bundled_gguf(), sha256=BUNDLED_SHA256)
    if _HUB_ID.fullmatch(name):
        _check_format(name, "a Hugging Face model", load_format, "safetensors")
        return _download(name, weights=load_format != "dummy")
    raise LoadError(
        f"model {name!r} was not found: there is no such file or directory (looked in "
        f"{path.absolute().parent}), it is not the bundled model {BUNDLED_MODEL!r}, and it does "
        "not look like a hub id (org/name). Check the spelling, or give the path of a directory "
        "with config.json and *.safetensors, or of a .gguf file"
    )


def _check_format(name: str, what: str, load_format: LoadFormat, own: LoadFormat) -> None:
    if load_format not in ("auto", "dummy", own):
        raise LoadError(
            f"load_format={load_format!r}: model {name!r} is {what}; use auto, {own} or dummy"
        )


def _download(hub_id: str, *, weights: bool) -> Path:
    """The hub's snapshot of `hub_id`, from the local hub cache when offline."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [p for p in _HUB_PATTERNS if weights or p != "*.safetensors"]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LoadError(
            f"model {hub_id!r} is no local file or directory, and the Hugging Face hub did not "
            f"give it ({reason}). Check the name; for a private model set HF_TOKEN; without a "
            "network (or with HF_HUB_OFFLINE=1) give the path of a local directory"
        ) from error
