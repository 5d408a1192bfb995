"""Outlines: cheap upper bounds on the values that a schema allows, to tell cases apart early.

Invariant: every value that satisfies a schema (or Value) is in its outline. Nothing else is
promised, so an outline may prove that two things never hold together, but never that they do.
"""

from collections.abc import Iterable
from typing import Any as Json
from typing import NamedTuple

from ramify.grammars.json_schema.facts import Constant, Literal, Value
from ramify.grammars.json_schema.json_values import TYPES, canonical_json, type_of
from ramify.grammars.json_schema.schema import NO_MEANING, Schema

_EXACT_KEYWORDS = frozenset(("const", "enum", "type"))  # a schema of these is its own outline
_BRANCHES = frozenset(("allOf", "anyOf", "oneOf"))
_NAMES = (*TYPES, "integer")


class Outline(NamedTuple):
    """Values of these types; among the constants (canonical JSON), unless None; none excluded."""

    types: frozenset[str] = frozenset(TYPES)
    constants: frozenset[str] | None = None
    excluded: frozenset[str] = frozenset()

    @property
    def is_empty(self) -> bool:
        """Is there surely no such value?"""
        if self.constants is None:
            return not self.types
        return not any(_type_of_text(text) in self.types for text in self.constants - self.excluded)

    def both(self, other: "Outline") -> "Outline":
        """Values in either outline at once."""
        if other is ANY or self is ANY:
            return self if other is ANY else other
        constants = self.constants
        if constants is None:
            constants = other.constants
        elif other.constants is not None:
            constants &= other.constants
        return Outline(self.types & other.types, constants, self.excluded | other.excluded)

    def either(self, other: "Outline") -> "Outline":
        """Values in one outline or the other."""
        if self.is_empty or other.is_empty:
            return other if self.is_empty else self
        listed = self.constants is not None and other.constants is not None
        constants = (self.constants or frozenset()) | (other.constants or frozenset())
        return Outline(
            self.types | other.types,
            constants if listed else None,
            self.excluded & other.excluded,
        )


ANY = Outline()
NONE = Outline(frozenset())


_OF_TYPE = {name: Outline(frozenset(("number" if name == "integer" else name,))) for name in _NAMES}


class Outlines:
    """The outlines of one document's schemas, made once each."""

    def __init__(self) -> None:
        self._made: dict[Schema, Outline] = {}
        self._of_values: dict[Value, Outline] = {}

    def of_value(self, value: Value) -> Outline:
        """The outline of a Value."""
        found = self._of_values.get(value)
        if found is None:
            found = self._of_values[value] = self._of_value(value)
        return found

    def _of_value(self, value: Value) -> Outline:
        out = ANY
        for item in value:
            if isinstance(item, Literal):
                found = self.of_schema(item.schema) if item.holds else _opposite(item.schema)
            elif isinstance(item, Constant):
                texts = frozenset((item.text,))
                found = Outline(constants=texts) if item.holds else Outline(excluded=texts)
            else:
                found = _union(self.of_value(option) for option in item.values)
            out = out.both(found)
        return out

    def of_schema(self, schema: Schema) -> Outline:
        """The outline of a schema."""
        found = self._made.get(schema)
        if found is None:
            self._made[schema] = ANY  # for references back to it
            found = self._made[schema] = self._outline(schema)
        return found

    def _outline(self, schema: Schema) -> Outline:
        value = schema.value
        if isinstance(value, bool):
            return ANY if value else NONE
        if "$ref" in value:
            out = self.of_schema(schema.document.resolve(schema, "$ref"))
            if schema.document.draft <= 7:
                return out
        else:
            out = ANY
        out = out.both(_own(schema))
        if _BRANCHES.isdisjoint(value):
            return out
        for keyword in ("allOf", "anyOf", "oneOf"):
            branches = value.get(keyword)
            if isinstance(branches, list):
                found = [self.of_schema(schema.below(keyword, at)) for at in range(len(branches))]
                for branch in found if keyword == "allOf" else (_union(found),):
                    out = out.both(branch)
        return out


def _own(schema: Schema) -> Outline:
    named = schema.get("type")
    if isinstance(named, str):  # mostly
        out = _OF_TYPE.get(named, ANY)
    else:
        names = _type_names(schema)
        out = ANY if names is None else _union(_OF_TYPE[name] for name in names)
    if "const" in schema.value:
        out = out.both(_listed((schema.value["const"],)))
    if isinstance(schema.get("enum"), list):
        out = out.both(_listed(schema.value["enum"]))
    return out


def _type_names(schema: Schema) -> frozenset[str] | None:
    """The names in `type`; None where there are none, or others than types (refused elsewhere)."""
    named = schema.get("type")
    names = named if isinstance(named, list) else [named]
    return frozenset(names) if all(name in _NAMES for name in names) else None


def _opposite(schema: Schema) -> Outline:
    """Of the values that do not satisfy the schema."""
    if isinstance(schema.value, bool):
        return NONE if schema.value else ANY
    if not schema.value.keys() - NO_MEANING <= _EXACT_KEYWORDS:
        return ANY
    names = _type_names(schema)
    own = _own(schema)
    if own.constants is None:
        return ANY if names is None else Outline(frozenset(TYPES) - names)
    if names is not None and "integer" in names:  # which of the numbers are, drafts disagree
        return ANY
    return Outline(
        excluded=frozenset(text for text in own.constants if _type_of_text(text) in own.types)
    )


def _listed(values: Iterable[Json]) -> Outline:
    values = list(values)
    types = frozenset(map(type_of, values))
    return Outline(types, frozenset(map(canonical_json, values)))


def _union(outlines: Iterable[Outline]) -> Outline:
    out = NONE
    for outline in outlines:
        out = out.either(outline)
    return out


_FIRST_CHARS = {
    '"': "string",
    "[": "array",
    "{": "object",
    "t": "boolean",
    "f": "boolean",
    "n": "null",
}


def _type_of_text(text: str) -> str:
    return _FIRST_CHARS.get(text[0], "number")
