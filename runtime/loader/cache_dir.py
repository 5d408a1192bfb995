"""Directories built once in the user's cache: whole or not at all, checked when used again.

A builder works in a temporary neighbour that takes its final name by one rename, under a file
lock, so that of two processes one builds and the other waits and uses the result. A manifest holds
size and CRC-32 of each file (270 MB are checked in 0.1 s); what fails the check is built again.
"""

import fcntl
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ramify.lang.errors import LoadError

_MANIFEST = "manifest.json"


def user_cache_dir() -> Path:
    """$RAMIFY_CACHE_DIR, else $XDG_CACHE_HOME/ramify, else ~/.cache/ramify."""
    if own := os.environ.get("RAMIFY_CACHE_DIR"):
        return Path(own).expanduser()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser() / "ramify"
    return Path.home() / ".cache" / "ramify"


def cached_directory(
    key: str, identity: dict[str, Any], build: Callable[[Path], dict[str, Any]]
) -> Path:
    """The directory `models/key` of the user's cache, built unless it is there and intact.

    `identity` must equal what the manifest recorded (a source that changed is built again).
    `build(path)` fills an empty directory; what it returns is written into the manifest too.
    """
    root = user_cache_dir() / "models"
    final = root / key
    if _is_intact(final, identity):
        return final
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{key}.lock"):
            if _is_intact(final, identity):  # another process built it while this one waited
                return final
            _build(final, identity, build)
    except OSError as error:
        raise LoadError(
            f"cannot write {final}: {error}. The converted model is kept there; free some space, "
            "or set RAMIFY_CACHE_DIR to a directory that can be written"
        ) from error
    return final


def _build(final: Path, identity: dict[str, Any], build: Callable[[Path], dict[str, Any]]) -> None:
    for leftover in final.parent.glob(f"{final.name}.tmp-*"):  # of a build that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f"{final.name}.tmp-", dir=final.parent))
    try:
        extra = build(work)
        files = {
            str(path.relative_to(work)): [path.stat().st_size, _crc32(path)]
            for path in sorted(work.rglob("*"))
            if path.is_file()
        }
        manifest = {"identity": identity, **extra, "files": files}
        (work / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        work.chmod(0o755)
        shutil.rmtree(final, ignore_errors=True)
        work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _is_intact(directory: Path, identity: dict[str, Any]) -> bool:
    try:
        manifest = json.loads((directory / _MANIFEST).read_text(encoding="utf-8"))
        return manifest["identity"] == identity and all(
            (directory / name).stat().st_size == size and _crc32(directory / name) == crc
            for name, (size, crc) in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(1 << 22):
            crc = zlib.crc32(chunk, crc)
    return crc


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
