"""Automata over characters: any text, word lists, tables, and boolean combinations.

An automaton steps over the classes of its `alphabet`. Invariant: from every state that `step`
returns an accepting state can be reached; None stands for all the others. So a text that is part
of the way through can always be finished.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, Protocol

from ramify.grammars.charsets import Alphabet, alphabet_of, common_alphabet
from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Budget

State = Any  # hashable, opaque to all but the automaton
FAR = 1 << 30  # a distance past all others: an end cannot be reached


class CharAutomaton(Protocol):
    """Deterministic, made state by state as it is asked."""

    alphabet: Alphabet
    start: State | None  # None: the empty language

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
        for word in words:
            node = 0
            for char in word:
                following = self._next[node]
                cls = self.alphabet.class_of(ord(char))
                if cls not in following:
                    following[cls] = len(self._next)
                    self._next.append({})
                node = following[cls]
            self._final.add(node)

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


class Table:
    """An automaton explored whole: states are row numbers, dead ones are gone."""

    def __init__(
        self,
        alphabet: Alphabet,
        rows: list[list[int | None]],
        final: list[bool],
        start: int | None,
        keys: list[Any],
    ) -> None:
        self.alphabet = alphabet
        self.rows = rows  # [state][class] -> state or None
        self.final = final
        self.start: State | None = start
        self.keys = keys  # the state of what was explored, of each row

    def step(self, state: State, cls: int) -> State | None:
        """Look it up."""
        return self.rows[state][cls]

    def accepts(self, state: State) -> bool:
        """Look it up."""
        return self.final[state]

    def distance(self, state: State) -> int:
        """Of the shortest way."""
        return self._distances[state]

    @cached_property
    def _distances(self) -> list[int]:
        return distances(self.rows, self.final)


def explore(
    alphabet: Alphabet,
    start: Hashable,
    step: Callable[[Any, int], Any],
    accepts: Callable[[Any], bool],
    budget: Budget,
    what: str,
) -> Table:
    """The reachable part of a deterministic automaton, less the states that cannot accept."""
    number: dict[Hashable, int] = {start: 0}
    keys: list[Hashable] = [start]
    rows: list[list[int | None]] = []
    while len(rows) < len(keys):
        budget.tick()
        row: list[int | None] = []
        for cls in range(alphabet.num_classes):
            target = step(keys[len(rows)], cls)
            if target is not None and target not in number:
                number[target] = len(keys)
                keys.append(target)
            row.append(None if target is None else number[target])
        rows.append(row)
        if len(keys) > budget.limits.explored_states:
            raise GrammarError(
                "grammar_too_complex",
                f"{what}: more than {budget.limits.explored_states} automaton states; simplify it",
            )
    final = [bool(accepts(key)) for key in keys]
    far = distances(rows, final)
    for row in rows:
        row[:] = [None if target is None or far[target] == FAR else target for target in row]
    return Table(alphabet, rows, final, 0 if far[0] < FAR else None, keys)


def distances(rows: Sequence[Sequence[int | None]], final: Sequence[bool]) -> list[int]:
    """Characters from each state to the nearest final one, FAR if there is no way."""
    sources: list[list[int]] = [[] for _ in rows]
    for index, row in enumerate(rows):
        for target in {*row}:
            if target is not None:
                sources[target].append(index)
    out = [0 if is_final else FAR for is_final in final]
    todo = deque(index for index, is_final in enumerate(final) if is_final)
    while todo:
        state = todo.popleft()
        for source in sources[state]:
            if out[source] == FAR:
                out[source] = out[state] + 1
                todo.append(source)
    return out


def side_by_side(
    parts: Sequence[CharAutomaton],
    ends: Callable[[tuple[Any, ...]], bool],
    accepts: Callable[[tuple[Any, ...]], bool],
    budget: Budget,
    what: str,
) -> Table:
    """The automata run together, explored. A state is theirs (None: that one has failed); texts are
    given up where `ends` says that nothing can be accepted any more."""
    alphabet, classes = common_alphabet(*(part.alphabet for part in parts))

    def step(states: tuple[Any, ...], cls: int) -> tuple[Any, ...] | None:
        out = tuple(
            None if state is None else part.step(state, mapped[cls])
            for part, mapped, state in zip(parts, classes, states, strict=True)
        )
        return None if ends(out) else out

    start = tuple(part.start for part in parts)
    if ends(start):
        return Table(alphabet, [], [], None, [])
    return explore(alphabet, start, step, accepts, budget, what)


def few_texts(table: Table, limit: int) -> list[str] | None:
    """All texts of a table; None where there are more than `limit`."""
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
