"""How much farther from its end one token can take a text: a bound that needs no look at tokens.

A token reads to the end of terminals, one after another. At each end it may go on in another place
of the same node, or in a node inside it. What those places need, above what the node is itself
inside of, is the growth; the machine has met all of them by the time it has made a state's mask.
Nodes are gone into by certain bytes only, of which the longest run of them in any token is known.
"""

from collections.abc import Hashable
from itertools import islice
from weakref import WeakKeyDictionary

import numpy as np

from ramify.grammars.closing import Closing
from ramify.grammars.inside import NOTHING
from ramify.grammars.machine import OUTSIDE, Node, Place
from ramify.grammars.vocabulary import Vocabulary
from ramify.grammars.ways import NEVER

MAX_STATES = 2_000  # lexer states of one terminal
APART = 24  # symbols by which later states of a terminal too large to look at end later


class Growth:
    """Of one machine. It only grows."""

    def __init__(self, closing: Closing) -> None:
        self._closing = closing
        self._machine = closing.machine
        self._vocabulary = self._machine.lexer.vocabulary
        self._most = 0  # tokens that one place needs, at most
        self._inward = frozenset[int]()  # bytes by which nodes are gone into
        self._num_met = 0  # entries of the machine's exits that were looked at
        self._met: dict[tuple[int, tuple[tuple[Node, Hashable], ...]], tuple[int, int]] = {}
        self._totals: dict[int, int] = {}  # by frame: what places of it need to the very end
        self._rests: dict[tuple[int, int], int] = {}

    def ample(self, state: int) -> int:
        """So many tokens left are enough, whatever token comes next."""
        self._machine.mask(state)  # meets the places
        self._look()
        if self._most >= NEVER:
            return NEVER
        levels = 2 + _most_of(self._vocabulary, self._inward)
        longest = self._vocabulary.trie.longest  # of a token cut in two, the rest in single bytes
        count = max(map(self._total, self._machine.places[state]), default=0)
        return min(count + longest + levels * self._most, NEVER)

    def _total(self, place: Place) -> int:
        total = 0 if place[0] == NOTHING else self._totals.get(place[1])
        return self._closing.place_count(place) if total is None else total

    def _look(self) -> None:
        exits = self._machine.exits
        found = list(islice(exits.items(), self._num_met, None))  # looking at them adds more
        self._num_met += len(found)
        if not self._met:
            found.append(((0, 0), frozenset(self._machine.places[self._machine.start])))
        for (frame, _), places in found:
            outside = {frame := self._machine.frame_at(frame).parent}
            while frame > OUTSIDE:
                outside.add(frame := self._machine.frame_at(frame).parent)
            for place in places:
                if place[0] > NOTHING:
                    total = self._meet(place, outside)
                    self._totals[place[1]] = max(total, self._totals.get(place[1], 0))

    def _meet(self, place: Place, outside: set[int]) -> int:
        """Take note of a place and of the frames that it adds to those outside; what it needs."""
        lexed, frame = place
        added: list[tuple[Node, Hashable]] = []
        while frame not in outside:
            node, position, frame = self._machine.frame_at(frame)
            added.append((node, position))
        key = (lexed, tuple(added))
        found = self._met.get(key)
        if found is None:
            found = self._met[key] = self._find_need(lexed, added)
            self._most = max(self._most, found[0])
            if len(added) > 1:
                self._inward |= frozenset(self._machine.lexer.moves(lexed))
        need, label = found
        return min(need + self._rest(frame, label), NEVER)

    def _find_need(self, lexed: int, added: list[tuple[Node, Hashable]]) -> tuple[int, int]:
        """What a place and these frames need, at most, and with which label they end."""
        label = self._machine.lexer.labels[self._closing.ways.way(lexed)[1]]
        if label is None:
            return NEVER, 0
        need = self._far(lexed)
        for node, position in added:
            part = self._closing.need((node, position, label))
            if part is None:
                return NEVER, 0
            need += part.num_tokens
            label = part.label
        return min(need, NEVER), label

    def _rest(self, frame: int, label: int) -> int:
        """What follows a frame's part, one part after the other."""
        path: list[tuple[int, int, int]] = []
        rest: int | None = None
        while rest is None:
            rest = self._rests.get((frame, label)) if frame > OUTSIDE else 0
            if rest is None:
                node, position, parent = self._machine.frame_at(frame)
                part = self._closing.need((node, position, label))
                path.append((frame, label, NEVER if part is None else part.num_tokens))
                frame, label = (parent, part.label) if part is not None else (0, 0)
        for at, ended, num_tokens in reversed(path):
            rest = self._rests[at, ended] = min(rest + num_tokens, NEVER)
        return rest

    def _far(self, lexed: int) -> int:
        """Symbols to an end, from anywhere in a terminal from a state on."""
        lexer = self._machine.lexer
        known = self._vocabulary.tables.setdefault("far", WeakKeyDictionary())
        terminal, key = lexer.key(lexed)
        selected = terminal.selected(key)
        source = terminal if selected is None else selected.trie
        found: int | None = known.get(source)
        if found is None:
            if selected is None:
                found = self._find_far(lexed)
            else:
                found = max(map(len, selected.trie.texts)) + APART
            if selected is not None or key == terminal.start:
                known[source] = found
        return max(found, self._closing.ways.length(lexed))

    def _find_far(self, start: int) -> int:
        lexer, closing = self._machine.lexer, self._closing
        far = 0
        seen = {start}
        todo = [start]
        while todo:
            state = closing.ways.alike(todo.pop())
            far = max(far, closing.ways.length(state))
            shadow = lexer.shadow(state)
            if shadow is not None and any(shadow.texts or ()):  # other ways part from them soon
                far = max(far, APART + self._far(lexer.state(shadow.terminal, shadow.key)))
                continue
            is_large = shadow is not None and bool(shadow.lengths)
            if is_large or closing.ways.inner(state) is not None:
                far = max(far, closing.ways.length(state) + APART)
                continue
            for _, target in closing.ways.moves(state):
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
            if len(seen) > MAX_STATES:
                return NEVER
        return far


def _most_of(vocabulary: Vocabulary, bytes_: frozenset[int]) -> int:
    """The most of these bytes in one token."""
    known: dict[frozenset[int], int] = vocabulary.tables.setdefault("most_of", {})
    found = known.get(bytes_)
    if found is None:
        trie = vocabulary.trie
        counts = np.isin(trie.byte, np.array([*bytes_], np.uint8)).astype(np.int32)
        counts[0] = 0
        for depth in range(2, trie.longest + 1):
            nodes = np.flatnonzero(trie.depth == depth)
            counts[nodes] += counts[vocabulary.parents[nodes]]
        found = known[bytes_] = int(counts.max(initial=0))
    return found
