"""The machine of a grammar: sets of places, stepped byte by byte, everything interned and kept.

A place (configuration) is a lexer state and the frame to go on with when its terminal ends. A
frame is a node of the grammar, how far it has got, and its parent frame: a stack that all places
share. A machine state is an interned set of places. Invariant: from every place a complete text
can be reached, so some token is allowed until the grammar is complete (every byte being a token).
"""

import itertools
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple, Protocol
from weakref import ref

import numpy as np

from ramify.grammars.allowed import Front, front_of, make_mask
from ramify.grammars.errors import GrammarError
from ramify.grammars.inside import NOTHING
from ramify.grammars.lexer import Lexer
from ramify.grammars.limits import Limits
from ramify.grammars.terminals import Key, Terminal

Place = tuple[int, int]  # (lexer state, frame)
DEAD = 0  # the machine state with no places
DONE: Place = (NOTHING, 0)  # the place after the whole grammar
OUTSIDE = 1  # the frame below a node that is looked at alone, whatever it is inside of
STATE_BYTES, FRAME_BYTES, STEP_BYTES = 1000, 500, 120
_SERIALS = itertools.count()
ALL_BYTES = tuple(range(256))
MAX_FORCED = 256


class Node(Protocol):
    """A piece of a grammar that other pieces can be inside of."""

    def enter(self, machine: "Machine", parent: int, out: set[Place]) -> None:
        """Add the places at this node's start; when it is done, `parent` goes on."""

    def resume(
        self, machine: "Machine", position: Hashable, parent: int, label: int, out: set[Place]
    ) -> None:
        """Add the places after a part of this node ended with `label`."""

    def close(
        self, machine: "Machine", position: Hashable, parent: int, label: int, out: set[Place]
    ) -> None:
        """As `resume`, but only some of its places: those from which this node ends soonest."""


class Frame(NamedTuple):
    """What to go on with."""

    node: Node
    position: Hashable
    parent: int


class _Bottom:
    """A frame below all others: what is above it is done. Its place tells with which label."""

    def enter(self, machine: "Machine", parent: int, out: set[Place]) -> None:
        out.add((NOTHING, parent))

    def resume(
        self, machine: "Machine", position: Hashable, parent: int, label: int, out: set[Place]
    ) -> None:
        out.add((NOTHING - label if parent else NOTHING, parent))

    close = resume


class Machine:
    """Memo tables of one grammar. Not thread-safe: one scheduler thread uses it."""

    def __init__(self, lexer: Lexer, root: Node, limits: Limits) -> None:
        self.lexer = lexer
        self.limits = limits
        self._frames: list[tuple[Node, Hashable, int]] = [
            (_Bottom(), 0, 0),
            (_Bottom(), 0, OUTSIDE),
        ]
        self._frame_ids: dict[tuple[Node, Hashable, int], int] = {}
        self._after: dict[tuple[int, int], frozenset[Place]] = {}
        self._fronts: dict[tuple[int, int], Front] = {}  # by (frame, label)
        self.places: list[tuple[Place, ...]] = [()]
        self._state_ids: dict[tuple[Place, ...], int] = {(): DEAD}
        self._rows: list[dict[int, int]] = [{}]  # byte -> machine state; DEAD where tried in vain
        self._first: list[tuple[int, ...] | None] = [()]
        self.serial = next(_SERIALS)  # no two machines have the same
        self._masks: dict[int, ref[np.ndarray]] = {}  # by state: those that the cache still keeps
        self._token_steps: dict[tuple[int, int], int] = {}
        out = set[Place]()
        root.enter(self, 0, out)
        self.start = self._intern(out)

    @property
    def num_states(self) -> int:
        """Machine states interned so far."""
        return len(self.places)

    @property
    def exits(self) -> Mapping[tuple[int, int], frozenset[Place]]:
        """The places after (frame, label), in the order in which they were first asked for."""
        return self._after

    def frame_at(self, frame: int) -> Frame:
        """The frame of a number."""
        return Frame(*self._frames[frame])

    def after(self, frame: int, label: int) -> int:
        """The state after `frame`'s part ended with `label`."""
        out = set[Place]()
        self.resume(frame, label, out)
        return self._intern(out)

    # -- for nodes

    def frame(self, node: Node, position: Hashable, parent: int) -> int:
        """The frame's number."""
        key = (node, position, parent)
        found = self._frame_ids.get(key)
        if found is None:
            found = self._frame_ids[key] = len(self._frames)
            self._frames.append(key)
            self._check(found)
        return found

    def begin(self, terminal: Terminal, frame: int, out: set[Place]) -> None:
        """Add the place before a terminal."""
        lexed = self.lexer.start(terminal)
        if self.lexer.labels[lexed] is None:  # the common case, short
            out.add((lexed, frame))
        else:
            self._arrive(lexed, frame, out)

    def begin_at(self, terminal: Terminal, key: Key, frame: int, out: set[Place]) -> None:
        """Add a terminal's place at a key other than its start."""
        self._arrive(self.lexer.state(terminal, key), frame, out)

    def resume(self, frame: int, label: int, out: set[Place]) -> None:
        """Add the places after `frame`'s part ended with `label`."""
        out |= self._places_after(frame, label)

    def _places_after(self, frame: int, label: int) -> frozenset[Place]:
        found = self._after.get((frame, label))
        if found is None:
            node, position, parent = self._frames[frame]
            places = set[Place]()
            node.resume(self, position, parent, label, places)
            found = self._after[frame, label] = frozenset(places)
        return found

    def front(self, frame: int, label: int) -> Front:
        """The places after `frame`'s part ended with `label`, but for the end of the text."""
        found = self._fronts.get((frame, label))
        if found is None:
            places = [place for place in self._places_after(frame, label) if place != DONE]
            found = self._fronts[frame, label] = front_of(sorted(places))
        return found

    def allows(self, place: Place, token_id: int) -> bool:
        """Can this token be read at a place?"""
        return self.step_token(self._intern((place,)), token_id) != DEAD

    # -- for matchers

    def step(self, state: int, byte: int) -> int:
        """The state after a byte; DEAD where it is not allowed."""
        row = self._rows[state]
        target = row.get(byte)
        if target is None:
            target = row[byte] = self._step(state, byte)
        return target

    def step_token(self, state: int, token_id: int) -> int:
        """The state after a token's bytes; DEAD where it is not allowed."""
        target = self._token_steps.get((state, token_id))
        if target is None:
            text = self.lexer.vocabulary.text_tokens[token_id]
            if text is not None:
                target = self.step_text(state, text)
            else:
                target = self._step_special(state, token_id)
            self._token_steps[state, token_id] = target
        return target

    def _step_special(self, state: int, token_id: int) -> int:
        out = set[Place]()
        for lexed, frame in self.places[state]:
            target = self.lexer.special(lexed).get(token_id)
            if target is not None:
                self._arrive(target, frame, out)
        return self._intern(out) if out else DEAD

    def step_text(self, state: int, text: bytes) -> int:
        """The state after some bytes; DEAD where they are not allowed."""
        for byte in text:
            state = self.step(state, byte)
            if state == DEAD:
                break
        return state

    def forced_text(self, state: int) -> bytes:
        """Bytes of which each is the only one allowed; at most MAX_FORCED. They end where a
        special token may stand for text."""
        out = bytearray()
        while len(out) < MAX_FORCED and not self.is_complete(state):
            first = self.first_bytes(state)
            if len(first) != 1 or any(self.lexer.special(at) for at, _ in self.places[state]):
                break
            out += bytes(first)
            state = self.step(state, first[0])
        return bytes(out)

    def is_complete(self, state: int) -> bool:
        """May the text end here?"""
        places = self.places[state]
        return bool(places) and places[0] == DONE  # the smallest place

    def first_bytes(self, state: int) -> tuple[int, ...]:
        """Bytes that may lead on from a state: all that do, or, where they are many, all 256."""
        found = self._first[state]
        if found is None:
            live = set[int]()
            for lexed, _ in self.places[state]:
                if self.lexer.cheap_moves(lexed) is None and self.lexer.shadow(lexed):
                    live.update(ALL_BYTES)
                    break
                live.update(self.lexer.moves(lexed))
            found = self._first[state] = tuple(sorted(live)) if len(live) < 256 else ALL_BYTES
        return found

    def mask(self, state: int) -> np.ndarray:
        """[num_words] int32: bit i % 32 of word i // 32 says if token i is allowed. Read-only."""
        kept = self._masks.get(state)
        found = None if kept is None else kept()
        if found is None:
            places = self.places[state]
            is_complete = self.is_complete(state)
            if is_complete:
                places = places[1:]  # DONE is the smallest place
            found = make_mask(self, places, is_complete=is_complete)
            self._masks[state] = ref(found)
        return found

    @property
    def num_bytes(self) -> int:
        """What its tables hold now, by the number of their entries; masks and lexer states, which
        grammars share, are not of it."""
        return (
            STATE_BYTES * len(self.places)
            + FRAME_BYTES * (len(self._frames) + len(self._after))
            + STEP_BYTES * len(self._token_steps)
        )

    def _check(self, count: int) -> None:
        if count > self.limits.machine_states:
            raise GrammarError(
                "grammar_too_complex",
                f"the grammar's machine has more than {self.limits.machine_states} states",
            )

    def _intern(self, places: Iterable[Place]) -> int:
        key = tuple(sorted(places))
        found = self._state_ids.get(key)
        if found is None:
            if len(key) > self.limits.configurations:
                raise GrammarError(
                    "grammar_too_complex",
                    f"the text so far can be read in more than {self.limits.configurations} ways; "
                    "make the grammar less ambiguous",
                )
            found = self._state_ids[key] = len(self.places)
            self.places.append(key)
            self._rows.append({})
            self._first.append(None)
            self._check(found)
        return found

    def _arrive(self, lexed: int, frame: int, out: set[Place]) -> None:
        label = self.lexer.labels[lexed]
        if label is not None:
            self.resume(frame, label, out)
            if self.lexer.is_final(lexed):
                return  # nothing more to read here
        out.add((lexed, frame))

    def _step(self, state: int, byte: int) -> int:
        following = self.lexer.next
        places = self.places[state]
        if len(places) == 1:  # the common case, short
            lexed, frame = places[0]
            target = following(lexed, byte)
            if target == NOTHING or self.lexer.labels[target] is None:
                return DEAD if target == NOTHING else self._intern(((target, frame),))
        out = set[Place]()
        for lexed, frame in places:
            target = following(lexed, byte)
            if target != NOTHING:
                self._arrive(target, frame, out)
        return self._intern(out) if out else DEAD
