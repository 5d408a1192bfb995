"""Tokens, or what is left of them, read from several lexer states at once."""

from typing import NamedTuple

import numpy as np

from ramify.grammars.inside import Inside, InsideTables
from ramify.grammars.remainder import Remainder

LISTED = 24  # more tokens than this are kept as an array
ENTRY_BYTES = 600  # of one, about


class Together(NamedTuple):
    """What several states read: all of it, in any order."""

    rows: tuple[np.ndarray, ...]  # [num_words] uint32: tokens that stay inside a terminal
    less: tuple[Inside, ...]  # those with a row and tokens that are not of it
    token_ids: tuple[int, ...]  # further tokens, where they are few
    many: np.ndarray | None  # [num] int32: or, where they are not
    exits: tuple[tuple[int, int, Remainder], ...]  # (index of the state, label, what is left)
    to_try: tuple[tuple[int, Inside], ...]  # (index of the state, what is not exact)


class TogetherTables:
    """Those of one lexer, kept: grammars meet the same states after many a frame."""

    def __init__(self, tables: InsideTables) -> None:
        self._tables = tables
        self._made: dict[tuple[tuple[int, ...], int], Together] = {}  # by states, id of remainder

    @property
    def num_bytes(self) -> int:
        """What is kept, about."""
        return ENTRY_BYTES * len(self._made)

    def read(self, states: tuple[int, ...], remainder: Remainder) -> Together:
        """What is left of tokens, read from some states on."""
        key = (states, id(remainder))
        found = self._made.get(key)
        if found is None:
            found = self._made[key] = self._read(states, remainder)
        return found

    def _read(self, states: tuple[int, ...], remainder: Remainder) -> Together:
        inside_of, moves_of = self._tables.inside, self._tables.lexer.cheap_moves
        following = remainder.following
        rows: list[np.ndarray] = []
        less: list[Inside] = []
        token_ids: list[int] = []
        exits: list[tuple[int, int, Remainder]] = []
        to_try: list[tuple[int, Inside]] = []
        for index, state in enumerate(states):
            moves = moves_of(state)
            if moves is not None and moves.keys().isdisjoint(following):
                continue  # as most do: a remainder begins with few bytes
            inside = inside_of(state, remainder)
            if inside.without is not None:
                less.append(inside)
            elif inside.row is not None:
                rows.append(inside.row)
            token_ids += inside.token_ids
            if not inside.is_exact:
                to_try.append((index, inside))
            else:
                exits += [(index, label, rest) for label, rest in inside.exits]
        many = None
        if len(token_ids) > LISTED:
            many = np.array(token_ids, np.int32)
            token_ids = []
        return Together(
            tuple(rows), tuple(less), tuple(token_ids), many, tuple(exits), tuple(to_try)
        )
