import subprocess
import sys

import pytest

import ramify
from ramify.cli import main as cli
from ramify.lang.errors import BackendError, ConfigError, InvalidRequest, LoadError, NotFound

VERBS = ("run", "serve", "chat", "doctor", "bench", "version")


@pytest.mark.parametrize("arguments", [[], *([verb] for verb in VERBS)])
def test_help_is_there_and_imports_nothing_heavy(arguments):
    code = (
        "import sys\nfrom ramify.cli.main import main\n"
        f"try: main({[*arguments, '--help']!r})\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'aiohttp', 'numpy', 'httpx'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ramify")


def test_version(capsys):
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out == f"ramify {ramify.__version__}\n"


def test_python_m_runs_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "ramify", "version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"ramify {ramify.__version__}\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x=1: must be 2"), 2),
        (InvalidRequest("x=1: must be 2"), 2),
        (NotFound("no such thing"), 2),
        (LoadError("cannot load"), 1),
        (BackendError("no answer"), 1),
    ],
)
def test_an_error_is_one_paragraph_and_a_code(monkeypatch, capsys, error, code):
    monkeypatch.setattr(cli, "print_version", _raises(error))
    monkeypatch.delenv("RAMIFY_DEBUG", raising=False)
    assert cli.main(["version"]) == code
    assert capsys.readouterr().err == f"ramify version: {error}\n"


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setattr(cli, "print_version", _raises(LoadError("cannot load")))
    monkeypatch.setenv("RAMIFY_DEBUG", "1")
    with pytest.raises(LoadError):
        cli.main(["version"])


def test_an_unknown_verb_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["fly"])
    assert end.value.code == 2
    assert "fly" in capsys.readouterr().err


def _raises(error):
    def run(options):
        raise error

    return run
