"""`ramify bench NAME`: run one of the scripts in the checkout's `benchmarks/`."""

import argparse
import subprocess
import sys
from pathlib import Path

from ramify.lang.errors import ConfigError

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def names(folder: Path = FOLDER) -> list[str]:
    """Benchmarks there are: the scripts of `folder`, without `.py`. Empty outside a checkout."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("_"))


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Define the verb's options."""
    parser = verbs.add_parser(
        "bench",
        help="measure: run one of the benchmarks of a checkout",
        description="Run benchmarks/NAME.py with this Python. Arguments after NAME are its own.",
    )
    parser.add_argument("name", metavar="NAME", help=f"one of: {', '.join(names()) or 'none here'}")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="passed to the benchmark")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the benchmark in a fresh process and return its exit code."""
    if not FOLDER.is_dir():
        raise ConfigError(
            f"bench {options.name}: benchmarks are part of the repository, not of the installed "
            "package; run this in a checkout installed with: pip install -e '.[demo]'"
        )
    if options.name not in names():
        raise ConfigError(f"bench {options.name}: must be one of {', '.join(names())}")
    script = FOLDER / f"{options.name}.py"
    return subprocess.run([sys.executable, str(script), *options.args], check=False).returncode
