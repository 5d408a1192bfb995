"""Tile shapes of the attention kernel, by what a step attends to."""

from typing import NamedTuple

from ramify.runtime.kernels.work_list import SMALL_ROWS


class Tiles(NamedTuple):
    """Tile shape of one launch."""

    rows: int  # rows x heads: SMALL_ROWS, 64 or 128
    block: int  # positions of a step
    num_warps: int
    num_stages: int
    ctas_per_sm: int


class StepTiles(NamedTuple):
    """Tile shapes of a step: its small items and its large ones run side by side."""

    small: Tiles | None  # None: the step has no such items
    large: Tiles | None


def choose_tiles(head_size: int, num_rows: int, *, has_large: bool) -> StepTiles:
    """Shapes that keep loads in flight and fit the registers, by the rows of the step.

    The slots of a step are loaded one step ahead of its K and V, which costs pipeline stages: with
    3 stages K and V of one step are in flight, with 5 of two. Measured on an H200
    (benchmarks/gpu/results).
    """
    block = 64 if head_size <= 128 else 32
    many_small = Tiles(SMALL_ROWS, 32, 2, 5 if head_size <= 128 else 3, 4)
    if has_large:
        return StepTiles(many_small, Tiles(64, block, 4, 3, 2))
    if head_size > 128:
        return StepTiles(Tiles(SMALL_ROWS, block, 4, 3, 2), None)
    return StepTiles(Tiles(SMALL_ROWS, 64, 4, 5, 2) if num_rows <= 8 else many_small, None)
