"""Counter-based random numbers: a sample depends on (seed, sequence, position) and nothing else.

Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Because
nothing is carried from draw to draw, a retracted or re-batched request draws the same again.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

_MASK32 = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_FEW = 32  # fewer draws are quicker one by one


def philox4x32(
    counter: tuple[Any, Any, Any, Any], key: tuple[Any, Any]
) -> tuple[Any, Any, Any, Any]:
    """Four uniform 32-bit words for this counter and key: integers, or uint64 arrays of them."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        product0 = _MULTIPLIERS[0] * c0
        product1 = _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (product1 >> 32) ^ c1 ^ k0,
            product1 & _MASK32,
            (product0 >> 32) ^ c3 ^ k1,
            product0 & _MASK32,
        )
        k0 = (k0 + _WEYL[0]) & _MASK32
        k1 = (k1 + _WEYL[1]) & _MASK32
    return c0, c1, c2, c3


def uniforms(
    seeds: Sequence[int], sequences: Sequence[int], positions: Sequence[int]
) -> np.ndarray:
    """[R] float64 numbers in [0, 1) of 53 bits: row r is for output `positions[r]` of a request's
    `sequences[r]`-th answer under `seeds[r]`."""
    if len(seeds) < _FEW:
        rows = zip(seeds, sequences, positions, strict=True)
        return np.array([_uniform(*row) for row in rows], np.float64)
    arrays = ([value & _MASK64 for value in column] for column in (seeds, sequences, positions))
    return np.asarray(_uniform(*(np.array(array, np.uint64) for array in arrays)), np.float64)


def _uniform(seed: Any, sequence: Any, position: Any) -> Any:
    key = (seed & _MASK32, (seed >> 32) & _MASK32)
    counter = (position & _MASK32, position >> 32, sequence & _MASK32, sequence * 0)
    high, low, _, _ = philox4x32(counter, key)
    return ((high << 21) | (low >> 11)) / (1 << 53)
