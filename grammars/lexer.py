"""Interned states of terminals, and what the vocabulary says of each in any grammar.

A state q is a (terminal, key). What tokens do from q belongs to no grammar and is kept here, so
that all grammars over one lexer share it.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ramify.grammars import kernels
from ramify.grammars.errors import GrammarError
from ramify.grammars.inside import NOTHING, Inside, InsideTables
from ramify.grammars.kernels import DenseStates
from ramify.grammars.remainder import Remainder
from ramify.grammars.terminals import Elsewhere, Key, Shadow, Terminal
from ramify.grammars.together import TogetherTables
from ramify.grammars.vocabulary import Vocabulary

MAX_STATES = 400_000
DENSE_ROWS = 1 << 16  # of the dense table at first: pages that are not written cost nothing
_SERIALS = itertools.count()
STATE_BYTES = 1500  # of a state and what is read from it, about


class Lexer:
    """Lazily made byte states of terminals over one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.serial = next(_SERIALS)  # no two lexers have the same
        self.root = Remainder(vocabulary, (0,))  # of no byte read: all tokens
        self._ids: dict[tuple[Terminal, Key], int] = {}
        self._starts: dict[Terminal, int] = {}
        self._keys: list[tuple[Terminal, Key] | None] = [None]
        self._moves: list[Mapping[int, Key | Elsewhere] | None] = [{}]
        self._next: list[dict[int, int]] = [{}]  # those of the moves that were ever made
        self._is_final: list[bool | None] = [True]
        self._special: list[Mapping[int, int] | None] = [{}]
        self.labels: list[int | None] = [None]  # of each state: where it ends its terminal
        self._tables = InsideTables(self)
        self._together = TogetherTables(self._tables)
        self.inside = self._tables.inside  # what is left of tokens, read from a state on
        self.read = self._together.read  # and from several at once
        self._dense_id: dict[int, int] = {}
        self._dense_state: list[int] = [NOTHING]
        self.dense = DenseStates(
            np.empty((DENSE_ROWS, 256), np.int32), np.zeros(DENSE_ROWS, np.uint8)
        )
        self.dense.next[kernels.DEAD] = kernels.DEAD
        self.tables: dict[str, Any] = {}  # made from its states by others, and as long-lived

    def __len__(self) -> int:
        return len(self._keys)

    def start(self, terminal: Terminal) -> int:
        """The state before a terminal's first byte."""
        found = self._starts.get(terminal)
        if found is None:
            found = self._starts[terminal] = self.state(terminal, terminal.start)
        return found

    def state(self, terminal: Terminal, key: Key) -> int:
        """The number of a terminal's key."""
        if isinstance(key, Elsewhere):
            terminal, key = key
        pair = (terminal, key)
        state = self._ids.get(pair)
        if state is None:
            state = len(self._keys)
            if state >= MAX_STATES:
                raise GrammarError("grammar_too_complex", f"more than {MAX_STATES} lexer states")
            self._ids[pair] = state
            self._keys.append(pair)
            self._moves.append(None)
            self._next.append({})
            self._is_final.append(None)
            self._special.append(None)
            self.labels.append(terminal.label(key))
        return state

    def key(self, state: int) -> tuple[Terminal, Key]:
        """The terminal and key of a state."""
        pair = self._keys[state]
        assert pair is not None, "NOTHING has no terminal"
        return pair

    def moves(self, state: int) -> Mapping[int, Key | Elsewhere]:
        """Every byte that leads on."""
        moves = self._moves[state]
        if moves is None:
            terminal, key = self.key(state)
            moves = self._moves[state] = terminal.transitions(key)
        return moves

    def cheap_moves(self, state: int) -> Mapping[int, Key | Elsewhere] | None:
        """As `moves`; None where it is cheaper to ask `next` for some bytes."""
        moves = self._moves[state]
        if moves is None and not self.key(state)[0].is_wide:
            return self.moves(state)
        return moves

    def next(self, state: int, byte: int) -> int:
        """The state after a byte; NOTHING where it does not lead on."""
        target = self._next[state].get(byte)
        if target is None:
            pair = self._keys[state]
            if pair is None:
                return NOTHING
            terminal, key = pair
            moves = self.cheap_moves(state)
            to = terminal.move(key, byte) if moves is None else moves.get(byte)
            target = NOTHING if to is None else self.state(terminal, to)
            self._next[state][byte] = target
        return target

    def special(self, state: int) -> Mapping[int, int]:
        """Special token -> the state after it."""
        found = self._special[state]
        if found is None:
            terminal, key = self.key(state)
            found = self._special[state] = {
                token_id: self.state(terminal, to) for token_id, to in terminal.special(key).items()
            }
        return found

    def keeps_texts_apart(self, state: int) -> bool:
        """Has its terminal a label for each text?"""
        pair = self._keys[state]
        return pair is not None and pair[0].keeps_texts_apart

    def shadow(self, state: int) -> Shadow | None:
        """A state that reads almost the same."""
        pair = self._keys[state]
        return pair[0].shadow(pair[1]) if pair is not None else None

    def is_final(self, state: int) -> bool:
        """Does nothing lead on?"""
        found = self._is_final[state]
        if found is None:
            found = self._is_final[state] = not (self.moves(state) or self.special(state))
        return found

    def made(
        self,
        row: np.ndarray | None,
        token_ids: Sequence[int],
        ends: Sequence[int],
        labels: Sequence[int | None],
    ) -> Inside:
        """Of a row, or a list, and the trie nodes where the terminal may end."""
        return self._tables.made(row, token_ids, ends, labels)

    def begin_mask(self, steps: int) -> None:
        """Allow the walks of a mask so many steps."""
        self._tables.steps_left = steps

    def spend(self, steps: int) -> None:
        """Count steps of the mask being made; `grammar_too_complex` once they are too many."""
        self._tables.spend(steps)

    @property
    def num_bytes(self) -> int:
        """What its tables hold now, about."""
        states = STATE_BYTES * len(self) + 1024 * len(self._dense_state)
        return states + self._tables.num_bytes + self._together.num_bytes

    # -- for wide walks

    def dense_of(self, state: int) -> int:
        """The number of a state in the dense table."""
        dense = self._dense_id.get(state)
        if dense is None:
            dense = self._dense_id[state] = len(self._dense_state)
            self._dense_state.append(state)
            if dense == len(self.dense.accepting):
                grown = np.empty((8 * dense, 256), np.int32)
                grown[:dense] = self.dense.next
                accepting = np.zeros(8 * dense, np.uint8)
                accepting[:dense] = self.dense.accepting
                self.dense = DenseStates(grown, accepting)
            self.dense.next[dense] = kernels.UNKNOWN
            self.dense.accepting[dense] = self.labels[state] is not None
        return dense

    def dense_label(self, dense: int) -> int:
        """The label of a state that accepts, by its number in the dense table."""
        label = self.labels[self._dense_state[dense]]
        assert label is not None
        return label

    def fill_dense(self, dense: int) -> None:
        """Make known where all bytes lead from a state."""
        terminal, key = self.key(self._dense_state[dense])
        moves = terminal.transitions(key)
        by_id: dict[int, list[int]] = {}  # most share few objects
        for byte, to in moves.items():
            by_id.setdefault(id(to), []).append(byte)
        row = np.full(256, kernels.DEAD, np.int32)
        for group in by_id.values():
            row[group] = self.dense_of(self.state(terminal, moves[group[0]]))
        self.dense.next[dense] = row
