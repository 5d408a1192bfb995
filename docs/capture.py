"""Write what the examples print, on the bundled model, to docs/examples/NAME.txt.

    python docs/capture.py

In float32: bfloat16, the default, rounds so coarsely that a near tie between two words can fall
either way. `tests/e2e/test_examples.py` compares these files with what the examples print then.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run every example and keep its output."""
    environment = {name: value for name, value in os.environ.items() if "RAMIFY_" not in name}
    environment["RAMIFY_DTYPE"] = "float32"
    for script in sorted((ROOT / "examples").glob("*.py")):
        command = [sys.executable, str(script)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        (ROOT / "docs" / "examples" / f"{script.stem}.txt").write_bytes(done.stdout)


if __name__ == "__main__":
    main()
