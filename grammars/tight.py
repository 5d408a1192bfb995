"""Masks for when few tokens are left: those after which the text can still be completed in time.

For a machine state, each allowed token is given the number of tokens that certainly complete the
text after it (see `closing`). With n tokens left, those with at most n - 1 are allowed. As long as
n is what the state itself needs, there is one.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ramify.grammars.closing import Closing
from ramify.grammars.growth import Growth
from ramify.grammars.inside import NOTHING
from ramify.grammars.machine import DEAD, DONE, Machine, Place
from ramify.grammars.remainder import Remainder
from ramify.grammars.vocabulary import Vocabulary
from ramify.grammars.ways import NEVER

ABSENT = NEVER + 1  # of tokens that are not allowed at all
PLAIN_STEPS = 300  # a walk of more steps than this is done by numpy
MAX_ROWS = 2_000  # lexer states in one walk; tokens that lead to others are left out
APART = 16  # tokens that telling a text apart from others may cost
KEPT_WALKS = 64  # of all grammars over one lexer
KEPT_COUNTS = 32
MASK_STEPS = 100_000  # of searches for closing texts, for one mask: past it, no limit is kept to


class Walk(NamedTuple):
    """Where tokens lead from a lexer state, as far as they stay in its terminal."""

    token_ids: np.ndarray  # [n] int32
    targets: np.ndarray  # [n] int32: for each the index in `reached`
    reached: list[int]  # lexer states
    ends: "Mapping[int, list[int]] | Mapping[int, np.ndarray]"  # label -> trie nodes of its ends
    is_whole: bool  # else some tokens were left out


class _Shared:
    """What all grammars over one lexer share. The oldest are dropped: they are large."""

    def __init__(self) -> None:
        self.walks: OrderedDict[int, Walk] = OrderedDict()  # by lexer state
        self.counts: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()  # by machine, state
        self.rows: dict[int, np.ndarray] = {}  # lexer state -> [256] int32: the next by byte


class Tight:
    """What is needed from the states of one machine on, and masks that keep to it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._lexer = machine.lexer
        self._vocabulary = machine.lexer.vocabulary
        self._ample: dict[int, int] = {}  # upper bounds of `_needs`, found faster
        self._needs: dict[int, int] = {}
        self._place_needs: dict[Place, int] = {}
        tables = self._lexer.tables
        self._shared: _Shared = tables.get("tight") or tables.setdefault("tight", _Shared())

    @cached_property
    def closing(self) -> Closing:
        """The closing texts."""
        return Closing(self.machine)

    @cached_property
    def _growth(self) -> Growth:
        return Growth(self.closing)

    def count(self, state: int, steps: int = MASK_STEPS) -> int:
        """Tokens that are enough to complete the text from a state; NEVER if none are known."""
        self.closing.steps.allow(steps)
        return self.closing.count(state)

    def is_ample(self, state: int, remaining: int) -> bool:
        """May any token that the grammar allows be taken with so many left, itself included?"""
        need = self._needs.get(state)
        if need is None:
            if self.closing.steps.has_given_up:
                return True
            self.closing.steps.allow(MASK_STEPS)
            ample = self._ample.get(state)
            if ample is None:
                ample = self._ample[state] = self._growth.ample(state)
            if remaining >= ample:
                return True
            needs = map(self._need, self.machine.places[state])
            need = self._needs[state] = max(needs, default=0)
        return remaining >= need

    def mask(self, state: int, remaining: int) -> np.ndarray:
        """[num_words] int32: the tokens after which `remaining` - 1 more are enough."""
        self.closing.steps.allow(MASK_STEPS)
        bits = np.zeros(self._vocabulary.num_words * 32, bool)
        bits[: len(self._vocabulary)] = self._counts_of(state) < remaining
        if self.machine.is_complete(state):
            bits[list(self._vocabulary.eos_token_ids)] = True
        mask = np.packbits(bits, bitorder="little").view(np.int32)
        return mask & self.machine.mask(state)  # type: ignore[no-any-return]  # numpy says Any

    # -- counts after tokens

    def _need(self, place: Place) -> int:
        """One more than the largest count after a token."""
        found = self._place_needs.get(place)
        if found is None:
            found = self._place_needs[place] = 0 if place == DONE else self._find_need(place)
        return found

    def _find_need(self, place: Place) -> int:
        lexed, frame = place
        inner = self.closing.ways.inner(lexed)
        if inner is not None:
            return self._need_apart(lexed, inner, frame)
        walk = self._walk(lexed)
        if not walk.is_whole:
            return NEVER
        counts = [self._arrived(target, frame) for target in walk.reached]
        counts += [count for _, count in self._past_end(place, walk)]
        return max(counts, default=0) + 1

    def _need_apart(self, lexed: int, inner: int, frame: int) -> int:
        """Where texts are kept apart: as if they were not, and some to tell them apart."""
        walk = self._walk(inner)
        if not walk.is_whole:
            return NEVER
        shadow = self._lexer.shadow(lexed)
        assert shadow is not None
        longest = max(map(self.closing.ways.length, walk.reached), default=0)
        return self.closing.place_count((lexed, frame)) + longest + APART + len(shadow.near)

    def _counts_of(self, state: int) -> np.ndarray:
        """[vocabulary] int32: tokens that are enough after each; ABSENT where not allowed."""
        counts = self._shared.counts
        key = (self.machine.serial, state)
        found = counts.get(key)
        if found is None:
            found = counts[key] = np.full(len(self._vocabulary), ABSENT, np.int32)
            for place in self.machine.places[state]:
                if place != DONE:
                    self._add_place(place, found)
            if len(counts) > KEPT_COUNTS:
                counts.popitem(last=False)
        return found

    def _add_place(self, place: Place, out: np.ndarray) -> None:
        walk = self._walk(place[0])
        counts = np.array([self._arrived(target, place[1]) for target in walk.reached], np.int32)
        if len(walk.token_ids):
            out[walk.token_ids] = np.minimum(out[walk.token_ids], counts[walk.targets])
        for token_ids, count in self._past_end(place, walk):
            out[token_ids] = np.minimum(out[token_ids], count)

    def _arrived(self, lexed: int, frame: int) -> int:
        """The count of a place, or of what follows if its terminal may end here."""
        count = self.closing.place_count((lexed, frame))
        label = self._lexer.labels[lexed]
        if label is None:
            return count
        return min(count, self.closing.count(self.machine.after(frame, label)))

    def _past_end(self, place: Place, walk: Walk) -> Iterator[tuple[list[int], int]]:
        """Special tokens, and tokens that leave the terminal, with the count after them."""
        lexed, frame = place
        for token_id, target in self._lexer.special(lexed).items():
            yield [token_id], self._arrived(target, frame)
        for label, nodes in walk.ends.items():
            after = self.machine.after(frame, label)
            if self.machine.first_bytes(after):
                yield from self._below(nodes, after)

    def _below(
        self, nodes: "list[int] | np.ndarray", state: int
    ) -> Iterator[tuple[list[int], int]]:
        """Tokens that go on below some trie nodes, from a state."""
        listed = nodes if isinstance(nodes, list) else nodes.tolist()
        todo = [(Remainder(self._vocabulary, tuple(listed)), state)]
        while todo:
            left, at = todo.pop()
            for byte in left.common(self.machine.first_bytes(at)):
                step = left.step(byte)
                target = DEAD if step is None else self.machine.step(at, byte)
                if step is None or target == DEAD:
                    continue
                if step.rest is not None:
                    todo.append((step.rest, target))
                if step.token_ids:
                    yield step.token_ids, self.closing.count(target)

    # -- walks

    def _walk(self, lexed: int) -> Walk:
        lexed = self.closing.ways.alike(lexed)
        walks = self._shared.walks
        found = walks.get(lexed)
        if found is None:
            if self.closing.ways.inner(lexed) is not None:
                found = self._walk_out(lexed)
            else:
                terminal, key = self._lexer.key(lexed)
                states = terminal.states(self._lexer, key)
                if states is not None:
                    found = self._walked(states, is_whole=True)
                else:
                    found = self._walk_plain(lexed) or self._walk_levels(lexed)
            walks[lexed] = found
            if len(walks) > KEPT_WALKS:
                walks.popitem(last=False)
        return found

    def _walk_out(self, start: int) -> Walk:
        """Of tokens that each lead to a state of their own: those on the way to the end."""
        vocabulary, lexer = self._vocabulary, self._lexer
        found: dict[int, int] = {}
        ends: dict[int, list[int]] = {}
        node: int | None = 0
        at = start
        for byte in self.closing.ways.way(start)[0]:
            node, at = vocabulary.children(node or 0).get(byte), lexer.next(at, byte)
            if node is None or at == NOTHING:
                break
            found |= dict.fromkeys(vocabulary.tokens_at(node), at)
            label = lexer.labels[at]
            if label is not None:
                ends[label] = [node]
        return _walk([*found], [*found.values()], ends, is_whole=False)

    def _walk_plain(self, start: int) -> Walk | None:
        """Node by node; None where that takes long."""
        lexer, vocabulary = self._lexer, self._vocabulary
        token_ids: list[int] = []
        targets: list[int] = []
        ends: dict[int, list[int]] = {}
        steps = 0
        todo = [(0, start)]
        while todo:
            node, at = todo.pop()
            children, moves = vocabulary.children(node), lexer.moves(at)
            for byte in moves if len(moves) < len(children) else children:
                steps += 1
                child = children.get(byte)
                target = NOTHING if child is None else lexer.next(at, byte)
                if child is None or target == NOTHING:
                    continue
                for token_id in vocabulary.tokens_at(child):
                    token_ids.append(token_id)
                    targets.append(target)
                label = lexer.labels[target]
                if label is not None and vocabulary.is_inner(child):
                    ends.setdefault(label, []).append(child)
                todo.append((child, target))
            if steps > PLAIN_STEPS:
                return None
        return _walk(token_ids, targets, ends, is_whole=True)

    def _walk_levels(self, start: int) -> Walk:
        """All trie nodes of one depth at once."""
        levels, trie = _levels(self._vocabulary), self._vocabulary.trie
        states = np.zeros(trie.num_nodes, np.int32)
        states[0] = start
        seen = set[int]()
        for nodes in levels.nodes:
            from_states = states[levels.parents[nodes]]
            is_live = from_states != NOTHING
            nodes, from_states = nodes[is_live], from_states[is_live]
            for at in np.unique(from_states).tolist():
                seen.add(at)
                if len(seen) <= MAX_ROWS:
                    chosen = nodes[from_states == at]
                    states[chosen] = self._row(at)[trie.byte[chosen]]
        return self._walked(states, is_whole=len(seen) <= MAX_ROWS)

    def _walked(self, states: np.ndarray, *, is_whole: bool) -> Walk:
        """From the lexer state at each trie node."""
        trie, levels = self._vocabulary.trie, _levels(self._vocabulary)
        reached = states[levels.inner]
        ends: dict[int, np.ndarray] = {}
        for target in np.flatnonzero(np.bincount(reached)).tolist():
            label = self._lexer.labels[target]
            if label is not None:
                nodes = levels.inner[reached == target]
                ends[label] = np.concatenate([ends[label], nodes]) if label in ends else nodes
        targets = states[levels.token_nodes]
        is_live = targets != NOTHING
        return _walk(trie.token_ids[is_live], targets[is_live], ends, is_whole)

    def _row(self, lexed: int) -> np.ndarray:
        rows = self._shared.rows
        row = rows.get(lexed)
        if row is None:
            row = rows[lexed] = np.zeros(256, np.int32)
            targets: dict[object, int] = {}
            for byte, key in self._lexer.moves(lexed).items():
                target = targets.get(key)
                if target is None:
                    target = targets[key] = self._lexer.next(lexed, byte)
                row[byte] = target
        return row


def _walk(
    token_ids: "list[int] | np.ndarray",
    targets: "list[int] | np.ndarray",
    ends: "Mapping[int, list[int]] | Mapping[int, np.ndarray]",
    is_whole: bool,
) -> Walk:
    states = np.asarray(targets, np.int64)
    is_reached = np.bincount(states) > 0
    reached = np.flatnonzero(is_reached).tolist()
    which = (np.cumsum(is_reached, dtype=np.int32) - 1)[states]
    return Walk(np.asarray(token_ids, np.int32), which, reached, ends, is_whole)


class _Levels(NamedTuple):
    """A vocabulary's trie by depth."""

    nodes: list[np.ndarray]  # of each depth from 1 on
    parents: np.ndarray  # [num_nodes] int32
    inner: np.ndarray  # [num_inner] intp: nodes that others are below, but for the root
    token_nodes: np.ndarray  # [num_tokens] int32: where the token at this place of `token_ids` ends


def _levels(vocabulary: Vocabulary) -> _Levels:
    found: _Levels | None = vocabulary.tables.get("levels")
    if found is None:
        trie = vocabulary.trie
        order = np.argsort(trie.depth, kind="stable").astype(np.int32)
        edges = np.flatnonzero(np.diff(trie.depth[order])) + 1
        token_nodes = np.repeat(np.arange(trie.num_nodes, dtype=np.int32), np.diff(trie.first))
        inner = np.flatnonzero(trie.skip > np.arange(1, trie.num_nodes + 1))[1:]
        found = _Levels(np.split(order, edges)[1:], vocabulary.parents, inner, token_nodes)
        vocabulary.tables["levels"] = found
    return found
