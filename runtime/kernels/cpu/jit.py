"""How CPU kernels are compiled: without the GIL, kept on disk, anew when any source changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])

# NaN and infinity stay exact: a request with NaN logits is found by looking at them.
FASTMATH = frozenset({"contract", "reassoc", "nsz", "arcp"})


def jit(function: _Function) -> _Function:
    """A helper of kernels, called from compiled code only."""
    return numba.njit(function, fastmath=set(FASTMATH), error_model="numpy")  # type: ignore[no-any-return]


def kernel(function: _Function) -> _Function:
    """A function called from Python: releases the GIL, compiled once per machine and dtype."""
    compiled = numba.njit(
        function, fastmath=set(FASTMATH), error_model="numpy", nogil=True, cache=True
    )
    # numba stamps a cached function with the file it is in; ours call functions of other files.
    compiled._cache._cache_file._source_stamp = _sources_stamp()
    return compiled  # type: ignore[no-any-return]


def _sources_stamp() -> tuple[tuple[str, float, int], ...]:
    """Name, time and size of every source file that kernels are made of."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return tuple((f.name, f.stat().st_mtime, f.stat().st_size) for f in files)
