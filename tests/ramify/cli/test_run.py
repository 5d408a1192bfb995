import sys

import pytest

from ramify.cli import main as cli
from ramify.cli import options as config_options
from ramify.interpreter.backends.mock import MockBackend

PROGRAM = """
import sys
import ramify

@ramify.function
def ask(s, question):
    s += question + ramify.gen("answer")

if __name__ == "__main__":
    print(sys.argv, ask.run(sys.argv[1])["answer"])
"""


@pytest.fixture
def mock(monkeypatch):
    """The backend that `run` and `chat` make."""
    backend = MockBackend(lambda prompt: f"re {prompt}")
    monkeypatch.setattr(config_options, "make_backend", lambda options, verb: backend)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("RAMIFY_DEBUG", raising=False)
    return backend


def write(folder, text):
    path = folder / "program.py"
    path.write_text(text)
    return str(path)


def test_a_script_gets_a_default_backend_and_its_own_arguments(mock, tmp_path, capsys):
    path = write(tmp_path, PROGRAM)
    assert cli.main(["run", path, "why?", "--model"]) == 0
    assert capsys.readouterr().out == f"{[path, 'why?', '--model']} re why?\n"
    assert len(mock.requests) == 1


def test_a_script_imports_its_neighbours(mock, tmp_path, capsys):
    (tmp_path / "neighbour_of_program.py").write_text("NAME = 'next door'")
    path = write(tmp_path, "import neighbour_of_program as n; print(n.NAME)")
    assert cli.main(["run", path]) == 0
    assert capsys.readouterr().out == "next door\n"


def test_a_missing_file_is_a_usage_error(mock, capsys):
    assert cli.main(["run", "nowhere.py"]) == 2
    assert capsys.readouterr().err == "ramify run: nowhere.py: no such file\n"


def test_an_error_of_the_language_says_where_in_the_script(mock, tmp_path, capsys):
    path = write(tmp_path, "import ramify\n\nramify.select('x', [])\n")
    assert cli.main(["run", path]) == 1
    error = capsys.readouterr().err
    assert "choices=[]" in error
    assert error.endswith("at program.py:3\n")


def test_a_failed_call_is_named_once(tmp_path, monkeypatch, capsys, mock):
    mock._replies = lambda prompt: RuntimeError("out of ink")
    path = write(tmp_path, PROGRAM)
    assert cli.main(["run", path, "why?"]) == 1
    error = capsys.readouterr().err
    assert "out of ink" in error
    assert error.count("program.py:7") == 1
    assert "Traceback" not in error


def test_errors_of_the_script_itself_are_pythons(mock, tmp_path):
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", write(tmp_path, "1 / 0")])


def test_the_exit_code_of_the_script_is_kept(mock, tmp_path):
    with pytest.raises(SystemExit) as end:
        cli.main(["run", write(tmp_path, "import sys; sys.exit(7)")])
    assert end.value.code == 7


def test_the_backend_is_closed_and_forgotten(mock, tmp_path):
    from ramify.interpreter.default import backend_or_default
    from ramify.lang.errors import ConfigError

    cli.main(["run", write(tmp_path, "pass")])
    assert mock._is_closed
    with pytest.raises(ConfigError, match="no backend"):
        backend_or_default(None)
