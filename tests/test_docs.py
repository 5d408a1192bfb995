"""The docs are true: their code runs, their symbols exist, their outputs are what is printed."""

import contextlib
import functools
import importlib
import io
import re
from pathlib import Path
from typing import NamedTuple

import pytest

import ramify

ROOT = Path(__file__).parent.parent
RUN = ["README.md", "docs/tutorial.md"]  # pages whose Python blocks run, in order
SYMBOL = re.compile(r"`(ramify(?:\.\w+)+)`")
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    code: str
    shown: str | None  # the text block right after it


def pages():
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(name):
    fences = [(match[1], match[2]) for match in FENCE.finditer((ROOT / name).read_text())]
    following = [*fences[1:], ("", "")]
    return [
        Block(code, text if kind == "text" else None)
        for (language, code), (kind, text) in zip(fences, following, strict=True)
        if language == "python"
    ]


def printed(page, make_engine, monkeypatch):
    """(block, what it printed) for each block of a page, run in one namespace."""
    monkeypatch.setattr(ramify, "Engine", make_engine, raising=False)
    names = {}
    for block in blocks(page):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block.code, page, "exec"), names)
        yield block, out.getvalue()


@pytest.fixture(autouse=True)
def _no_default_backend():
    yield
    ramify.set_default_backend(None)


@pytest.mark.parametrize("page", RUN)
def test_python_blocks_run_on_the_mock(page, monkeypatch):
    def reply(prompt):
        return {"year": " 1999", "number: ": "1", "continent of": " Asia"}.get(
            next((end for end in ("year", "number: ", "continent of") if prompt.endswith(end)), ""),
            "Europe" if prompt.rstrip().endswith("assistant") else "1.",
        )

    results = list(printed(page, lambda: ramify.MockBackend(reply), monkeypatch))
    assert results
    assert all(out for block, out in results if block.shown is not None)


@pytest.mark.weights
@pytest.mark.parametrize("page", RUN)
def test_python_blocks_print_what_is_shown(page, monkeypatch):
    engine = functools.partial(ramify.Engine, dtype="float32")
    for block, out in printed(page, engine, monkeypatch):
        if block.shown is not None:
            assert out == block.shown, block.code


def test_every_symbol_that_the_docs_name_exists():
    named = {
        (page.relative_to(ROOT).as_posix(), symbol)
        for page in pages()
        for symbol in SYMBOL.findall(page.read_text())
    }
    named |= {
        (page.relative_to(ROOT).as_posix(), symbol)
        for page in pages()
        for symbol in re.findall(r"^::: (\S+)", page.read_text(), re.MULTILINE)
    }
    assert len(named) > 40
    wrong = [f"{page}: {symbol}" for page, symbol in sorted(named) if not exists(symbol)]
    assert not wrong, "\n".join(wrong)


def exists(symbol):
    """Is `symbol` a module, or an attribute of one, at any depth?"""
    parts = symbol.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            fields = getattr(found, "__dataclass_fields__", {})
            if part in fields:
                return True
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_every_file_that_the_docs_name_exists():
    path = re.compile(
        r"`((?:lang|interpreter|runtime|grammars|examples|tests|benchmarks|docs|ramify)/[\w./-]+)`"
    )
    wrong = [
        f"{page.relative_to(ROOT)}: {name}"
        for page in pages()
        for name in path.findall(page.read_text())
        if not (ROOT / name).exists()
    ]
    assert not wrong, "\n".join(wrong)


def test_every_snippet_is_of_a_file_that_exists():
    lines = [
        (page.relative_to(ROOT).as_posix(), line)
        for page in pages()
        for line in page.read_text().splitlines()
        if line.startswith("--8")
    ]
    assert lines
    wrong = [
        f"{page}: {line}"
        for page, line in lines
        if not (found := re.fullmatch(r'--8<-- "(.+)"', line)) or not (ROOT / found[1]).is_file()
    ]
    assert not wrong, "\n".join(wrong)


def test_every_benchmark_is_listed():
    row = re.search(r"^\| `ramify bench NAME.+$", (ROOT / "docs/command-line.md").read_text(), re.M)
    assert row is not None
    listed = set(re.findall(r"`(\w+)`", row[0]))
    assert listed == {path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py")}


def test_the_readme_lists_seven_files_to_read():
    listed = re.findall(r"^\d\. `([\w/]+\.py)`", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(listed) == 7
    assert all((ROOT / name).is_file() for name in listed)


def test_a_requests_life_has_every_step_of_the_design():
    text = (ROOT / "docs" / "request-life.md").read_text().partition("## In the runtime")[2]
    steps = re.findall(r"^\| (\w[\w, ]*?) \|", text, re.MULTILINE)
    expected = ["accept", "encode", "compile", "match", "plan", "allocate", "prepare", "forward"]
    expected += ["mask, sample", "commit", "decode text", "reply"]
    assert [step for step in steps if step != "step"] == expected


def test_every_dependency_has_a_reason():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = {
        re.match(r"[\w-]+", requirement)[0]
        for requirement in [*project["dependencies"], *(item for extra in extras for item in extra)]
    } - {"ramify"}
    table = (ROOT / "docs" / "dependencies.md").read_text()
    reasons = set(re.findall(r"^\| `([\w-]+)` \| .+ \|$", table, re.MULTILINE))
    assert reasons == wanted


def test_the_changelog_begins_with_this_version():
    first = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None
    assert first[1] == ramify.__version__


def test_the_options_tables_are_made_from_the_config(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    hooks = importlib.import_module("hooks")
    for page, options in {
        "server.md": ("--port", "--api-key"),
        "command-line.md": ("--schedule-policy", "--max-prefill-tokens"),
    }.items():
        text = hooks.on_page_markdown((ROOT / "docs" / page).read_text())
        assert all(f"| `{option}` |" in text for option in options)
        assert "<!-- options" not in text
