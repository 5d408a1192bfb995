"""Automata over characters: any text, word lists, tables, and boolean combinations.

An automaton steps over the classes of its `alphabet`. Invariant: from every state that `step`
returns an accepting state can be reached; None stands for all the others. So a text that is part
of the way through can always be finished.
"""

from collections import Counter, deque
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from ramify.grammars.charsets import Alphabet, alphabet_of, common_alphabet
from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Budget

State = Any  # hashable, opaque to all but the automaton
FAR = 1 << 30  # a distance past all others: an end cannot be reached


class CharAutomaton(Protocol):
    """Deterministic, made state by state as it is asked."""

    alphabet: Alphabet
    start: State | None  # None: the empty language

    def row(self, state: State) -> Sequence[State | None]:
        """The states after a character of each class."""

    def step(self, state: State, cls: int) -> State | None:
        """The state after a character of this class."""

    def accepts(self, state: State) -> bool:
        """Is what was read so far in the language?"""

    def distance(self, state: State) -> int:
        """No text ends in fewer characters than this."""


class AnyText:
    """Every text. One alphabet for all uses, so that its spelling is shared."""

    alphabet = alphabet_of(frozenset())
    start: State | None = 0
    farthest = 0

    def row(self, state: State) -> Sequence[State | None]:
        """There is one class."""
        return (state,)

    def step(self, state: State, cls: int) -> State | None:
        """Always the one state."""
        return state

    def accepts(self, state: State) -> bool:
        """Always."""
        return True

    def distance(self, state: State) -> int:
        """None."""
        return 0


class Words:
    """A finite list of texts, as a trie."""

    def __init__(self, words: Iterable[str]) -> None:
        words = list(words)
        self.alphabet = alphabet_of(
            frozenset(((ord(char), ord(char)),) for char in {*"".join(words)})
        )
        self._next: list[dict[int, int]] = [{}]
        self._final = set[int]()
        self.start: State | None = 0 if words else None
        class_of = {char: self.alphabet.class_of(ord(char)) for char in {*"".join(words)}}
        for word in words:
            node = 0
            for char in word:
                following = self._next[node]
                cls = class_of[char]
                if cls not in following:
                    following[cls] = len(self._next)
                    self._next.append({})
                node = following[cls]
            self._final.add(node)

    def row(self, state: State) -> Sequence[State | None]:
        """The children."""
        return [self._next[state].get(cls) for cls in range(self.alphabet.num_classes)]

    def step(self, state: State, cls: int) -> State | None:
        """Down the trie."""
        return self._next[state].get(cls)

    def accepts(self, state: State) -> bool:
        """Is this the end of a word?"""
        return state in self._final

    def distance(self, state: State) -> int:
        """To the end of the shortest word below."""
        return self._distances[state]

    @cached_property
    def _distances(self) -> list[int]:
        out = [FAR] * len(self._next)
        for node in reversed(range(len(out))):  # children come after their parents
            below = min((out[child] + 1 for child in self._next[node].values()), default=FAR)
            out[node] = 0 if node in self._final else below
        return out


Rows = list[list[int | None]]  # [state][class]


class Table:
    """An automaton written out: states are row numbers, 0 the start; no row leads to a dead one."""

    def __init__(
        self,
        alphabet: Alphabet,
        rows: Rows,
        final: list[bool],
        sources: Sequence[Collection[int]] | None = None,
    ) -> None:
        self.alphabet = alphabet
        self.final = final
        sources = sources or _sources(rows)  # by state: those with an edge to it
        self._distances = _distances(sources, final)
        dead = {state for state, far in enumerate(self._distances) if far == FAR}
        self.rows = rows
        if dead:
            self.rows = [
                row
                if dead.isdisjoint(row)
                else [None if target in dead else target for target in row]
                for row in rows
            ]
        self._sources = None if dead else sources  # of rows that are left as they were
        self.start: int | None = None if 0 in dead else 0

    def row(self, state: State) -> Sequence[State | None]:
        """Look it up."""
        return self.rows[state]

    def step(self, state: State, cls: int) -> State | None:
        """Look it up."""
        return self.rows[state][cls]

    def accepts(self, state: State) -> bool:
        """Look it up."""
        return self.final[state]

    def distance(self, state: State) -> int:
        """Of the shortest way."""
        return self._distances[state]

    def state_after(self, text: str) -> int | None:
        """Where a text leads."""
        state = self.start
        class_of, rows = self.alphabet.class_of, self.rows
        for code in map(ord, text):
            if state is None:
                return None
            state = rows[state][class_of(code)]
        return state

    @cached_property
    def farthest(self) -> int:
        """The largest distance."""
        return max((far for far in self._distances if far < FAR), default=0)

    @cached_property
    def endless(self) -> frozenset[int]:
        """The states that texts without end lead to: there is a circle on the way to them."""
        targets = [{target for target in row if target is not None} for row in self.rows]
        num_sources = Counter(target for each in targets for target in each)
        todo = [state for state in range(len(targets)) if not num_sources[state]]
        for state in todo:  # which grows meanwhile
            for target in targets[state]:
                num_sources[target] -= 1
                if not num_sources[target]:
                    todo.append(target)
        return frozenset(range(len(targets))) - {*todo}

    def ending(self, final: Iterable[bool]) -> "Table":
        """The same but for where its texts end; the states keep their numbers."""
        return Table(self.alphabet, self.rows, [*final], self._sources)


def _sources(rows: Rows) -> list[list[int]]:
    out: list[list[int]] = [[] for _ in rows]
    for index, row in enumerate(rows):
        for target in {*row}:
            if target is not None:
                out[target].append(index)
    return out


def _distances(sources: Sequence[Collection[int]], final: Sequence[bool]) -> list[int]:
    """Characters from each state to the nearest final one, FAR if there is no way."""
    out = [0 if is_final else FAR for is_final in final]
    todo = deque(index for index, is_final in enumerate(final) if is_final)
    while todo:
        state = todo.popleft()
        for source in sources[state]:
            if out[source] == FAR:
                out[source] = out[state] + 1
                todo.append(source)
    return out


class Explored(NamedTuple):
    """All of an automaton."""

    table: Table
    states: list[State]  # of the automaton, by row


class Explorable(Protocol):
    """As a `CharAutomaton`, but its rows may lead to states that cannot accept."""

    alphabet: Alphabet
    start: State | None

    def row(self, state: State) -> Sequence[State | None]:
        """The states after a character of each class."""

    def accepts(self, state: State) -> bool:
        """Is what was read so far in the language?"""


def explore(automaton: Explorable, budget: Budget, what: str) -> Explored:
    """The reachable part of an automaton, less the states that cannot accept."""
    number: dict[Hashable, int | None] = {None: None}
    states: list[State] = []
    rows: Rows = []
    if automaton.start is not None:
        number[automaton.start] = 0
        states.append(automaton.start)
    while len(rows) < len(states):
        budget.tick(automaton.alphabet.num_classes)
        row = automaton.row(states[len(rows)])
        for target in dict.fromkeys(row):
            if target not in number:
                number[target] = len(states)
                states.append(target)
        rows.append([*map(number.__getitem__, row)])
        if len(states) > budget.limits.explored_states:
            raise GrammarError(
                "grammar_too_complex",
                f"{what}: more than {budget.limits.explored_states} automaton states; simplify it",
            )
    final = [bool(automaton.accepts(state)) for state in states]
    return Explored(Table(automaton.alphabet, rows, final), states)


class SideBySide:
    """Automata run together. A state is theirs; None where one has failed."""

    def __init__(
        self, parts: Sequence[CharAutomaton], accepts: Callable[[tuple[State, ...]], bool]
    ) -> None:
        self._parts = parts
        self.alphabet, self._classes = common_alphabet(*(part.alphabet for part in parts))
        self.start: State | None = tuple(part.start for part in parts)
        self.accepts = accepts

    def row(self, state: State) -> Sequence[State | None]:
        """The parts' rows."""
        return [*zip(*self.rows(state), strict=True)]

    def rows(self, state: State) -> list[list[State | None]]:
        """[part][class of all] the parts' states after a character."""
        out: list[list[State | None]] = []
        for part, classes, each in zip(self._parts, self._classes, state, strict=True):
            row = () if each is None else part.row(each)
            out.append([row[cls] for cls in classes] if row else [None] * len(classes))
        return out


def few_texts(table: Table, limit: int) -> list[str] | None:
    """All texts of a table; None where there are more than `limit`."""
    if table.endless:
        return None
    texts: list[str] = []
    chars = [
        [code for low, high in charset for code in range(low, min(high, low + limit) + 1)]
        for charset in table.alphabet.class_sets()
    ]
    todo: list[tuple[int, str]] = [] if table.start is None else [(table.start, "")]
    while todo:
        state, text = todo.pop()
        if table.final[state]:
            texts.append(text)
        for cls, target in enumerate(table.rows[state]):
            if target is not None:
                todo += [(target, text + chr(code)) for code in chars[cls]]
        if len(texts) + len(todo) > limit or len(text) > 4 * limit:
            return None
    return sorted(texts)
