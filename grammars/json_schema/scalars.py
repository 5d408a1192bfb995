"""The scalars of a case as terminals."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

from ramify.grammars.automata import CharAutomaton
from ramify.grammars.errors import GrammarError
from ramify.grammars.json_schema import facts, strings
from ramify.grammars.json_schema.cases import Conjunction, booleans, numbers
from ramify.grammars.json_schema.context import Context, too_complex
from ramify.grammars.json_schema.facts import Value
from ramify.grammars.json_schema.layout import BOOLEANS, NULL
from ramify.grammars.json_schema.numbers import NumberSet, number
from ramify.grammars.limits import Budget
from ramify.grammars.terminals import Literals, Terminal

Made = TypeVar("Made")


@lru_cache(maxsize=4096)
def string_list(texts: frozenset[str]) -> Literals:
    """An enum of strings: one terminal for each."""
    return Literals(map(strings.quote, texts))


@lru_cache(maxsize=4096)
def number_list(values: frozenset[Fraction], plain: bool) -> Literals:
    """An enum of numbers: each as written shortest, and integers (unless `plain`) with `.0` too."""
    texts = {text for value in values for text in spellings(value)}
    kept = [text.encode() for text in texts if not plain or text.lstrip("-").isdigit()]
    return Literals(kept)


def spellings(value: Fraction) -> set[str]:
    """The ways in which a listed number may be written."""
    if value.denominator == 1:
        whole = int(value)
        out = {str(whole), f"{whole}.0"} if abs(whole) < 10**30 else {str(whole)}
        return out | (
            {repr(float(whole))} if abs(whole) >= 10**16 and abs(whole) < 10**300 else set()
        )
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return {format(exact.normalize(), "f"), repr(float(value))}


class Scalars:
    """Makes terminals of cases."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def terminal(self, kind: str, conjunction: Conjunction, value: Value) -> Terminal | None:
        """What a case of null, boolean, number or string may be; None where nothing."""
        if kind == "null":
            return NULL
        if kind == "boolean":
            return BOOLEANS.get(booleans(conjunction))
        if kind == "string":
            return self.string(conjunction)
        allowed, listed = self.number(conjunction, value)
        if listed is not None:
            return number_list(listed, allowed.plain) if listed else None
        found = number(allowed)
        return None if found.is_empty else found

    def number(
        self, conjunction: Conjunction, value: Value
    ) -> tuple[NumberSet, frozenset[Fraction] | None]:
        """The numbers of a case: a set; if they are listed, the list."""
        allowed, listed = numbers(conjunction)
        if len(allowed.no_steps) > 1:
            too_complex(value, "more than one multipleOf under not")
        if listed is not None:
            listed = frozenset(value for value in listed if allowed.contains(value))
        return allowed, listed

    def string(self, conjunction: Conjunction) -> Terminal | None:
        """The strings of a case; None where there are none."""
        low, high = 0, None  # type: tuple[int, int | None]
        excluded = frozenset[str]()
        listed: frozenset[str] | None = None
        parts: list[facts.Pattern | facts.Format] = []
        for fact in conjunction:
            match fact:
                case facts.Length(least, most):
                    low = max(low, least)
                    high = most if high is None else high if most is None else min(high, most)
                case facts.Strings(values, holds):
                    if holds:
                        listed = values if listed is None else listed & values
                    else:
                        excluded |= values
                case facts.Pattern() | facts.Format():
                    parts.append(fact)
        if listed is not None:
            return self._listed_strings(listed - excluded, parts, low, high)
        if high is not None and low > high:
            return None
        if not excluded and not parts:
            return (
                strings.quoted_length((low, high), self._context.budget)
                if low or high is not None
                else strings.ANY_STRING
            )
        budget = self._context.budget
        if not excluded and len(parts) == 1 and parts[0].holds:
            shared = self._quoted(parts[0])
            automaton = strings.bounded(shared.automaton, low, high, budget)
            is_bounded = automaton is not shared.automaton
            found = strings.Quoted(automaton, unbounded=shared) if is_bounded else shared
        else:
            automata = [(self.automaton(part), part.holds) for part in parts]
            joined = strings.joined(automata, excluded, budget)
            found = strings.Quoted(strings.bounded(joined, low, high, budget))
        return found if found.automaton.start is not None else None

    def _quoted(self, part: facts.Pattern | facts.Format) -> strings.Quoted:
        if isinstance(part, facts.Pattern):
            return self._located(strings.quoted_pattern, part.pattern)
        return strings.quoted_format(part.name, self._context.budget)

    def automaton(self, part: facts.Pattern | facts.Format) -> CharAutomaton:
        """The texts of a pattern or format."""
        if isinstance(part, facts.Pattern):
            return self.pattern(part.pattern)
        return strings.format_automaton(part.name, self._context.budget)

    def pattern(self, pattern: str) -> CharAutomaton:
        """The texts in which a pattern matches somewhere."""
        return self._located(strings.pattern_automaton, pattern)

    def _located(self, make: Callable[[str, Budget], Made], pattern: str) -> Made:
        """Make something of a pattern; its errors say where in the schema it stands."""
        try:
            return make(pattern, self._context.budget)
        except GrammarError as error:
            place = self._context.document.patterns.get(pattern)
            if place is not None:
                schema, keyword = place
                error.pointer = f"{schema.pointer}/{keyword}"
                error.message = f"JSON Schema {error.pointer}: {error.message}"
                error.args = (error.message,)
            raise

    def _listed_strings(
        self,
        texts: frozenset[str],
        parts: Iterable[facts.Pattern | facts.Format],
        low: int,
        high: int | None,
    ) -> Terminal | None:
        kept = frozenset(
            text
            for text in texts
            if low <= len(text)
            and (high is None or len(text) <= high)
            and all(strings.matches(self.automaton(part), text) == part.holds for part in parts)
        )
        return string_list(kept) if kept else None
