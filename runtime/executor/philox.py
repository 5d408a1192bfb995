"""Counter-based random numbers: a sample depends on (seed, sequence, position) and nothing else.

Philox4x32-10 of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Because
nothing is carried from draw to draw, a retracted or re-batched request draws the same again.
"""

_MASK32 = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox4x32(
    counter: tuple[int, int, int, int], key: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Four uniform 32-bit words for this counter and key."""
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


def uniform(seed: int, sequence: int, position: int) -> float:
    """A number in [0, 1) of 53 bits for output `position` of a request's `sequence`-th answer."""
    key = (seed & _MASK32, (seed >> 32) & _MASK32)
    counter = (position & _MASK32, position >> 32, sequence & _MASK32, 0)
    high, low, _, _ = philox4x32(counter, key)
    return ((high << 21) | (low >> 11)) / (1 << 53)
