"""`python -m ramify`, and the entry point of the `ramify` command."""

import sys

from ramify.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
