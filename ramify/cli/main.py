"""The parser of all verbs, and how errors reach the user: one paragraph, no traceback."""

import argparse
import os
import sys
from collections.abc import Sequence

import ramify
from ramify.cli import bench, chat, doctor, grammar, run, serve
from ramify.lang.errors import ConfigError, InvalidRequest, NotFound, RamifyError

USAGE_ERROR = 2  # what was asked cannot be done; also argparse's own code
RUNTIME_FAILURE = 1  # it was started, and failed


def make_parser() -> argparse.ArgumentParser:
    """All verbs with their options."""
    parser = argparse.ArgumentParser(
        prog="ramify", description="A language and a runtime for programs that call language models"
    )
    parser.add_argument("--version", action="version", version=f"ramify {ramify.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for module in (run, serve, chat, doctor, bench, grammar):
        module.add_parser(verbs)
    version = verbs.add_parser("version", help="print the version")
    version.set_defaults(run=print_version)
    return parser


def print_version(options: argparse.Namespace) -> int:
    """Print the version."""
    del options
    print(f"ramify {ramify.__version__}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 (it failed) or 2 (it was asked wrongly)."""
    options = make_parser().parse_args(argv)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output went away: `ramify ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except RamifyError as error:
        if os.environ.get("RAMIFY_DEBUG") == "1":
            raise
        wrong = isinstance(error, (ConfigError, InvalidRequest, NotFound))
        return fail(options.verb, str(error), USAGE_ERROR if wrong else RUNTIME_FAILURE)


def fail(verb: str, message: str, code: int) -> int:
    """Print `message` as one paragraph on stderr and return `code`."""
    print(f"ramify {verb}: {message}", file=sys.stderr)
    return code
