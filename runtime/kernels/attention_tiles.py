"""Tile shapes of the attention kernel, by what a step attends to."""

from typing import Literal, NamedTuple

Work = Literal["decode", "shared", "prefill"]  # single rows, prefixes of several, chunks


class Tiles(NamedTuple):
    """Tile shapes of one launch. `rows` is 0 when no item needs the large tile."""

    rows: int  # rows x heads of a large tile: 64 or 128
    block: int  # positions of a step of a large tile
    small_block: int  # and of a small one
    num_warps: int
    num_stages: int
    ctas_per_sm: int


def choose_tiles(head_size: int, work: Work, num_rows: int) -> Tiles:
    """Shapes that keep loads in flight and fit the registers, by the largest item of a list and
    the rows of the step.

    The slots of a step are loaded one step ahead of its K and V, which costs pipeline stages: with
    3 stages K and V of one step are in flight, with 5 of two. Measured on an H200
    (benchmarks/gpu/results).
    """
    block = 64 if head_size <= 128 else 32
    if work == "prefill":
        return Tiles(128 if head_size <= 128 else 64, block, block, 8, 5, 1)
    if head_size > 128:
        return Tiles(64 if work == "shared" else 0, block, block, 4, 3, 2)
    if work == "shared":
        return Tiles(64, 64, 32, 4, 5, 2)
    return Tiles(0, 64, 64, 4, 5, 2) if num_rows <= 8 else Tiles(0, 32, 32, 2, 5, 4)
