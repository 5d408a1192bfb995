"""Interned states of terminals, and what the vocabulary says of each in any grammar.

A state q is a (terminal, key). Two facts of q belong to no grammar and are kept here, so that all
grammars over one lexer share them: the tokens that stay inside the terminal, and, for tokens that
run past its end, the remainders, merged where they are equal.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ramify.grammars import kernels
from ramify.grammars.errors import GrammarError
from ramify.grammars.kernels import DenseStates
from ramify.grammars.terminals import Elsewhere, Key, Shadow, Terminal
from ramify.grammars.vocabulary import Vocabulary

WIDE = 40  # a state with more live bytes than this is walked by the kernel
PLAIN_STEPS = 300  # as is one from which a plain walk takes more steps than this
MAX_STATES = 400_000
NOTHING = 0  # the state of no terminal: it reads nothing

FEW_NODES = 400  # more trie nodes than this are looked at all at once, by numpy,
FEW_BYTES = 40  # if no more bytes than this are asked for


class Remainder:
    """What is left of the tokens that pass some trie nodes; made as it is read."""

    __slots__ = ("_all", "_next", "_nodes", "_vocabulary")

    def __init__(self, vocabulary: Vocabulary, nodes: Sequence[int]) -> None:
        self._vocabulary = vocabulary
        self._nodes = nodes
        self._next: dict[int, RemainderStep] = {}
        self._all = False  # does `_next` hold every byte that may follow?

    def steps(self, first: Sequence[int]) -> "Iterator[tuple[int, RemainderStep]]":
        """(byte, what is left after it) for bytes that may follow, at least those in `first`."""
        if len(self._nodes) <= FEW_NODES or len(first) > FEW_BYTES:
            if not self._all:
                self._make_all()
            following = self._next
            if len(following) <= len(first):
                yield from following.items()
                return
            for byte in first:
                if byte in following:
                    yield byte, following[byte]
            return
        for byte in first:
            step = self._next.get(byte)
            if step is None:
                step = self._next[byte] = self._make(self._children(byte))
            if step.token_ids or step.rest is not None:
                yield byte, step

    def _make(self, children: list[int]) -> "RemainderStep":
        vocabulary = self._vocabulary
        token_ids = [token_id for child in children for token_id in vocabulary.tokens_at(child)]
        inner = [child for child in children if vocabulary.is_inner(child)]
        return RemainderStep(token_ids, Remainder(vocabulary, inner) if inner else None)

    def _make_all(self) -> None:
        below: dict[int, list[int]] = {}
        for node in self._nodes:
            for byte, child in self._vocabulary.children(node).items():
                below.setdefault(byte, []).append(child)
        self._next = {byte: self._make(children) for byte, children in below.items()}
        self._all = True

    def _children(self, byte: int) -> list[int]:
        """The children by one byte of many nodes."""
        vocabulary = self._vocabulary
        inside = np.zeros(vocabulary.trie.num_nodes, bool)
        inside[list(self._nodes)] = True
        candidates = vocabulary.nodes_by_byte(byte)
        return candidates[inside[vocabulary.parents[candidates]]].tolist()  # type: ignore[no-any-return]


class RemainderStep(NamedTuple):
    """One byte further."""

    token_ids: list[int]  # tokens that end with it
    rest: Remainder | None  # what is left of the others


class Inside(NamedTuple):
    """Tokens from a state on."""

    row: np.ndarray | None  # [num_words] uint32: tokens that stay inside the terminal
    token_ids: tuple[int, ...]  # or, where they are few, a list of them
    exits: tuple[tuple[int, Remainder], ...]  # (label, remainders) where the terminal may end
    ends: tuple[int, ...]  # trie nodes where the terminal may end
    labels: tuple[int | None, ...]  # of those
    to_try: tuple[int, ...] = ()  # tokens that only stepping can tell of
    is_exact: bool = True  # else tokens past an end are not all allowed: step them too


class LengthTable(NamedTuple):
    """How many characters tokens add to a text, from one of its states."""

    walk: kernels.LengthWalk
    ends: list[int]  # walk.ends
    made: dict[tuple[int, int], Inside]  # by (least, most), both no larger than matters


class Lexer:
    """Lazily made byte states of terminals over one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._ids: dict[tuple[Terminal, Key], int] = {}
        self._keys: list[tuple[Terminal, Key] | None] = [None]
        self._moves: list[Mapping[int, Key | Elsewhere] | None] = [{}]
        self._next: list[dict[int, int]] = [{}]  # those of the moves that were ever made
        self._is_final: list[bool | None] = [True]
        self._special: list[Mapping[int, int] | None] = [{}]
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
        return self.state(terminal, terminal.start)

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
            target = NOTHING if to is None else self.state(terminal, to)
            self._next[state][byte] = target
        return target

    def special(self, state: int) -> Mapping[int, int]:
        """Special token -> the state after it."""
        found = self._special[state]
        if found is None:
            pair = self._keys[state]
            assert pair is not None
            found = self._special[state] = {
                token_id: self.state(pair[0], key)
                for token_id, key in pair[0].special(pair[1]).items()
            }
        return found

    def is_shadowed(self, state: int) -> bool:
        """Does it read almost what another state does?"""
        pair = self._keys[state]
        return pair is not None and pair[0].shadow(pair[1]) is not None

    def is_final(self, state: int) -> bool:
        """Does nothing lead on?"""
        found = self._is_final[state]
        if found is None:
            found = self._is_final[state] = not (self.moves(state) or self.special(state))
        return found

    def inside(self, state: int) -> Inside:
        """Tokens that stay inside, and the remainders of those that do not."""
        found = self._inside.get(state)
        if found is None:
            pair = self._keys[state]
            assert pair is not None
            longest = self.vocabulary.longest
            shadow = pair[0].shadow(pair[1])
            if shadow is not None and (shadow.reach or longest) < longest:
                shadow = None
            if shadow is not None:
                found = self._from_shadow(state, shadow)
            else:
                found = pair[0].inside(self, pair[1])
                found = found or self._walk_plain(state) or self._walk_wide(state)
            special = self.special(state)
            if special:
                found = found._replace(token_ids=(*found.token_ids, *special))
            self._inside[state] = found
        return found

    def _walk_plain(self, state: int) -> Inside | None:
        """Step by step; None where that takes long."""
        if len(self.moves(state)) > WIDE:
            return None
        vocabulary = self.vocabulary
        token_ids: list[int] = []
        ends: list[int] = []
        labels: list[int] = []
        steps = 0
        todo = [(0, state)]
        while todo:
            node, at = todo.pop()
            children = vocabulary.children(node)
            moves = self.moves(at)
            for byte in moves if len(moves) < len(children) else children:
                child = children.get(byte)
                target = NOTHING if child is None else self.next(at, byte)
                if target != NOTHING:
                    assert child is not None
                    token_ids += vocabulary.tokens_at(child)
                    label = self.labels[target]
                    if label is not None:
                        ends.append(child)
                        labels.append(label)
                    todo.append((child, target))
                steps += 1
            if steps > PLAIN_STEPS:
                return None
        return self.made(None, token_ids, ends, labels)

    def _walk_wide(self, state: int) -> Inside:
        start = self._dense_of(state)
        vocabulary = self.vocabulary
        while True:
            walk = kernels.inside_walk(vocabulary.trie, self._dense, start, vocabulary.num_words)
            if not len(walk.unknown):
                break
            for dense in walk.unknown.tolist():
                self._fill_dense(dense)
        labels = [self.labels[self._dense_state[dense]] for dense in walk.exit_states.tolist()]
        return self.made(walk.row, (), walk.exit_nodes.tolist(), labels)

    def made(
        self,
        row: np.ndarray | None,
        token_ids: Sequence[int],
        ends: Sequence[int],
        labels: Sequence[int | None],
    ) -> Inside:
        """Of a row, or a list, and the trie nodes where the terminal may end."""
        below: dict[int, list[int]] = {}
        for node, label in zip(ends, labels, strict=True):
            assert label is not None
            if self.vocabulary.is_inner(node):
                below.setdefault(label, []).append(node)
        exits = tuple((label, self._remainder(tuple(nodes))) for label, nodes in below.items())
        return Inside(row, tuple(token_ids), exits, tuple(ends), tuple(labels))

    def _from_shadow(self, state: int, shadow: Shadow) -> Inside:
        """The tokens of a state that reads less than another."""
        if shadow.lengths is not None:
            return self._of_length(shadow)
        base = self.inside(self.state(shadow.terminal, shadow.key))
        if shadow.texts is None:
            return self._captured(state, shadow, base)
        trie = self.vocabulary.trie
        banned = self._ends_below(shadow.texts, shadow.node)
        if not banned:
            return base
        spans = [(node, int(trie.skip[node])) for node in banned]
        out = {at for at in base.ends for first, end in spans if first <= at < end}
        kept = [at for at, node in enumerate(base.ends) if node not in out]
        token_ids = {token_id for node in banned for token_id in self._tokens_below(node)}
        return self.made(
            _without(base.row, token_ids),
            [token_id for token_id in base.token_ids if token_id not in token_ids],
            [base.ends[at] for at in kept],
            [base.labels[at] for at in kept],
        )

    def _captured(self, state: int, shadow: Shadow, base: Inside) -> Inside:
        """As the base; but tokens near a seen text, and those past an end, have to be tried."""
        pair = self._keys[state]
        assert pair is not None
        near = set[int]()
        for text in shadow.near:
            nodes = self._along(text)
            near.update(token for node in nodes for token in self.vocabulary.tokens_at(node))
            if len(nodes) == len(text):
                near.update(self._tokens_below(nodes[-1] if nodes else 0))
        return base._replace(
            row=_without(base.row, near),
            token_ids=tuple(token_id for token_id in base.token_ids if token_id not in near),
            exits=tuple((pair[0].unknown_label(label), rest) for label, rest in base.exits),
            to_try=tuple(near),
            is_exact=False,
        )

    def _tokens_below(self, node: int) -> list[int]:
        trie = self.vocabulary.trie
        return trie.token_ids[trie.first[node] : trie.first[trie.skip[node]]].tolist()  # type: ignore[no-any-return]

    def _of_length(self, shadow: Shadow) -> Inside:
        """Of any text: what ends after `least` to `most` characters."""
        assert shadow.lengths is not None
        state = self.state(shadow.terminal, shadow.key)
        table = self._lengths.get(state)
        if table is None:
            start = self.start(shadow.terminal)
            body = self.next(start, 0x22)
            self._walk_wide(state)  # fills the dense rows
            dense = self._dense_of(state), self._dense_of(body)
            walk = kernels.length_walk(
                self.vocabulary.trie, self._dense, *dense, len(self.vocabulary)
            )
            table = self._lengths[state] = LengthTable(walk, walk.ends.tolist(), {})
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
        kept = np.flatnonzero((walk.end_chars >= least) & (walk.end_chars <= most)).tolist()
        ends = [table.ends[at] for at in kept]
        token_ids = [token_id for node in ends for token_id in self.vocabulary.tokens_at(node)]
        return self.made(row, token_ids, ends, [0] * len(ends))

    def _along(self, text: bytes) -> list[int]:
        """Vocabulary nodes on the way of a text."""
        found: list[int] = []
        node: int | None = 0
        for byte in text:
            node = self.vocabulary.children(node or 0).get(byte)
            if node is None:
                break
            found.append(node)
        return found

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


def _without(row: np.ndarray | None, token_ids: "set[int]") -> np.ndarray | None:
    if row is None or not token_ids:
        return row
    out = row.copy()
    for token_id in token_ids:
        out[token_id >> 5] &= ~np.uint32(1 << (token_id & 31))
    return out
