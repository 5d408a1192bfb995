"""`ramify run FILE`: an ordinary script, with a default backend ready."""

import argparse
import os
import runpy
import sys
import traceback
from pathlib import Path

from ramify.cli import options as config_options
from ramify.interpreter.default import set_default_backend
from ramify.interpreter.loop import io_loop
from ramify.lang.errors import ConfigError, RamifyError
from ramify.runtime.options import describe


class ScriptFailed(RamifyError):
    """A script ended in one of Ramify's errors; the message says where."""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the verb's options."""
    parser = verbs.add_parser(
        "run",
        help="run a file of programs",
        description="Run FILE as Python would, with a default backend for its programs: a local "
        "engine, or the server at --endpoint. Options go before FILE; what follows is FILE's own.",
    )
    config_options.add_backend_flags(parser)
    parser.add_argument("file", metavar="FILE", help="a Python script")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="arguments of the script")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the script to its end."""
    config = config_options.engine_config(options)
    if options.print_config:
        print(describe(config))
        return 0
    path = Path(options.file)
    if not path.is_file():
        raise ConfigError(f"{options.file}: no such file")
    backend = config_options.make_backend(options, "run")
    set_default_backend(backend)
    sys.argv = [options.file, *options.args]
    sys.path.insert(0, str(path.parent.resolve()))  # as `python FILE` does
    try:
        runpy.run_path(str(path), run_name="__main__")
    except RamifyError as error:
        if os.environ.get("RAMIFY_DEBUG") == "1":
            raise
        raise ScriptFailed(f"{error}{place(error, path)}") from error
    finally:
        set_default_backend(None)
        io_loop().submit(backend.close()).result()
    return 0


def place(error: RamifyError, path: Path) -> str:
    """Where in the script the error came up, unless the message says so itself."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path]
    where = f"{path.name}:{lines[-1]}" if lines else ""
    return f"\nat {where}" if where and path.name not in str(error) else ""
