"""The wheel: real packages behind the links, few dependencies, every module importable."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_PACKAGES = 12  # ramify and all it needs, without extras
ROOMS = ("lang", "interpreter", "grammars", "runtime")
IMPORT_ALL = """
import importlib, pkgutil, ramify
names = [m.name for m in pkgutil.walk_packages(ramify.__path__, "ramify.")]
rooms = ("ramify.lang", "ramify.interpreter", "ramify.cli")
local = ("ramify.interpreter.backends.engine", "ramify.cli.grammar_check")
for name in names:
    if name.startswith(rooms) and name not in local:
        importlib.import_module(name)
print(len(names))
"""

pytestmark = pytest.mark.slow


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, built in a copy: a build leaves files behind."""
    copy, out = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("ramify", *ROOMS):
        shutil.copytree(ROOT / name, copy / name, symlinks=True)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(copy))
    return next(out.glob("ramify-*.whl"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Python of an empty environment with the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    run(str(python), "-m", "pip", "install", "-q", str(wheel))
    return str(python)


@pytest.fixture
def away(tmp_path):
    """Options to run a command where the checkout is not on the path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {"cwd": tmp_path, "env": {**environment, "RAMIFY_CACHE_DIR": str(tmp_path)}}


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    folders = [ROOT / "ramify" / "cli", *(ROOT / room for room in ROOMS)]
    expected = {"ramify/__init__.py", "ramify/__main__.py", "ramify/py.typed"}
    for folder in folders:
        base = "ramify/cli" if folder.name == "cli" else f"ramify/{folder.name}"
        expected |= {f"{base}/{p.relative_to(folder).as_posix()}" for p in folder.rglob("*.py")}
    assert packed == expected


def test_the_language_alone_is_few_packages(python, away):
    listed = json.loads(run(python, "-m", "pip", "list", "--format", "json", **away))
    names = {entry["name"].lower() for entry in listed} - {"pip", "setuptools", "wheel"}
    assert len(names) <= MAX_PACKAGES, sorted(names)
    assert "torch" not in names


def test_every_module_of_the_language_imports(python, away):
    assert int(run(python, "-c", IMPORT_ALL, **away)) > 100


def test_doctor_finds_nothing_to_fix(python, away):
    command = str(Path(python).parent / "ramify")
    out = run(command, "doctor", **away)
    assert out.endswith("0 problems found\n")
    assert "pip install 'ramify[runtime]'" in out


def test_a_program_runs_on_the_mock(python, away):
    code = (
        "import ramify\n"
        "@ramify.function\n"
        "def ask(s):\n"
        "    s += 'Hello' + ramify.gen('answer')\n"
        "print(ask.run(backend=ramify.MockBackend(['there']))['answer'])\n"
    )
    assert run(python, "-c", code, **away) == "there\n"


@pytest.mark.parametrize(
    ("verb", "extra"), [("serve", "runtime"), ("chat", "demo"), ("grammar check [0-9]+", "runtime")]
)
def test_what_needs_an_extra_says_which(python, away, verb, extra):
    command = [str(Path(python).parent / "ramify"), *verb.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **away)
    assert done.returncode == 2
    assert f"pip install 'ramify[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
