"""Values by number: so that it can be told whether two that were written are equal."""

import json
from collections.abc import Hashable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from ramify.grammars.json_schema.json_values import canonical_json, type_of

UNKNOWN = 0  # the number of a value that was not read yet


class Recorder:
    """Equal values have one number."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._texts: dict[int, str] = {}
        self._scalars: dict[bytes, int] = {}  # as they were written

    def number(self, value: Hashable) -> int:
        """The number of an array or object, given by the numbers of its parts."""
        return self._numbers.setdefault(value, len(self._numbers) + 1)

    def scalar(self, text: bytes) -> int:
        """The number of a scalar, given as JSON."""
        number = self._scalars.get(text)
        if number is None:
            value = json.loads(text, parse_float=Decimal)
            kind = type_of(value)
            number = self.number((kind, Fraction(value) if kind == "number" else value))
            self._texts.setdefault(number, canonical_json(value))
            self._scalars[text] = number
        return number

    def texts(self, numbers: frozenset[int]) -> frozenset[str]:
        """The canonical JSON of those that are scalars."""
        return frozenset(self._texts[number] for number in numbers if number in self._texts)


class Noted(NamedTuple):
    """What is known of an array or object that is being recorded."""

    value: tuple[int, ...] | frozenset[tuple[str | None, int]]  # items, or members by name
    unlike: frozenset[int]  # it may not become one of these
    name: str | None = None  # of the member that is being written


def can_differ(choices: Sequence[frozenset[str]], seen: frozenset[str]) -> bool:
    """Can one text be taken of each of the choices, all different and none seen?"""
    taken: dict[str, int] = {}

    def take(at: int, tried: set[str]) -> bool:
        for text in choices[at] - seen:
            if text not in tried:
                tried.add(text)
                if text not in taken or take(taken[text], tried):
                    taken[text] = at
                    return True
        return False

    if len(choices) > len(frozenset[str]().union(*choices)):
        return False
    return all(take(at, set()) for at in range(len(choices)))
