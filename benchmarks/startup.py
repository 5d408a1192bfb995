"""How long until something happens: imports, help, a model that is ready, a first answer.

    ramify bench startup [--runs 5]

Each line is the median of `runs` fresh processes, with fastest and slowest. Asserts nothing.
"""

import argparse
import statistics
import subprocess
import sys
import time

CASES = {
    "import ramify": "import ramify",
    "ramify --help": "from ramify.cli.main import make_parser; make_parser().format_help()",
    "model ready": "import ramify; ramify.Engine()",
    "first answer": "import ramify; ramify.Engine().generate('The capital of France is')",
}


def seconds(code: str) -> float:
    """From the first line of `code` to its end, without the start of Python itself."""
    timed = (
        f"import time; t = time.perf_counter(); {code}\nprint(time.perf_counter() - t, flush=True)"
        "\nimport os; os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print(f"startup on {time.strftime('%Y-%m-%d')}, {options.runs} fresh processes each:")
    for name, code in CASES.items():
        runs = [seconds(code) for _ in range(options.runs)]
        low, high = min(runs), max(runs)
        print(f"  {name:<14} {statistics.median(runs):7.3f} s   ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
