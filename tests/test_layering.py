"""Who may import whom (design.md, section 1), and what the package promises of its surface."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ramify

ROOT = Path(__file__).parent.parent
ROOMS = ("lang", "interpreter", "grammars", "runtime")
LAZY = "interpreter/backends/engine.py"  # the door to the runtime, imported late
RUNTIME_MAY_READ = {
    "ramify.lang.protocol",
    "ramify.lang.errors",
    "ramify.lang.chat",
}
ALLOWED = {
    "lang": {"lang"},
    "grammars": {"grammars"},
    "interpreter": {"interpreter", "lang", "grammars"},
    "runtime": {"runtime", "lang", "grammars"},
}


def files_of(room):
    return sorted(path for path in (ROOT / room).rglob("*.py"))


def imports_of(path):
    """(module, is_type_only, is_at_top) of every import of ours in a file."""
    tree = ast.parse(path.read_text())
    type_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for node in ast.walk(branch)
    }
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
        for name in names:
            yield name, id(node) in type_only, id(node) in top


@pytest.mark.parametrize("room", ROOMS)
def test_imports_follow_the_arrows(room):
    wrong = []
    for path in files_of(room):
        relative = path.relative_to(ROOT).as_posix()
        for name, is_type_only, _ in imports_of(path):
            if name.split(".")[0] in ROOMS:
                wrong.append(f"{relative}: import {name} without ramify.")
            if not name.startswith("ramify"):
                continue
            parts = name.split(".")
            target = parts[1] if len(parts) > 1 else "the root"
            is_door = room == "interpreter" and target == "runtime"
            if is_door and (is_type_only or relative == LAZY):
                continue
            if target not in ALLOWED[room]:
                wrong.append(f"{relative}: {name}")
            if room == "runtime" and target == "lang" and name not in RUNTIME_MAY_READ:
                wrong.append(f"{relative}: {name} (only protocol, errors and chat)")
    assert not wrong, "\n".join(wrong)


def test_the_engine_backend_is_only_imported_late():
    door = "ramify.interpreter.backends.engine"
    wrong = [
        path.relative_to(ROOT).as_posix()
        for path in [*files_of("interpreter"), ROOT / "ramify" / "__init__.py"]
        for name, is_type_only, is_at_top in imports_of(path)
        if name == door and is_at_top and not is_type_only
    ]
    assert not wrong


def test_all_is_sorted_and_complete():
    assert list(ramify.__all__) == sorted(ramify.__all__)
    tree = ast.parse((ROOT / "ramify" / "__init__.py").read_text())
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ramify.")
        for alias in node.names
    }
    assert imported | {"__version__"} == set(ramify.__all__)
    for name in set(ramify.__all__) - set(ramify._LAZY):
        assert getattr(ramify, name) is not None


def test_every_error_is_public():
    from ramify.lang import errors

    classes = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.RamifyError)
    }
    assert classes <= set(ramify.__all__)


def test_import_loads_nothing_heavy():
    heavy = ["torch", "transformers", "numpy", "aiohttp", "httpx", "jinja2", "tqdm", "pydantic"]
    code = f"import sys, ramify; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_version_is_that_of_the_project():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == ramify.__version__
