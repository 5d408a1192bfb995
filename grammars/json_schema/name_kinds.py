"""Names of members told apart by the conditions that they meet."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ramify.grammars.automata import CharAutomaton, SideBySide, Table, explore, few_texts
from ramify.grammars.json_schema.facts import Keys, Value
from ramify.grammars.json_schema.layout import Blanks
from ramify.grammars.json_schema.names import ClassifiedNames
from ramify.grammars.limits import Budget

MAX_LISTED_NAMES = 64  # a finite set of names up to this size is written out

Condition = str | Value  # a pattern that matches in the name; or what the name satisfies
Kind = frozenset[Any]  # the Conditions that a name meets


class NameKinds:
    """All names, each of the kind that the conditions make it."""

    def __init__(self, automata: Mapping[Condition, CharAutomaton], budget: Budget) -> None:
        found = explore(SideBySide([*automata.values()], lambda _: True), budget, "property names")
        self._table = found.table
        self._kinds: list[Kind] = [  # by state of the table
            frozenset(
                condition
                for (condition, automaton), state in zip(automata.items(), states, strict=True)
                if state is not None and automaton.accepts(state)
            )
            for states in found.states
        ]
        self.all = tuple(dict.fromkeys(self._kinds))
        self._tables: dict[frozenset[Kind], Table] = {frozenset(self.all): self._table}
        self._terminals: dict[tuple[Blanks, tuple[Kind, ...]], ClassifiedNames] = {}

    def of_name(self, name: str) -> Kind | None:
        """The kind of a name; None where it is not a text that JSON can write."""
        state = self._table.state_after(name)
        return None if state is None else self._kinds[state]

    def few(self, kinds: Iterable[Kind], besides: Sequence[str]) -> list[str] | None:
        """The names of these kinds besides some; None if they are many."""
        kinds = frozenset(kinds)
        if any(self._kinds[state] in kinds for state in self._table.endless):
            return None
        found = few_texts(self._only(kinds), MAX_LISTED_NAMES + len(besides))
        left = None if found is None else sorted({*found} - {*besides})
        return left if left is None or len(left) <= MAX_LISTED_NAMES else None

    def terminal(self, kinds: Iterable[Kind], blanks: Blanks) -> ClassifiedNames:
        """The names of these kinds, labelled by the kind's place among them."""
        key = (blanks, tuple(kinds))
        found = self._terminals.get(key)
        if found is None:
            number = {kind: label for label, kind in enumerate(key[1])}
            labels = {at: number[kind] for at, kind in enumerate(self._kinds) if kind in number}
            table = self._only(frozenset(number))
            found = self._terminals[key] = ClassifiedNames(table, labels, blanks)
        return found

    def _only(self, kinds: frozenset[Kind]) -> Table:
        found = self._tables.get(kinds)
        if found is None:
            found = self._table.ending(kind in kinds for kind in self._kinds)
            self._tables[kinds] = found
        return found


def conditions_of(keys: Keys) -> Iterator[Condition]:
    """What has to be known of a name to tell whether it is one of these."""
    if keys.pattern is not None:
        yield keys.pattern
    yield from sorted(keys.outside_patterns)
    if keys.outside_value is not None:
        yield keys.outside_value


def is_among(keys: Keys, kind: Kind) -> bool:
    """Is a name of this kind (not a declared one) among the keys?"""
    return (
        (keys.pattern is None or keys.pattern in kind)
        and not keys.outside_patterns & kind
        and keys.outside_value not in kind
    )
