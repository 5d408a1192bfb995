import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ramify.lang.errors import LoadError
from ramify.runtime.loader.cache_dir import cached_directory, user_cache_dir


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAMIFY_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


class Builder:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, directory: Path) -> dict[str, Any]:
        self.count += 1
        (directory / "data").write_text("x" * 1000)
        (directory / "sub").mkdir()
        (directory / "sub" / "more").write_text("y")
        return {"note": self.count}


def test_an_intact_directory_is_built_once() -> None:
    build = Builder()
    paths = {cached_directory("m", {"v": 1}, build) for _ in range(3)}
    assert build.count == 1
    assert {file.name for file in paths.pop().iterdir()} == {"data", "sub", "manifest.json"}


@pytest.mark.parametrize("name", ["data", "sub/more", "manifest.json"])
@pytest.mark.parametrize("damage", ["change", "cut", "remove"])
def test_a_damaged_directory_is_built_again(name: str, damage: str) -> None:
    build = Builder()
    path = cached_directory("m", {"v": 1}, build) / name
    content = path.read_bytes()
    path.unlink()
    if damage == "change":
        path.write_bytes(b"!" + content[1:])
    elif damage == "cut":
        path.write_bytes(content[:-1])
    cached_directory("m", {"v": 1}, build)
    assert build.count == 2
    assert (path.parent / path.name).read_bytes()[:1] == content[:1]


def test_another_source_is_built_again() -> None:
    build = Builder()
    cached_directory("m", {"v": 1}, build)
    cached_directory("m", {"v": 2}, build)
    assert build.count == 2


def test_a_failed_build_leaves_nothing(cache: Path) -> None:
    def fail(directory: Path) -> dict[str, Any]:
        (directory / "half").write_text("x")
        raise LoadError("no")

    with pytest.raises(LoadError, match="no"):
        cached_directory("m", {}, fail)
    (cache / "m.tmp-of-a-killed-build").mkdir()
    cached_directory("m", {}, Builder())
    assert {path.name for path in cache.iterdir()} == {"m", "m.lock"}


def test_a_cache_that_cannot_be_written_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAMIFY_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(LoadError, match="RAMIFY_CACHE_DIR"):
        cached_directory("m", {}, Builder())


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert user_cache_dir().name == "cache"
    monkeypatch.delenv("RAMIFY_CACHE_DIR")
    assert user_cache_dir() == Path("/xdg/ramify")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache_dir() == Path.home() / ".cache" / "ramify"


def _build_slowly(directory: Path) -> dict[str, Any]:
    (directory / f"built-by-{os.getpid()}").touch()
    time.sleep(0.3)
    return {}


def _cache_in_process(_: int) -> list[str]:
    return sorted(path.name for path in cached_directory("m", {}, _build_slowly).iterdir())


def test_of_processes_at_once_one_builds_and_all_use_it() -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        seen = pool.map(_cache_in_process, range(3), chunksize=1)
    assert seen[0] == seen[1] == seen[2]
    assert sum(name.startswith("built-by") for name in seen[0]) == 1
