"""How a text comes to its end: a closing text for every place, and how many tokens it takes.

A closing text is made of fixed parts: the way to a near end of the place's terminal, then, for each
frame below, what its node's `close` still asks for. What was once chosen is kept. So whatever is
left of a closing text is the closing text of the place where it is left, and from a place that
closes in n tokens one token leads to a place that closes in n - 1.
"""

import heapq
import math
import time
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from ramify.grammars.inside import NOTHING
from ramify.grammars.machine import OUTSIDE, Machine, Node, Place

NEVER = 1 << 30  # tokens to close what no closing text was found for
MAX_ENDS = 4  # ends of a terminal that are compared,
FEW_STEPS = 40  # as long as the search for them is this short
MANY_STEPS = 50_000  # to the first end; as many again in vain, and no more is looked for
MAX_PARTS = 20_000
MAX_PART_SYMBOLS = 1 << 16
_TOKEN_COST = 256  # texts of fewer tokens are better, then shorter ones

SPECIAL = 256  # in a text, on top of a special token's id; what is below is a byte

Symbols = tuple[int, ...]  # a text: bytes and special tokens
Part = tuple[Node, Hashable, int]  # what a node needs, at a position, after an end with a label


class Tail(NamedTuple):
    """The beginning of a closing text, as far as one token may reach into it."""

    text: Symbols
    counts: tuple[int, ...]  # [len(text) + 1]: fewest tokens from each byte on, and past the last


_END = Tail((), (0,))
_NO_TAIL = Tail((), (NEVER,))


class Need(NamedTuple):
    """How a part is written."""

    cost: int
    text: Symbols
    label: int  # with which its node ends

    @property
    def num_tokens(self) -> int:
        """Tokens that are enough for it alone."""
        return self.cost // _TOKEN_COST


@dataclass(slots=True, eq=False)
class _Option:
    """One way for a part to be written, as far as it is known."""

    part: Part
    cost: int
    texts: list[Symbols]
    label: int  # of what has ended last
    left: list[tuple[Node, Hashable]]  # what has to follow, the last first


class Closing:
    """Closing texts of one machine, made as they are asked for."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._lexer = machine.lexer
        self._vocabulary = machine.lexer.vocabulary
        self._ways: dict[int, tuple[int, int]] = {}  # lexer state -> (symbol, next state)
        self._in_vain = 0  # steps of searches that found no end
        self._parts: dict[Part, Need] = {}
        self.has_given_up = False  # took a search too long? Then not all counts can be told
        self._deadline = math.inf
        self._asked: list[Part] = []  # not explored yet, some of them
        self._explored = set[Part]()
        self._users: dict[Part, list[_Option]] = {}
        self._options: list[tuple[int, int, _Option]] = []  # heap: those with nothing left
        self._num_options = 0
        self._tails: dict[tuple[int, int], Tail] = {}
        self._places: dict[Place, int] = {}
        self._states: dict[int, int] = {}

    def allow(self, seconds: float) -> None:
        """Searches from now on take so long at most; past it, nothing new is found any more."""
        self._deadline = time.monotonic() + seconds

    def _goes_on(self) -> bool:
        self.has_given_up |= time.monotonic() > self._deadline
        return not self.has_given_up

    def count(self, state: int) -> int:
        """Tokens that are enough to complete the text; NEVER where no closing text is known."""
        found = self._states.get(state)
        if found is None:
            places = self.machine.places[state]
            found = self._states[state] = min(map(self.place_count, places), default=NEVER)
        return found

    def place_count(self, place: Place) -> int:
        """As `count`, for one place."""
        found = self._places.get(place)
        if found is None:
            lexed, frame = place
            found = 0 if lexed == NOTHING else self._count(lexed, frame)
            self._places[place] = found
        return found

    def _count(self, lexed: int, frame: int) -> int:
        text, end = self.way(lexed)
        label = self._lexer.labels[end]
        return NEVER if label is None else self._before(text, self._tail(frame, label)).counts[0]

    def _tail(self, frame: int, label: int) -> Tail:
        """What follows once the part of `frame` has ended with `label`."""
        path: list[tuple[tuple[int, int], Symbols]] = []
        found: Tail | None = None
        while found is None:
            found = self._tails.get((frame, label)) if frame > OUTSIDE else _END
            if found is None:
                node, position, parent = self.machine.frame_at(frame)
                need = self.need((node, position, label))
                if need is None:
                    found = self._tails[frame, label] = _NO_TAIL
                else:
                    path.append(((frame, label), need.text))
                    frame, label = parent, need.label
        for key, text in reversed(path):
            found = self._tails[key] = self._before(text, found)
        return found

    def _before(self, text: Symbols, tail: Tail) -> Tail:
        """A tail with a text before it."""
        if not text:
            return tail
        children, tokens_at = self._vocabulary.children, self._vocabulary.tokens_at
        whole = text + tail.text
        counts = [NEVER] * len(text) + list(tail.counts)
        for at in range(len(text) - 1, -1, -1):
            best = counts[at + 1] if whole[at] >= SPECIAL else NEVER
            node: int | None = 0
            for end in range(at, len(whole)):
                node = children(node or 0).get(whole[end])
                if node is None:
                    break
                if counts[end + 1] < best and tokens_at(node):
                    best = counts[end + 1]
            counts[at] = min(best + 1, NEVER)
        longest = self._vocabulary.trie.longest
        return Tail(whole[:longest], tuple(counts[: longest + 1]))

    # -- the way to an end of a terminal

    def way(self, lexed: int) -> tuple[Symbols, int]:
        """The text to a near end, and the state there; a state with no label if none was found."""
        labels, ways = self._lexer.labels, self._ways
        terminal, key = self._lexer.key(self.alike(lexed))
        lexed = self._lexer.state(terminal, terminal.soonest(key))
        if labels[lexed] is None and lexed not in ways and not self._follow_shadow(lexed):
            self._find_way(lexed)
        out: list[int] = []
        while labels[lexed] is None and lexed in ways:
            symbol, lexed = ways[lexed]
            out.append(symbol)
        return tuple(out), lexed

    def alike(self, lexed: int) -> int:
        """A state with the same way to an end: of a text that is long enough, one of any length."""
        shadow = self._lexer.shadow(lexed)
        if shadow is None or shadow.lengths is None or shadow.lengths[0]:
            return lexed
        return self._lexer.state(shadow.terminal, shadow.key)

    def inner(self, lexed: int) -> int | None:
        """Of a terminal that keeps its texts apart: the state of the one that does not."""
        shadow = self._lexer.shadow(lexed)
        if shadow is None or shadow.lengths or shadow.texts is not None or shadow.label is not None:
            return None
        return self._lexer.state(shadow.terminal, shadow.key)

    def _follow_shadow(self, start: int) -> bool:
        """Go the way of the state that reads almost the same, if it is allowed here."""
        shadow = self._lexer.shadow(start)
        if shadow is None:
            return False
        path = [start]
        text, _ = self.way(self._lexer.state(shadow.terminal, shadow.key))
        for symbol in text:
            path.append(self._lexer.next(path[-1], symbol))
        if self._lexer.labels[path[-1]] is None:
            return False
        for at, symbol in enumerate(text):
            self._ways.setdefault(path[at], (symbol, path[at + 1]))
        return True

    def _find_way(self, start: int) -> None:
        labels, ways = self._lexer.labels, self._ways
        came: dict[int, tuple[int, int]] = {start: (0, NOTHING)}  # symbol, from which state
        todo = [(0, 0, 0, start)]  # heap: nearest to an end first; then what was read so far
        ends: list[int] = []
        detours: list[int] = []
        steps = 0
        most = MANY_STEPS - self._in_vain
        while todo and len(ends) < MAX_ENDS and steps < (FEW_STEPS if ends else most):
            if not self._goes_on():
                break
            _, _, depth, state = heapq.heappop(todo)
            moves = self.moves(state)
            steps += len(moves)
            for symbol, target in moves:
                if target not in came:
                    came[target] = (symbol, state)
                    if labels[target] is not None and self._is_detour(target):
                        detours.append(target)
                    elif labels[target] is not None or target in ways:
                        ends.append(target)
                    else:
                        left = self._distance(target)
                        heapq.heappush(todo, (depth + 1 + left, left, depth + 1, target))
        best: tuple[int, int] | None = None
        for end in ends or detours:
            text = _path(came, end) + self.way(end)[0]
            if best is None or self._cost(text) < best[0]:
                best = (self._cost(text), end)
        if best is None:
            self._in_vain += steps
            return
        at = best[1]
        while at != start:
            symbol, before = came[at]
            self._ways[before] = (symbol, at)
            at = before

    def _distance(self, state: int) -> int:
        terminal, key = self._lexer.key(state)
        return terminal.distance(key)

    def _is_detour(self, state: int) -> bool:
        terminal, key = self._lexer.key(state)
        return terminal.is_detour(key)

    def moves(self, state: int) -> list[tuple[int, int]]:
        """(symbol, target): one byte, the most usual, for each target; and special tokens."""
        best: dict[object, int] = {}
        inner = self.inner(state)
        for byte, key in self._lexer.moves(state if inner is None else inner).items():
            other = best.get(key)
            if other is None or _RANK[byte] < _RANK[other]:
                best[key] = byte
        special = [(SPECIAL + token, to) for token, to in self._lexer.special(state).items()]
        targets = [(byte, self._lexer.next(state, byte)) for byte in best.values()]
        return [(byte, target) for byte, target in targets if target != NOTHING] + special

    def _cost(self, text: Symbols) -> int:
        return self._before(text, _END).counts[0] * _TOKEN_COST + len(text)

    # -- what nodes need: of all options of all parts the cheapest is settled first (Knuth)

    def need(self, asked: Part) -> Need | None:
        """How a part is written; None if it is not known how it ends."""
        self._asked.append(asked)
        self._explore()
        while asked not in self._parts and self._options:
            cost, _, option = heapq.heappop(self._options)
            if option.part in self._parts or sum(map(len, option.texts)) > MAX_PART_SYMBOLS:
                continue
            text = tuple(chain.from_iterable(option.texts))
            self._parts[option.part] = Need(cost, text, option.label)
            for user in self._users.pop(option.part, ()):
                self._advance(user)
            self._explore()
        return self._parts.get(asked)

    def _explore(self) -> None:
        """Look at the parts that were asked for."""
        while self._asked and self._goes_on():
            part = self._asked.pop()
            if part in self._explored or len(self._explored) >= MAX_PARTS:
                continue
            self._explored.add(part)
            node, position, label = part
            out = set[Place]()
            node.close(self.machine, position, OUTSIDE, label, out)
            for place in sorted(out):
                option = self._option(part, place)
                if option is not None:
                    self._advance(option)

    def _option(self, part: Part, place: Place) -> _Option | None:
        """To go on at a place, whose frames stand on OUTSIDE."""
        lexed, frame = place
        if lexed <= NOTHING:  # the node has ended
            return _Option(part, 0, [], -lexed, [])
        text, end = self.way(lexed)
        label = self._lexer.labels[end]
        if label is None:
            return None
        left: list[tuple[Node, Hashable]] = []
        while frame != OUTSIDE:
            node, position, frame = self.machine.frame_at(frame)
            left.append((node, position))
        return _Option(part, self._cost(text), [text], label, left[::-1])

    def _advance(self, option: _Option) -> None:
        """Add what is known of what has to follow; then wait for the rest, or offer it."""
        while option.left:
            need = (*option.left[-1], option.label)
            known = self._parts.get(need)
            if known is None:
                self._users.setdefault(need, []).append(option)
                self._asked.append(need)
                return
            option.left.pop()
            option.cost += known.cost
            option.texts.append(known.text)
            option.label = known.label
        self._num_options += 1
        heapq.heappush(self._options, (option.cost, self._num_options, option))


def _path(came: dict[int, tuple[int, int]], end: int) -> Symbols:
    out: list[int] = []
    while came[end][1] != NOTHING:
        symbol, end = came[end]
        out.append(symbol)
    return tuple(reversed(out))


def _rank(byte: int) -> tuple[bool, ...]:
    """Letters first, then what can be printed."""
    char = chr(byte)
    return (not char.islower(), not char.isalnum(), not char.isprintable(), not char.isascii())


_RANK = [0] * 256
for _place, _byte in enumerate(sorted(range(256), key=_rank)):
    _RANK[_byte] = _place
