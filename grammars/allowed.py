"""The tokens that a state of a machine allows: its mask, from what the lexer says of its places."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ramify.grammars.inside import Inside
from ramify.grammars.kernels import clear_bits, set_bits
from ramify.grammars.remainder import Remainder
from ramify.grammars.together import Together
from ramify.grammars.vocabulary import Vocabulary

if TYPE_CHECKING:
    from ramify.grammars.machine import Machine, Place

Front = tuple[tuple[int, ...], tuple[int, ...]]  # lexer states of places, and their frames
_Item = tuple[Remainder, Front]  # what is left of some tokens, and the places to read it at


def make_mask(machine: "Machine", places: "Sequence[Place]", *, is_complete: bool) -> np.ndarray:
    """[num_words] int32, read-only: the tokens that can be read at some places, and the ends where
    the text is complete. The lexer's grammars share what is the same."""
    lexer = machine.lexer
    vocabulary = lexer.vocabulary
    found = _Found(vocabulary)
    if is_complete:
        found.token_ids += vocabulary.eos_token_ids
    lexer.begin_mask(machine.limits.walk_steps)
    items: list[_Item] = []
    for state, frame in places:  # these are seldom met together again
        inside = lexer.inside(state, lexer.root)
        found.add_inside(inside)
        if not inside.is_exact:
            _try(machine, inside, (state, frame), found)
            continue
        for label, rest in inside.exits:
            items.append((rest, machine.front(frame, label)))
    if items:
        _collect(machine, items, found)
    key = (lexer.serial, *found.key())
    row = vocabulary.masks.get(key)  # places that differ in what comes later often agree
    if row is None:
        row = found.row().view(np.int32)
        row.flags.writeable = False
        vocabulary.masks.put(key, row)
    return row


def _collect(
    machine: "Machine", items: list[_Item], found: "_Found", aside: list[_Item] | None = None
) -> None:
    """Add the tokens of which the remainders can be read at the places. With `aside`, leave there
    what goes into terminals that keep their texts apart."""
    lexer = machine.lexer
    read, spend, front_after = lexer.read, lexer.spend, machine.front
    seen = set[tuple[int, int, Remainder]]()
    for remainder, front in items:  # which grow
        if aside is not None:
            front = _split(machine, remainder, front, aside)
        states, frames = front
        together = read(states, remainder)
        found.add(together)
        for index, inside in together.to_try:
            _try(machine, inside, (states[index], frames[index]), found)
        exits = together.exits
        if exits:
            spend(3 * len(exits) + len(states))
        for index, label, rest in exits:
            end = (frames[index], label, rest)
            if end not in seen:
                seen.add(end)
                after = front_after(frames[index], label)
                if after[0]:
                    items.append((rest, after))


def _split(machine: "Machine", remainder: Remainder, front: Front, aside: list[_Item]) -> Front:
    """The places in terminals that do not keep their texts apart; the others go aside."""
    is_apart = machine.lexer.keeps_texts_apart
    places = list(zip(*front, strict=True))
    apart = [place for place in places if is_apart(place[0])]
    if not apart:
        return front
    aside.append((remainder, front_of(apart)))
    return front_of([place for place in places if not is_apart(place[0])])


def _try(machine: "Machine", inside: Inside, place: "Place", found: "_Found") -> None:
    """Of tokens that may not be allowed at a place, add those that are."""
    lexer = machine.lexer
    sure, past = _Found(lexer.vocabulary), _Found(lexer.vocabulary)
    items = [(rest, machine.front(place[1], label)) for label, rest in inside.exits]
    if inside.is_last:
        aside: list[_Item] = []
        _collect(machine, items, sure, aside)
        items = aside
    _collect(machine, items, past)
    to_try = past.all_token_ids().union(inside.to_try)
    found.token_ids += sure.all_token_ids() - to_try
    lexer.spend(10 * len(to_try))
    found.token_ids += (at for at in to_try if machine.allows(place, at))


def front_of(places: "Sequence[Place]") -> Front:
    """Some places, lexer states and frames apart."""
    states, frames = zip(*places, strict=True) if places else ((), ())
    return states, frames


class _Found:
    """The tokens of a mask so far."""

    __slots__ = ("_vocabulary", "less", "many", "rows", "token_ids")

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.rows: list[np.ndarray] = []  # [num_words] uint32, shared
        self.less: list[Inside] = []  # those with a row and tokens that are not of it
        self.many: list[np.ndarray] = []  # [num] int32 token ids, shared
        self.token_ids: list[int] = []

    def add(self, together: Together) -> None:
        """What some states read."""
        if together.rows:
            self.rows += together.rows
        if together.less:
            self.less += together.less
        if together.many is not None:
            self.many.append(together.many)
        self.token_ids += together.token_ids

    def add_inside(self, inside: Inside) -> None:
        """What one state reads."""
        if inside.without is not None:
            self.less.append(inside)
        elif inside.row is not None:
            self.rows.append(inside.row)
        self.token_ids += inside.token_ids

    def key(self) -> tuple[object, ...]:
        """The same for the same tokens, as long as the lexer lives."""
        parts = [*map(id, self.rows), *map(id, self.less), *map(id, self.many)]
        return (*parts, frozenset(self.token_ids))

    def row(self) -> np.ndarray:
        """All of them, [num_words] uint32; perhaps shared."""
        if len(self.rows) == 1 and not self.token_ids and not self.less and not self.many:
            return self.rows[0]
        row: np.ndarray | None = None
        for inside in self.less:
            assert inside.row is not None and inside.without is not None
            part = inside.row.copy()
            clear_bits(part, inside.without)
            row = part if row is None else row | part
        for other in self.rows:
            row = other.copy() if row is None else np.bitwise_or(row, other, out=row)
        if row is None:
            row = self._vocabulary.new_row().view(np.uint32)
        for token_ids in self.many:
            set_bits(row, token_ids)
        if self.token_ids:
            set_bits(row, np.array(self.token_ids, np.int32))
        return row

    def all_token_ids(self) -> set[int]:
        """All of them, as a set."""
        if not self.rows and not self.less:
            return set(self.token_ids).union(*(many.tolist() for many in self.many))
        bits = np.unpackbits(self.row().view(np.uint8), bitorder="little")
        return set(np.flatnonzero(bits).tolist())
