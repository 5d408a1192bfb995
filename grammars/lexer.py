"""Interned states of terminals, and what the vocabulary says of each in any grammar.

A state q is a (terminal, key). Two facts of q belong to no grammar and are kept here, so that all
grammars over one lexer share them: the tokens that stay inside the terminal, and, for tokens that
run past its end, the remainders, merged where they are equal.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ramify.grammars import kernels
from ramify.grammars.errors import GrammarError
from ramify.grammars.kernels import DenseStates
from ramify.grammars.terminals import Elsewhere, Key, Shadow, Terminal
from ramify.grammars.vocabulary import Vocabulary

WIDE = 40  # a state with more live bytes than this is walked by the kernel
MAX_STATES = 400_000
NOTHING = 0  # the state of no terminal: it reads nothing

FEW_NODES = 400  # more trie nodes than this are looked at all at once, by numpy


class Remainder:
    """What is left of the tokens that pass some trie nodes; made as it is read."""

    __slots__ = ("_next", "_nodes", "_vocabulary")

    def __init__(self, vocabulary: Vocabulary, nodes: Sequence[int]) -> None:
        self._vocabulary = vocabulary
        self._nodes = nodes
        self._next: dict[int, tuple[Remainder, list[int]] | None] = {}

    def follow(self, byte: int) -> "tuple[Remainder, list[int]] | None":
        """What is left after one more byte, and the tokens that end with it."""
        if byte not in self._next:
            children = self._children(byte)
            vocabulary = self._vocabulary
            token_ids = [token_id for child in children for token_id in vocabulary.tokens_at(child)]
            self._next[byte] = (Remainder(vocabulary, children), token_ids) if children else None
        return self._next[byte]

    def bytes(self) -> Sequence[int]:
        """Bytes that may follow."""
        if len(self._nodes) > FEW_NODES:
            return range(256)
        return list({byte for node in self._nodes for byte in self._vocabulary.children(node)})

    def _children(self, byte: int) -> list[int]:
        vocabulary = self._vocabulary
        if len(self._nodes) <= FEW_NODES:
            below = (vocabulary.children(node).get(byte) for node in self._nodes)
            return [child for child in below if child is not None]
        inside = np.zeros(vocabulary.trie.num_nodes, bool)
        inside[list(self._nodes)] = True
        candidates = vocabulary.nodes_by_byte(byte)
        return candidates[inside[vocabulary.parents[candidates]]].tolist()  # type: ignore[no-any-return]


class Inside(NamedTuple):
    """Tokens from a state on."""

    row: np.ndarray  # [num_words] uint32: tokens that stay inside the terminal
    exits: tuple[tuple[int, Remainder], ...]  # (label, remainders) where the terminal may end
    to_try: tuple[int, ...]  # tokens that only stepping can tell of
    ends: np.ndarray  # [num] int32: trie nodes where the terminal may end
    end_labels: np.ndarray  # [num] int32


class LengthTable(NamedTuple):
    """How many characters tokens add to a text, from one of its states."""

    walk: kernels.LengthWalk
    labels: np.ndarray  # [num_ends] int32
    made: dict[tuple[int, int], Inside]  # by (least, most), both no larger than matters


class Lexer:
    """Lazily made byte states of terminals over one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._ids: dict[tuple[Terminal, Key], int] = {}
        self._keys: list[tuple[Terminal, Key] | None] = [None]
        self._moves: list[Mapping[int, Key | Elsewhere] | None] = [{}]
        self._next: list[dict[int, int]] = [{}]  # those of the moves that were ever made
        self._has_table: list[bool | None] = [False]
        self._is_final: list[bool | None] = [True]
        self.labels: list[int | None] = [None]  # of each state: where it ends its terminal
        self._inside: dict[int, Inside] = {}
        self._lengths: dict[int, LengthTable] = {}
        self._remainders: dict[tuple[int, ...], Remainder] = {}
        self._dense_id: dict[int, int] = {}
        self._dense_state: list[int] = [NOTHING]
        self._dense = DenseStates(
            np.full((64, 256), kernels.UNKNOWN, np.int32), np.zeros(64, np.uint8)
        )
        self._dense.next[kernels.DEAD] = kernels.DEAD

    def __len__(self) -> int:
        return len(self._keys)

    def start(self, terminal: Terminal) -> int:
        """The state before a terminal's first byte."""
        return self._intern(terminal, terminal.start)

    def _intern(self, terminal: Terminal, key: Key) -> int:
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
            self._has_table.append(True if terminal.is_common else None)
            self._is_final.append(None)
            self.labels.append(terminal.label(key))
        return state

    def moves(self, state: int) -> Mapping[int, Key | Elsewhere]:
        """Every byte that leads on."""
        moves = self._moves[state]
        if moves is None:
            pair = self._keys[state]
            assert pair is not None
            moves = self._moves[state] = pair[0].transitions(pair[1])
        return moves

    def next(self, state: int, byte: int) -> int:
        """The state after a byte; NOTHING where it does not lead on."""
        target = self._next[state].get(byte)
        if target is None:
            pair = self._keys[state]
            if pair is None:
                return NOTHING
            terminal, key = pair
            moves = self._moves[state]
            to = terminal.move(key, byte) if moves is None else moves.get(byte)
            target = NOTHING if to is None else self._intern(terminal, to)
            self._next[state][byte] = target
        return target

    def has_table(self, state: int) -> bool:
        """Are its tokens taken from `inside`? Else they are few: walk it."""
        found = self._has_table[state]
        if found is None:
            pair = self._keys[state]
            assert pair is not None
            wide = pair[0].shadow(pair[1]) is not None or len(self.moves(state)) > WIDE
            found = self._has_table[state] = wide
        return found

    def is_shadowed(self, state: int) -> bool:
        """Does it read almost what another state does?"""
        pair = self._keys[state]
        return pair is not None and pair[0].shadow(pair[1]) is not None

    def is_final(self, state: int) -> bool:
        """Does nothing lead on?"""
        found = self._is_final[state]
        if found is None:
            found = self._is_final[state] = not self.moves(state)
        return found

    def inside(self, state: int) -> Inside:
        """Tokens that stay inside, and the remainders of those that do not."""
        found = self._inside.get(state)
        if found is None:
            pair = self._keys[state]
            assert pair is not None
            shadow = pair[0].shadow(pair[1])
            found = self._walk(state) if shadow is None else self._from_shadow(shadow)
            self._inside[state] = found
        return found

    def _walk(self, state: int) -> Inside:
        start = self._dense_of(state)
        vocabulary = self.vocabulary
        while True:
            walk = kernels.inside_walk(vocabulary.trie, self._dense, start, vocabulary.num_words)
            if not len(walk.unknown):
                break
            for dense in walk.unknown.tolist():
                self._fill_dense(dense)
        labels = [self.labels[self._dense_state[dense]] for dense in walk.exit_states.tolist()]
        return self._made(walk.row, walk.exit_nodes, np.array(labels, np.int32))

    def _made(self, row: np.ndarray, ends: np.ndarray, labels: np.ndarray) -> Inside:
        skip = self.vocabulary.trie.skip
        inner = skip[ends] > ends + 1
        exits = []
        for label in np.unique(labels[inner]).tolist():
            nodes = ends[inner & (labels == label)]
            exits.append((label, self._remainder(tuple(nodes.tolist()))))
        return Inside(row, tuple(exits), (), ends, labels)

    def _from_shadow(self, shadow: Shadow) -> Inside:
        """The tokens of a state that reads less than another."""
        base = self.inside(self._intern(shadow.terminal, shadow.key))
        trie = self.vocabulary.trie
        if shadow.lengths is not None:
            return self._of_length(shadow)
        if shadow.texts is None:
            banned = base.ends.tolist()
        else:
            banned = self._ends_below(shadow.texts, shadow.node)
            if not banned:
                return base
        row = base.row.copy()
        out = np.zeros(len(base.ends), bool)
        token_ids: list[int] = []
        for node in banned:
            first, last = trie.first[node], trie.first[trie.skip[node]]
            token_ids += trie.token_ids[first:last].tolist()
            out |= (base.ends >= node) & (base.ends < trie.skip[node])
        for token_id in token_ids:
            row[token_id >> 5] &= ~np.uint32(1 << (token_id & 31))
        made = self._made(row, base.ends[~out], base.end_labels[~out])
        return made._replace(to_try=tuple(token_ids)) if shadow.texts is None else made

    def _of_length(self, shadow: Shadow) -> Inside:
        """Of any text: what ends after `least` to `most` characters."""
        assert shadow.lengths is not None
        state = self._intern(shadow.terminal, shadow.key)
        table = self._lengths.get(state)
        if table is None:
            start = self.start(shadow.terminal)
            body = self.next(start, 0x22)
            self.inside(state)  # fills the dense rows
            dense = self._dense_of(state), self._dense_of(body)
            walk = kernels.length_walk(
                self.vocabulary.trie, self._dense, *dense, len(self.vocabulary)
            )
            table = self._lengths[state] = LengthTable(walk, self._inside[state].end_labels, {})
        least, most = shadow.lengths
        longest = table.walk.longest
        key = (min(least, longest + 1), longest if most is None else min(most, longest))
        found = table.made.get(key)
        if found is None:
            found = table.made[key] = self._limited(table, *key)
        return found

    def _limited(self, table: LengthTable, least: int, most: int) -> Inside:
        walk = table.walk
        bits = np.zeros(self.vocabulary.num_words * 32, bool)
        bits[: len(walk.chars)] = walk.chars <= most
        row = np.packbits(bits, bitorder="little").view(np.uint32)
        kept = (walk.end_chars >= least) & (walk.end_chars <= most)
        ends = walk.ends[kept]
        trie = self.vocabulary.trie
        for node in ends.tolist():
            for token_id in trie.token_ids[trie.first[node] : trie.first[node + 1]].tolist():
                row[token_id >> 5] |= np.uint32(1 << (token_id & 31))
        return self._made(row, ends, table.labels[kept])

    def _ends_below(self, texts: Sequence[Mapping[int, int]], start: int) -> list[int]:
        """Vocabulary nodes that spell a text of the trie, from a node of it to a leaf."""
        children = self.vocabulary.children
        found: list[int] = []
        todo = [(start, 0)]
        while todo:
            at, node = todo.pop()
            below = children(node)
            for byte, target in texts[at].items():
                child = below.get(byte)
                if child is None:
                    continue
                if texts[target]:
                    todo.append((target, child))
                else:
                    found.append(child)
        return found

    def _dense_of(self, state: int) -> int:
        dense = self._dense_id.get(state)
        if dense is None:
            dense = self._dense_id[state] = len(self._dense_state)
            self._dense_state.append(state)
            if dense == len(self._dense.accepting):
                unknown = np.full_like(self._dense.next, kernels.UNKNOWN)
                self._dense = DenseStates(
                    np.concatenate([self._dense.next, unknown]),
                    np.concatenate([self._dense.accepting, np.zeros(dense, np.uint8)]),
                )
            self._dense.accepting[dense] = self.labels[state] is not None
        return dense

    def _fill_dense(self, dense: int) -> None:
        state = self._dense_state[dense]
        filled = np.zeros(256, np.int32)
        groups: dict[int, list[int]] = {}  # bytes of one key, by its id: most share few objects
        moves = self.moves(state)
        for byte, key in moves.items():
            groups.setdefault(id(key), []).append(byte)
        for group in groups.values():
            filled[group] = self._dense_of(self.next(state, group[0]))
        self._dense.next[dense] = filled

    def _remainder(self, nodes: tuple[int, ...]) -> Remainder:
        found = self._remainders.get(nodes)
        if found is None:
            found = self._remainders[nodes] = Remainder(self.vocabulary, nodes)
        return found
