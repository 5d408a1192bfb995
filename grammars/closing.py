"""How a text comes to its end: a closing text for every place, and how many tokens it takes.

A closing text is made of fixed parts: the way to a near end of the place's terminal, then, for each
frame below, what its node's `close` still asks for. What was once chosen is kept. So whatever is
left of a closing text is the closing text of the place where it is left, and from a place that
closes in n tokens one token leads to a place that closes in n - 1.
"""

import heapq
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from ramify.grammars.inside import NOTHING
from ramify.grammars.machine import OUTSIDE, Machine, Node, Place
from ramify.grammars.ways import END, NEVER, TOKEN_COST, Steps, Symbols, Tail, Ways, before

MAX_PARTS = 20_000
MAX_PART_SYMBOLS = 1 << 16
PART_STEPS = 4  # of looking at one way for a part to begin

Part = tuple[Node, Hashable, int]  # what a node needs, at a position, after an end with a label

_NO_TAIL = Tail((), (NEVER,))


class Need(NamedTuple):
    """How a part is written."""

    cost: int
    text: Symbols
    label: int  # with which its node ends

    @property
    def num_tokens(self) -> int:
        """Tokens that are enough for it alone."""
        return self.cost // TOKEN_COST


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
        self.steps = Steps()  # past which no more parts and ways are looked for
        self.ways = Ways(self._lexer, self.steps)
        self._parts: dict[Part, Need] = {}
        self._asked: list[Part] = []  # not explored yet, some of them
        self._explored = set[Part]()
        self._users: dict[Part, list[_Option]] = {}
        self._options: list[tuple[int, int, _Option]] = []  # heap: those with nothing left
        self._num_options = 0
        self._tails: dict[tuple[int, int], Tail] = {}
        self._places: dict[Place, int] = {}
        self._states: dict[int, int] = {}

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
        text, end = self.ways.way(lexed)
        label = self._lexer.labels[end]
        return NEVER if label is None else self._before(text, self._tail(frame, label)).counts[0]

    def _tail(self, frame: int, label: int) -> Tail:
        """What follows once the part of `frame` has ended with `label`."""
        path: list[tuple[tuple[int, int], Symbols]] = []
        found: Tail | None = None
        while found is None:
            found = self._tails.get((frame, label)) if frame > OUTSIDE else END
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
        self.steps.spend(len(text))
        return before(self._vocabulary, text, tail)

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
        while self._asked:
            part = self._asked.pop()
            if part in self._explored or len(self._explored) >= MAX_PARTS:
                continue
            if not self.steps.spend(PART_STEPS):
                break
            self._explored.add(part)
            node, position, label = part
            out = set[Place]()
            node.close(self.machine, position, OUTSIDE, label, out)
            self.steps.spend(PART_STEPS * len(out))
            for place in sorted(out):
                option = self._option(part, place)
                if option is not None:
                    self._advance(option)

    def _option(self, part: Part, place: Place) -> _Option | None:
        """To go on at a place, whose frames stand on OUTSIDE."""
        lexed, frame = place
        if lexed <= NOTHING:  # the node has ended
            return _Option(part, 0, [], -lexed, [])
        text, end = self.ways.way(lexed)
        label = self._lexer.labels[end]
        if label is None:
            return None
        left: list[tuple[Node, Hashable]] = []
        while frame != OUTSIDE:
            node, position, frame = self.machine.frame_at(frame)
            left.append((node, position))
        return _Option(part, self.ways.cost(text), [text], label, left[::-1])

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
