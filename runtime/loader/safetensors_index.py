"""Which safetensors files make up a checkpoint, and whether each is whole."""

import json
import struct
from pathlib import Path

from ramify.lang.errors import LoadError

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_MAX_HEADER = 100_000_000  # bytes; the format's own limit


def find_safetensors(directory: Path) -> tuple[Path, ...]:
    """The safetensors files of the checkpoint in `directory`, each checked to be complete."""
    index = directory / _INDEX
    if index.exists():
        paths = _shards(index)
    elif (directory / _SINGLE).exists():
        paths = (directory / _SINGLE,)
    else:
        paths = tuple(sorted(directory.glob("*.safetensors")))
    if not paths:
        raise _no_weights(directory)
    for path in paths:
        _check_whole(path)
    return paths


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(
            f"{index} is not a checkpoint index ({error!r}): it must be JSON with a weight_map of "
            "tensor names to file names; download it again"
        ) from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise LoadError(f"{index} names shard {name!r}: must be a file name in its directory")
    paths = tuple(index.parent / name for name in names)
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise LoadError(
            f"{index.parent} lacks {len(missing)} of the {len(paths)} weight files that {_INDEX} "
            f"lists: {', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''}; download them"
        )
    return paths


def _no_weights(directory: Path) -> LoadError:
    pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern))
    if pickles:
        return LoadError(
            f"{directory} holds weights only as {pickles[0]}, a pickle, which can run code when it "
            "is opened and is refused; convert the model to safetensors "
            "(transformers: model.save_pretrained(path))"
        )
    return LoadError(
        f"{directory} holds no weights: no {_SINGLE}, no {_INDEX}, no *.safetensors; download the "
        "model again, or use load_format=dummy for random weights"
    )


def _check_whole(path: Path) -> None:
    """A cut-off download has a good header and too few bytes: compare the two."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        header_len = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 2 <= header_len <= min(_MAX_HEADER, size - 8):
            raise _broken(path, f"its first 8 bytes say a header of {header_len} bytes")
        try:
            header = json.loads(file.read(header_len))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
            data_len = max(ends, default=0)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise _broken(path, f"its header cannot be read ({error!r})") from error
    if size != 8 + header_len + data_len:
        raise _broken(
            path, f"it has {size} bytes, its header calls for {8 + header_len + data_len}"
        )


def _broken(path: Path, why: str) -> LoadError:
    return LoadError(
        f"{path} is not a whole safetensors file: {why}. The download was cut off or the file was "
        "changed; delete it and download it again"
    )
