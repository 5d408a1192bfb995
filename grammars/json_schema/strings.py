"""JSON strings: patterns, formats, lengths and excluded words as terminals in quotes."""

from collections.abc import Iterable, Sequence
from typing import Any

from ramify.grammars import regex_syntax
from ramify.grammars.automata import (
    AnyText,
    CharAutomaton,
    State,
    Table,
    Words,
    explore,
)
from ramify.grammars.charsets import Alphabet, SpellingNode, spelling
from ramify.grammars.errors import GrammarError
from ramify.grammars.json_schema.formats import FORMATS, MAX_LENGTH
from ramify.grammars.json_schema.json_values import quoted
from ramify.grammars.limits import Budget, Remembered
from ramify.grammars.products import Product
from ramify.grammars.regex import Regex, regex_automaton
from ramify.grammars.terminals import (
    Chars,
    Key,
    Shadow,
    Terminal,
    text_move,
    text_transitions,
)

OPEN, CLOSED = "open", "closed"
MAX_REMEMBERED_STEPS = 4_000_000  # of all automata that one cache keeps
ANY_TEXT = AnyText()
ANY_ROOT = spelling(AnyText.alphabet, json=True)


def quote(text: str) -> bytes:
    """A text as a JSON string, the way it is written here."""
    return quoted(text).encode("utf-8", "surrogatepass")


class Quoted(Terminal):
    """An automaton's texts as JSON strings. Key: OPEN, (its state, spelling node), CLOSED."""

    is_wide = True

    def __init__(
        self,
        automaton: CharAutomaton,
        root: SpellingNode | None = None,
        unbounded: "Quoted | None" = None,
    ) -> None:
        self.automaton = automaton
        if automaton.alphabet is AnyText.alphabet:
            root = ANY_ROOT
        self.root = root or spelling(automaton.alphabet, json=True)
        self.start: Key = OPEN
        self._unbounded = unbounded  # without the bounds of a `Counted`

    def transitions(self, key: Key) -> dict[int, Key]:
        """Bytes of the characters that can be read here, and the quotes."""
        if not isinstance(key, tuple):
            return {0x22: (self.automaton.start, self.root)} if key == OPEN else {}
        out = text_transitions(self.automaton, self.root, key)
        if key[1] is self.root and self.automaton.accepts(key[0]):
            out[0x22] = CLOSED
        return out

    def chars(self, key: Key) -> Chars | None:
        """Between the quotes."""
        if not isinstance(key, tuple):
            return None
        state, node = key
        return Chars(self.automaton, self.root, state, node, lambda state: CLOSED)

    def move(self, key: Key, byte: int) -> Key | None:
        """One byte of a character, or a quote."""
        if not isinstance(key, tuple):
            return (self.automaton.start, self.root) if key == OPEN and byte == 0x22 else None
        if byte == 0x22 and key[1] is self.root:
            return CLOSED if self.automaton.accepts(key[0]) else None
        return text_move(self.automaton, self.root, key, byte)

    def distance(self, key: Key) -> int:
        """In characters, with the closing quote."""
        return 1 + self.automaton.distance(key[0]) if isinstance(key, tuple) else 0

    def label(self, key: Key) -> int | None:
        """Ends at the closing quote."""
        return 0 if key == CLOSED else None

    def shadow(self, key: Key) -> Shadow | None:
        """Where the length is bounded: the same without the bound, as far as it does not matter."""
        counted = self.automaton
        if not isinstance(key, tuple) or not isinstance(counted, Counted):
            return None
        (inner, count), node = key
        least = max(counted.low - count, 0)
        if isinstance(counted.inner, AnyText):
            most = None if counted.high is None else counted.high - count
            return Shadow(ANY_STRING, (inner, node), lengths=(least, most))
        reach = None if counted.high is None else counted.high - count - counted.farthest
        if least or (reach is not None and reach <= 0):
            return None
        if self._unbounded is None or self._unbounded.automaton is not counted.inner:
            self._unbounded = Quoted(counted.inner, self.root)
        return Shadow(self._unbounded, (inner, node), ({},), reach=reach)


ANY_STRING = Quoted(ANY_TEXT)


class Counted:
    """An automaton's texts of `low` to `high` characters; no most if `high` is None.

    A state is live if a text can be finished from it with a number of characters that is allowed.
    Once there are enough, the shortest way tells. Before, the sets of states that finish in exactly
    n more characters, n = 0, 1, ..., do: they repeat themselves sooner or later, and are kept until
    then.
    """

    def __init__(
        self, inner: Table | AnyText | Regex, low: int, high: int | None, budget: Budget
    ) -> None:
        self.alphabet: Alphabet = inner.alphabet
        self.inner = inner
        self.low = low
        self.high = high
        self._finishing: list[frozenset[int]] = []  # [n]: states that finish in exactly n
        self._period = 0  # sets from len - period on repeat for ever; 0: all later are empty
        farthest = inner.farthest
        assert farthest is not None, "distances have to be exact"
        self.farthest: int = farthest
        if low and not isinstance(inner, AnyText):
            assert isinstance(inner, Table), "which lengths there are takes a look at all states"
            self._find_finishing(inner, budget)
        self.start: State | None = (inner.start, 0)
        if inner.start is None or not self._is_live(inner.start, 0):
            self.start = None

    def row(self, state: State) -> Sequence[State | None]:
        """One character more."""
        return [self.step(state, cls) for cls in range(self.alphabet.num_classes)]

    def step(self, state: State, cls: int) -> State | None:
        """One character more."""
        inner, count = state
        if self.high is not None:
            if count >= self.high:
                return None
            count += 1
        else:
            count = min(count + 1, self.low)
        target = self.inner.step(inner, cls)
        return (target, count) if target is not None and self._is_live(target, count) else None

    def accepts(self, state: State) -> bool:
        """Long enough, and a text of the automaton."""
        return bool(state[1] >= self.low and self.inner.accepts(state[0]))

    def distance(self, state: State) -> int:
        """As the automaton's, and to the least length."""
        inner, count = state
        return max(self.inner.distance(inner), self.low - int(count))

    def _find_finishing(self, table: Table, budget: Budget) -> None:
        sources: list[set[int]] = [set() for _ in table.rows]
        for index, row in enumerate(table.rows):
            for target in row:
                if target is not None:
                    sources[target].add(index)
        current = frozenset(index for index, final in enumerate(table.final) if final)
        seen: dict[frozenset[int], int] = {}
        while current and current not in seen:
            budget.tick()
            seen[current] = len(self._finishing)
            self._finishing.append(current)
            if self.high is not None and len(self._finishing) > self.high:
                return
            if len(self._finishing) > budget.limits.explored_states:
                raise GrammarError(
                    "grammar_too_complex",
                    "string: pattern and length together need too many states",
                )
            current = frozenset(source for target in current for source in sources[target])
        if current:
            self._period = len(self._finishing) - seen[current]

    def _is_live(self, inner: Any, count: int) -> bool:
        if isinstance(self.inner, AnyText):
            return True
        if self.high is not None and count + self.inner.distance(inner) > self.high:
            return False
        if count >= self.low:
            return True
        least = self.low - count
        size, period = len(self._finishing), self._period
        most = least + size + period if self.high is None else self.high - count
        if any(inner in self._finishing[n] for n in range(least, min(size, most + 1))):
            return True
        first = max(least, size)  # from size on, the last `period` sets again and again
        return bool(period) and any(
            inner in self._finishing[size - period + (n - size) % period]
            for n in range(first, min(first + period, most + 1))
        )


def _make_pattern(pattern: str, budget: Budget) -> CharAutomaton:
    tree = regex_syntax.parse(pattern, "ecma")
    return regex_automaton(tree, budget, f"pattern {pattern!r}", search=True)


def _make_format(name: str, budget: Budget) -> CharAutomaton:
    regex = regex_automaton(regex_syntax.parse(FORMATS[name]), budget, f"format {name!r}")
    return bounded(regex, 0, MAX_LENGTH.get(name), budget)


# ECMA-262 search: the pattern matches somewhere in the text
pattern_automaton = Remembered(_make_pattern, most=1024, steps=MAX_REMEMBERED_STEPS)
format_automaton = Remembered(_make_format, most=64, steps=MAX_REMEMBERED_STEPS)


def matches(automaton: CharAutomaton, text: str) -> bool:
    """Is the text one of the automaton's?"""
    state = automaton.start
    for char in text:
        if state is None:
            return False
        state = automaton.step(state, automaton.alphabet.class_of(ord(char)))
    return state is not None and automaton.accepts(state)


def whole(automaton: CharAutomaton, budget: Budget, what: str) -> Table:
    """The automaton explored."""
    if isinstance(automaton, Table):
        return automaton
    return explore(automaton, budget, what).table


def joined(
    parts: Iterable[tuple[CharAutomaton, bool]], excluded: frozenset[str], budget: Budget
) -> CharAutomaton:
    """Texts with all (not the False ones) of the parts, less some."""
    parts = [*parts, *([(Words(sorted(excluded)), False)] if excluded else [])]
    if not parts:
        return ANY_TEXT
    if len(parts) == 1 and parts[0][1]:
        return parts[0][0]
    return Product(parts, budget, "string")


def bounded(automaton: CharAutomaton, low: int, high: int | None, budget: Budget) -> CharAutomaton:
    """Its texts of low to high characters."""
    if isinstance(automaton, Counted):
        highs = [most for most in (high, automaton.high) if most is not None]
        return bounded(automaton.inner, max(low, automaton.low), min(highs, default=None), budget)
    if automaton.start is None:
        return automaton
    if low <= automaton.distance(automaton.start):
        low = 0
    if low == 0 and high is None:
        return automaton
    if isinstance(automaton, AnyText):
        return Counted(automaton, low, high, budget)
    if low == 0 and isinstance(automaton, Regex) and automaton.farthest is not None:
        return Counted(automaton, low, high, budget)
    return Counted(whole(automaton, budget, "string"), low, high, budget)


# strings as terminals: one for each, so that its lexer states are shared
quoted_pattern = Remembered[str, Quoted](
    lambda pattern, budget: Quoted(pattern_automaton(pattern, budget)),
    most=4096,
    steps=MAX_REMEMBERED_STEPS,
)
quoted_format = Remembered[str, Quoted](
    lambda name, budget: Quoted(format_automaton(name, budget)),
    most=64,
    steps=MAX_REMEMBERED_STEPS,
)
quoted_length = Remembered[tuple[int, int | None], Quoted](
    lambda bounds, budget: Quoted(Counted(ANY_TEXT, *bounds, budget)),
    most=4096,
    steps=MAX_REMEMBERED_STEPS,
)
