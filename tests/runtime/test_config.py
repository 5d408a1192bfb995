"""Options: one definition, three places to set them."""

import argparse
from dataclasses import fields

import pytest

from ramify.lang.errors import ConfigError
from ramify.lang.protocol import Sampling
from ramify.runtime.api.sampling import SamplingFields
from ramify.runtime.config import EngineConfig, ServerConfig
from ramify.runtime.engine import Engine
from ramify.runtime.options import add_flags, describe, flag_of, public_values, resolve


def parse(config_class, *args, environ=()):
    parser = argparse.ArgumentParser()
    add_flags(parser, config_class)
    return resolve(config_class, vars(parser.parse_args(args)), dict(environ))


def test_sglangs_spellings_are_taken():
    config, _ = parse(
        EngineConfig,
        *("--model-path", "/repository", "--max-running-requests", "8"),
        *("--max-prefill-tokens", "4096", "--chunked-prefill-size", "-1"),
        *("--schedule-policy", "lpm", "--mem-fraction-static", "0.5"),
        *("--context-length", "100", "--max-total-tokens", "9000", "--dtype", "float32"),
    )
    assert (config.model, config.max_running_requests) == ("/repository", 8)
    assert (config.max_prefill_tokens, config.chunked_prefill_size) == (4096, -1)
    assert (config.schedule_policy, config.mem_fraction_static) == ("lpm", 0.5)
    assert (config.context_length, config.max_total_tokens, config.dtype) == (100, 9000, "float32")


def test_the_command_line_beats_the_environment_beats_the_default():
    environ = {"RAMIFY_PORT": "1", "RAMIFY_HOST": "0.0.0.0", "OTHER": "x"}
    config, origins = parse(ServerConfig, "--port", "2", environ=environ.items())
    assert (config.port, origins["port"]) == (2, "command line")
    assert (config.host, origins["host"]) == ("0.0.0.0", "environment")
    assert (config.drain_timeout, origins["drain_timeout"]) == (30.0, "default")


@pytest.mark.parametrize(("text", "value"), [("1", True), ("no", False), ("TRUE", True)])
def test_booleans(text, value):
    config, _ = parse(EngineConfig, environ={"RAMIFY_DISABLE_RADIX_CACHE": text}.items())
    assert config.disable_radix_cache is value
    assert parse(EngineConfig, "--disable-radix-cache").config.disable_radix_cache is True
    off, _ = parse(
        EngineConfig,
        "--no-disable-radix-cache",
        environ={"RAMIFY_DISABLE_RADIX_CACHE": "1"}.items(),
    )
    assert off.disable_radix_cache is False


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RAMIFY_PORT", "x"),
        ("RAMIFY_PORT", "70000"),
        ("RAMIFY_DRAIN_TIMEOUT", "soon"),
        ("RAMIFY_DRAIN_TIMEOUT", "nan"),
        ("RAMIFY_REQUEST_TIMEOUT", "0"),
        ("RAMIFY_LOG_LEVEL", "loud"),
        ("RAMIFY_API_KEY", ""),
        ("RAMIFY_MAX_BODY_MIB", "0"),
    ],
)
def test_a_bad_value_is_an_error_that_names_it(variable, value):
    with pytest.raises(ConfigError) as caught:
        parse(ServerConfig, environ={variable: value}.items())
    name = variable.removeprefix("RAMIFY_")
    assert name in caught.value.message.upper()


@pytest.mark.parametrize("field", ["schedule_policy", "dtype", "device", "load_format"])
def test_a_choice_outside_the_list_names_the_list(field):
    with pytest.raises(ConfigError, match=f"{field}='nix': must be one of"):
        EngineConfig(**{field: "nix"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, 0) for name in ("context_length", "max_total_tokens", "num_threads")],
        ("max_total_tokens", -3),
        ("max_running_requests", "8"),
        ("max_running_requests", True),
        ("max_running_requests", None),
        ("mem_fraction_static", "half"),
        ("disable_radix_cache", "no"),
        ("random_seed", 2**64),
        ("model", 5),
    ],
)
def test_a_value_of_the_wrong_type_or_out_of_range_is_named(name, value):
    with pytest.raises(ConfigError, match=f"{name}={value!r}: must be"):
        EngineConfig(**{name: value})


def test_an_option_that_does_not_exist_is_named():
    with pytest.raises(TypeError, match="did you mean 'max_total_tokens'"):
        Engine(max_total_token=3)


def test_a_whole_number_will_do_where_any_number_does():
    assert ServerConfig(drain_timeout=5).drain_timeout == 5


def test_print_config_shows_value_and_origin_and_no_secret():
    environ = {"RAMIFY_API_KEY": "s3cret", "RAMIFY_PORT": "80"}
    text = describe(
        parse(EngineConfig, "--model", "m"), parse(ServerConfig, environ=environ.items())
    )
    assert "model " in text and "'m'  (command line)" in text
    assert any(line.split() == ["port", "=", "80", "(environment)"] for line in text.splitlines())
    assert "s3cret" not in text and "***" in text
    assert len(text.splitlines()) == len(fields(EngineConfig)) + len(fields(ServerConfig))


def test_secrets_are_in_no_repr():
    config = ServerConfig(api_key="s3cret")
    assert "s3cret" not in repr(config)
    assert public_values(config)["api_key"] == "***"
    assert public_values(config)["admin_api_key"] is None


def test_every_option_has_help_and_its_own_flag():
    names = [spec.name for cls in (EngineConfig, ServerConfig) for spec in fields(cls)]
    assert len(set(map(flag_of, names))) == len(names) < 80
    for cls in (EngineConfig, ServerConfig):
        assert all(spec.metadata["help"] for spec in fields(cls))


def test_http_bodies_have_the_fields_of_sampling_and_no_others():
    own = set(SamplingFields.__struct_fields__)
    elsewhere = {"max_tokens", "min_tokens"}  # spelled differently by the dialects
    not_on_the_wire = {"choices"}
    assert own | elsewhere | not_on_the_wire == set(Sampling.__struct_fields__)
