"""Finds stop strings and stop patterns in text that arrives in pieces.

Positions count characters from the start of the text. The first stop is the one whose last
character comes first; of several that end there, the longest. That does not depend on how the text
was cut into pieces, and it is known as soon as it can be known.
"""

from functools import lru_cache
from typing import NamedTuple

from ramify.grammars import regex_syntax
from ramify.grammars import regex_tree as syntax
from ramify.grammars.automata import State, Table, explore
from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Budget, Limits
from ramify.grammars.regex import Regex
from ramify.lang.errors import InvalidRequest

_LIMITS = Limits(compile_seconds=0.5, explored_states=2_000)


class StopMatch(NamedTuple):
    """Where a stop stands in the text."""

    end: int
    start: int
    stop: str  # the string or the pattern as it was given


class StopScanner:
    """Reads text piece by piece until a stop is complete."""

    def __init__(self, strings: tuple[str, ...], patterns: tuple[str, ...]) -> None:
        self._strings = strings
        self._window = ""  # the end of the text: all that a stop string may have begun in
        self._window_len = max(map(len, strings), default=1) - 1
        self._threads = tuple(_PatternThreads(pattern) for pattern in patterns)
        self._length = 0

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to look for."""
        return not self._strings and not self._threads

    def read(self, text: str, *, may_stop: bool) -> StopMatch | None:
        """The first stop that ends inside `text`; None too if it may not stop yet.

        A stop that ends where it may not is passed over for good.
        """
        found = [match for threads in self._threads if (match := threads.read(text, self._length))]
        found += self._find_strings(text)
        self._length += len(text)
        self._window = (self._window + text)[-self._window_len :] if self._window_len else ""
        return min(found, default=None) if may_stop else None

    def held_from(self) -> int:
        """Where the earliest stop may have begun that is not complete yet; else the text's end."""
        starts = [self._length, *(threads.held_from(self._length) for threads in self._threads)]
        starts += [self._length - _overlap(self._window, stop) for stop in self._strings]
        return min(starts)

    def _find_strings(self, text: str) -> list[StopMatch]:
        joined = self._window + text
        origin = self._length - len(self._window)
        found = []
        for stop in self._strings:
            at = joined.find(stop, max(0, len(self._window) - len(stop) + 1))
            if at >= 0:
                found.append(StopMatch(origin + at + len(stop), origin + at, stop))
        return found


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that `stop` begins with, less than all of it."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if stop[size - 1] == text[-1] and text.endswith(stop[:size]):
            return size
    return 0


class _PatternThreads:
    """One pattern tried from every position at once: automaton state -> earliest start.

    Starts in the same state have the same future, so there are never more threads than states:
    the time per character is bounded, whatever the pattern.
    """

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._table = compile_stop_pattern(pattern)
        self._starts: dict[State, int] = {}

    def read(self, text: str, position: int) -> StopMatch | None:
        table, first = self._table, None
        for at, char in enumerate(text, position):
            cls = table.alphabet.class_of(ord(char))
            ended: dict[State, int] = {}
            # A new start comes last: setdefault keeps the earlier one in the same state.
            for state, start in (*self._starts.items(), (table.start, at)):
                following = table.step(state, cls)
                if following is not None:
                    ended[following] = min(start, ended.get(following, start))
            self._starts = ended
            if first is None:
                accepted = [start for state, start in ended.items() if table.accepts(state)]
                if accepted:
                    first = StopMatch(at + 1, min(accepted), self._pattern)
        return first

    def held_from(self, end: int) -> int:
        return min(self._starts.values(), default=end)


@lru_cache(maxsize=256)
def compile_stop_pattern(pattern: str) -> Table:
    """The automaton of one stop pattern; `InvalidRequest` if it cannot be watched for."""
    try:
        tree = regex_syntax.parse(pattern)
        if _looks_around(tree):
            raise InvalidRequest(
                f"stop_regex {pattern!r}: anchors, \\b and lookaround are not supported in a stop "
                "pattern, which may begin anywhere; write the characters to stop at",
                code="unsupported_regex",
                param="stop_regex",
            )
        budget = Budget(_LIMITS)
        regex = Regex(tree, budget)
        if regex.start is not None:
            table = explore(regex, budget, "stop_regex").table
            if table.start is not None and not table.accepts(table.start):
                return table
    except GrammarError as error:
        raise InvalidRequest(
            f"stop_regex {pattern!r}: {error.message}", code=error.code, param="stop_regex"
        ) from error
    raise InvalidRequest(
        f"stop_regex {pattern!r} matches {'no text' if regex.start is None else 'the empty text'}: "
        "must match at least one character, and something",
        code="invalid_regex",
        param="stop_regex",
    )


def _looks_around(tree: syntax.Tree) -> bool:
    match tree:
        case syntax.Edge() | syntax.Previous() | syntax.Look():
            return True
        case syntax.Sequence(parts) | syntax.Choice(parts):
            return any(map(_looks_around, parts))
        case syntax.Repeat(body):
            return _looks_around(body)
    return False
