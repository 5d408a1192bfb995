import dataclasses
import os

import pytest

from ramify.cli import main as cli
from ramify.cli import options as config_options
from ramify.interpreter.backends.endpoint import RuntimeEndpoint
from ramify.lang.errors import ConfigError
from ramify.runtime.config import EngineConfig, ServerConfig


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("RAMIFY_")]:
        monkeypatch.delenv(name)


def parse(*arguments):
    return cli.make_parser().parse_args(arguments)


def test_print_config_names_every_option_and_its_origin(capsys, monkeypatch):
    monkeypatch.setenv("RAMIFY_PORT", "8000")
    assert cli.main(["serve", "some/model", "--dtype", "float32", "--print-config"]) == 0
    lines = dict(line.split(" = ") for line in capsys.readouterr().out.splitlines())
    shown = {name.strip(): value for name, value in lines.items()}
    names = {spec.name for spec in dataclasses.fields(EngineConfig)}
    assert set(shown) == names | {spec.name for spec in dataclasses.fields(ServerConfig)}
    assert shown["model"] == "'some/model'  (command line)"
    assert shown["dtype"] == "'float32'  (command line)"
    assert shown["port"] == "8000  (environment)"
    assert shown["host"] == "'127.0.0.1'  (default)"


@pytest.mark.parametrize("verb", [["run", "x.py"], ["chat"]])
def test_run_and_chat_print_the_engines_options(capsys, verb):
    assert cli.main([verb[0], "--print-config", *verb[1:]]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(dataclasses.fields(EngineConfig))


def test_two_models_are_an_error(capsys):
    assert cli.main(["serve", "one", "--model", "two"]) == 2
    assert "'one'" in capsys.readouterr().err


def test_a_bad_value_names_itself_and_what_is_allowed(capsys):
    assert cli.main(["serve", "--chunked-prefill-size", "3"]) == 2
    assert "chunked_prefill_size=3: must be -1 (off) or at least 16" in capsys.readouterr().err


def test_an_endpoint_takes_no_engine_options():
    options = parse("run", "--endpoint", "http://localhost:1", "--dtype", "float32", "x.py")
    with pytest.raises(ConfigError, match="--endpoint and --dtype"):
        config_options.make_backend(options, "run")


def test_an_endpoint_is_found_through_the_environment(monkeypatch):
    monkeypatch.setenv("RAMIFY_ENDPOINT", "http://127.0.0.1:1")
    backend = config_options.make_backend(parse("chat"), "chat")
    assert isinstance(backend, RuntimeEndpoint)
    assert backend.base_url == "http://127.0.0.1:1"


def test_an_endpoint_must_be_a_url(capsys, monkeypatch):
    monkeypatch.setenv("RAMIFY_ENDPOINT", "localhost")
    assert cli.main(["chat"]) == 2
    assert "RAMIFY_ENDPOINT='localhost': must be the URL" in capsys.readouterr().err


def test_engine_flags_win_over_an_endpoint_in_the_environment(monkeypatch):
    monkeypatch.setenv("RAMIFY_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("RAMIFY_MODEL", "before")
    seen = {}
    monkeypatch.setattr(config_options, "backend_from_env", lambda: seen.update(os.environ))
    config_options.make_backend(parse("run", "--model", "other", "x.py"), "run")
    assert "RAMIFY_ENDPOINT" not in seen
    assert seen["RAMIFY_MODEL"] == "other"


def test_a_missing_extra_is_named(monkeypatch):
    with pytest.raises(ConfigError, match=r"serve needs no_such_module.*ramify\[runtime\]"):
        config_options.require("json", "no_such_module", extra="runtime", verb="serve")
