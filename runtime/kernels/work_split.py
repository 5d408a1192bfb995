"""How long the items of a work list are, and which programs work on which: what ranges of positions
cost, cut at some length and dealt out to so many programs.

The costs are fitted to what small items of 23 to 256 requests took on an H200 (decision 0007).
"""

from typing import NamedTuple

import numpy as np

_LENGTHS = tuple(int(128 * 2 ** (i / 2)) for i in range(20))
_ALIGN = 64  # items begin so many positions apart: whole blocks of every tile
_SETUP = 64  # positions that take as long as beginning an item,
_PART = 12  # as writing and adding up one row of partial results,
_PARTS = 100  # and as waiting at the end until the last of them is added up
_MANY = 16  # items for each program, above which none waits for another: no more are made
_SLOWED = 0.4  # of a program's excess over the mean that is felt where reads are the bound: others
# that are done leave it their share of the bandwidth


def ramp(counts: np.ndarray) -> np.ndarray:
    """0, 1, ... of each count, one after the other."""
    numbers: np.ndarray = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return numbers


class Cut(NamedTuple):
    """Ranges cut to items: arrays of one number each."""

    range: np.ndarray  # int64: which one it is of
    start: np.ndarray  # int64
    end: np.ndarray  # int64
    cost: np.ndarray  # float64, in positions


def cut_evenly(
    start: np.ndarray, end: np.ndarray, seen_end: np.ndarray, num_rows: np.ndarray, length: int
) -> Cut:
    """Cut ranges [start, end) of so many rows, which now see positions up to `seen_end`, to equal
    items of about `length`."""
    seen = np.maximum(1, np.minimum(end, seen_end) - start)
    size = -(-seen // (np.maximum(1, (seen + length // 2) // length) * _ALIGN)) * _ALIGN
    count = -(-seen // size)
    of = np.repeat(np.arange(len(start)), count)
    number = ramp(count)
    item_start = start[of] + number * size[of]
    item_end = np.where(number == count[of] - 1, end[of], item_start + size[of])
    return _cut(of, item_start, item_end, seen_end, num_rows)


def cut_at_multiples(
    start: np.ndarray, end: np.ndarray, seen_end: np.ndarray, num_rows: np.ndarray, length: int
) -> Cut:
    """The same at multiples of `length`."""
    first = start // length
    count = -(-end // length) - first
    of = np.repeat(np.arange(len(start)), count)
    split = first[of] + ramp(count)
    item_start = np.maximum(start[of], split * length)
    item_end = np.minimum(end[of], (split + 1) * length)
    return _cut(of, item_start, item_end, seen_end, num_rows)


def _cut(
    of: np.ndarray, start: np.ndarray, end: np.ndarray, seen_end: np.ndarray, num_rows: np.ndarray
) -> Cut:
    live = np.maximum(0, np.minimum(end, seen_end[of]) - start)
    num_parts = np.bincount(of, minlength=len(num_rows))
    cost = live + _SETUP + _PART * np.where(num_parts > 1, num_rows, 0)[of]
    return Cut(of, start, end, cost)


def choose_cut(
    start: np.ndarray,
    end: np.ndarray,
    seen_end: np.ndarray,
    num_rows: np.ndarray,
    num_slots: int,
    *,
    bound_by_reads: bool,
) -> Cut:
    """The cut by which ranges are done soonest, `num_slots` items at a time.

    Every item costs something beside its positions, and so do its partial results: fewer splits
    mean less of both; fewer items than programs, or unequal ones, leave some without work.
    """
    ranges = start, end, seen_end, num_rows
    longest = int((end - start).max(initial=1))
    chosen = cut_evenly(*ranges, 2 * longest)
    least = _took(chosen, num_slots, bound_by_reads)
    for length in reversed([length for length in _LENGTHS if length < 1.5 * longest]):
        tried = cut_evenly(*ranges, length)
        if tried.cost.sum() / num_slots + _PARTS >= least or len(tried.range) > _MANY * num_slots:
            break  # shorter ones cost more still
        took = _PARTS + _took(tried, num_slots, bound_by_reads)
        if took < least:
            chosen, least = tried, took
    return chosen


def _took(items: Cut, num_slots: int, bound_by_reads: bool) -> float:
    mean = float(items.cost.sum()) / num_slots
    most = float(_deal(np.sort(items.cost)[::-1], num_slots)[1].max())
    return mean + (most - mean) * (_SLOWED if bound_by_reads else 1.0)


def deal(cost: np.ndarray, num_slots: int) -> np.ndarray:
    """An order of items for programs of which each takes the next of every `num_slots`, so that all
    get the same."""
    order = np.argsort(-cost, kind="stable")
    dealt: np.ndarray = order[_deal(cost[order], num_slots)[0]]
    return dealt


def _deal(cost: np.ndarray, num_slots: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of items with falling costs, and what each program gets: either all programs take
    from the dearest on, or those that have one item more than the rest take the cheapest."""
    rounds, more = divmod(len(cost), num_slots)
    order, load = _deal_in_rounds(cost, num_slots)
    if not rounds or not more:
        return order, load
    dear = rounds * (num_slots - more)
    dear_order, dear_load = _deal_in_rounds(cost[:dear], num_slots - more)
    cheap_order, cheap_load = _deal_in_rounds(cost[dear:], more)
    apart = np.concatenate((cheap_load, dear_load))
    if load.max() <= apart.max():
        return order, load
    cheap_rounds, dear_rounds = cheap_order.reshape(-1, more) + dear, dear_order.reshape(rounds, -1)
    full = np.concatenate((cheap_rounds[:-1], dear_rounds), 1)
    return np.concatenate((full.reshape(-1), cheap_rounds[-1])), apart


def _deal_in_rounds(cost: np.ndarray, num_slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Dearest first, each round's dearest to whoever has least."""
    load = np.zeros(num_slots)
    taker = np.empty(len(cost), np.int64)
    for at in range(0, len(cost), num_slots):
        of_round = cost[at : at + num_slots]
        least = np.argsort(load, kind="stable")[: len(of_round)]
        load[least] += of_round
        taker[at : at + num_slots] = least
    # Programs are numbered so that those which take part in the last round come first.
    last = taker[max(0, len(cost) - 1) // num_slots * num_slots :]
    takes_last = np.zeros(num_slots, bool)
    takes_last[last] = True
    rest = np.flatnonzero(~takes_last)
    number = np.empty(num_slots, np.int64)
    number[np.concatenate((last, rest))] = np.arange(num_slots)
    order = np.empty(len(cost), np.int64)
    order[np.arange(len(cost)) // num_slots * num_slots + number[taker]] = np.arange(len(cost))
    return order, load[np.concatenate((last, rest))]
