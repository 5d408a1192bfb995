"""What several verbs share: the engine's options, and the backend that the options choose."""

import argparse
import os
import sys
import time
from dataclasses import fields
from importlib import util

from ramify.interpreter.backends.base import Backend
from ramify.interpreter.backends.environment import ENDPOINT, backend_from_env
from ramify.lang.errors import ConfigError
from ramify.runtime.config import EngineConfig
from ramify.runtime.options import Resolved, add_flags, flag_of, resolve, variable_of


def add_print_config(parser: argparse.ArgumentParser) -> None:
    """`--print-config`."""
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print every option, its value and where the value comes from, then exit",
    )


def add_backend_flags(parser: argparse.ArgumentParser) -> None:
    """`--endpoint`, and the options of a local engine for where it is absent."""
    parser.add_argument(
        "--endpoint", metavar="URL", help=f"use the server at URL, not a local engine ({ENDPOINT})"
    )
    add_print_config(parser)
    add_flags(parser, EngineConfig)


def engine_config(options: argparse.Namespace) -> Resolved[EngineConfig]:
    """The engine's options from flags, a positional MODEL and the environment."""
    given = dict(vars(options))
    positional = given.pop("positional_model", None)
    if positional is not None:
        if given["model"] not in (None, positional):
            raise ConfigError(
                f"two models: {positional!r} and --model {given['model']!r}; give one of them"
            )
        given["model"] = positional
    return resolve(EngineConfig, given, os.environ)


def make_backend(options: argparse.Namespace, verb: str) -> Backend:
    """The backend that `options` choose, through the environment: a script then finds it too."""
    given = [spec.name for spec in fields(EngineConfig) if vars(options)[spec.name] is not None]
    if options.endpoint is not None:
        if given:
            raise ConfigError(
                f"--endpoint and {flag_of(given[0])}: options of a local engine mean nothing to a "
                "server; drop one of them"
            )
        os.environ[ENDPOINT] = options.endpoint
    elif given:
        os.environ.pop(ENDPOINT, None)
    for name in given:
        os.environ[variable_of(name)] = str(vars(options)[name])
    if os.environ.get(ENDPOINT):
        return backend_from_env()
    require("torch", extra="demo", verb=verb)
    started = time.perf_counter()
    backend = backend_from_env()
    model = resolve(EngineConfig, {}, os.environ).config.model
    print(f"{model} ready in {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return backend


def require(*modules: str, extra: str, verb: str) -> None:
    """Raise `ConfigError` when modules of an extra are not installed."""
    missing = [name for name in modules if util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{verb} needs {' and '.join(missing)}, which this install lacks; "
            f"run: pip install 'ramify[{extra}]'"
        )
