"""How long the items of a work list are: what ranges of positions cost, cut at some length."""

import numpy as np

_SPLITS = tuple(128 << i for i in range(10))
_SETUP = 128  # positions that take as long as beginning an item,
_PART = 8  # and as writing and adding up one row of partial results


def choose_split(start: np.ndarray, end: np.ndarray, num_rows: int, num_slots: int) -> int:
    """The split length by which ranges [start, end) of `num_rows` rows are done soonest,
    `num_slots` at a time.

    Every item costs something beside its positions, and so do its partial results: fewer splits
    mean less of both; fewer items than programs leave some without work.
    """
    longest = int((end - start).max(initial=0))
    fixed = _SETUP + _PART * num_rows
    costs = {}
    for length in _SPLITS:
        parts = -(-end // length) - start // length
        count = int(parts.sum())
        rounds = -(-count // num_slots)
        mean = fixed + (end - start).sum() / max(1, count)
        most_parts = int(parts.max(initial=0))
        costs[length] = max(fixed + min(length, longest), rounds * mean) + _PART * most_parts
        if length >= end.max(initial=0):
            break
    return min(costs, key=lambda length: (costs[length], -length))
