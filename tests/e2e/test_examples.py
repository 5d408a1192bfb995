"""Every example prints what the docs show, in process and by a server, and runs on the mock."""

import os
import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ramify

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
REACT = [
    *(" I must look up Italy.", " lookup", " Italy"),
    *(" I must add.", " calculate", " 59 + 2"),
    *(" I know.", " answer", " 61"),
]
SCRIPTS = {"react_agent": REACT}  # replies of the mock, where its default would end nowhere


def run_example(name, capsys):
    runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    ramify.set_default_backend(None)
    return capsys.readouterr().out


def shown_in_docs(name):
    return (ROOT / "docs" / "examples" / f"{name}.txt").read_text()


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    for variable in [name for name in os.environ if name.startswith("RAMIFY_")]:
        if variable != "RAMIFY_CACHE_DIR":
            monkeypatch.delenv(variable)
    monkeypatch.setenv("RAMIFY_DTYPE", "float32")  # so that no near tie depends on the batch


@pytest.fixture(scope="module")
def server():
    """URL of `ramify serve` in a process of its own."""
    command = [sys.executable, "-m", "ramify", "serve", "--port", "0", "--dtype", "float32"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Ready"):
                break
        found = re.search(r"http://\S+", "".join(said[-1:]))
        assert found, f"the server ended: {said}"
        yield found[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def test_every_example_is_in_the_docs():
    page = (ROOT / "docs" / "examples.md").read_text()
    readme = (ROOT / "examples" / "README.md").read_text()
    assert NAMES
    for name in NAMES:
        assert f"examples/{name}.py" in page
        assert f"{name}.py" in readme
        assert shown_in_docs(name)


@pytest.mark.weights
@pytest.mark.parametrize("name", NAMES)
def test_an_example_prints_what_the_docs_show(name, capsys):
    assert run_example(name, capsys) == shown_in_docs(name)


@pytest.mark.weights
@pytest.mark.parametrize("name", NAMES)
def test_an_example_prints_the_same_through_a_server(name, server, capsys, monkeypatch):
    monkeypatch.setenv("RAMIFY_ENDPOINT", server)
    monkeypatch.delenv("RAMIFY_DTYPE")
    assert run_example(name, capsys) == shown_in_docs(name)


@pytest.mark.weights
def test_the_quickstart_answers_the_question():
    assert "Paris" in shown_in_docs("quickstart")


@pytest.mark.parametrize("name", NAMES)
def test_an_example_needs_only_the_language(name, capsys, monkeypatch):
    mock = ramify.MockBackend(SCRIPTS.get(name))
    monkeypatch.setattr(ramify, "backend_from_env", lambda: mock, raising=False)
    assert run_example(name, capsys)
    assert mock.requests


def test_the_agents_tools_are_called_and_their_results_appended(capsys, monkeypatch):
    mock = ramify.MockBackend(REACT)
    monkeypatch.setattr(ramify, "backend_from_env", lambda: mock, raising=False)
    out = run_example("react_agent", capsys)
    assert "Observation: Italy has 59 million people.\n" in out
    assert "Observation: 61\n" in out
