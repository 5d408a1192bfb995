"""From schemas to formulas: what each keyword asks of a value of one type."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any as Json
from typing import NamedTuple

from ramify.grammars.errors import GrammarError
from ramify.grammars.json_schema import facts
from ramify.grammars.json_schema.document import Schema
from ramify.grammars.json_schema.facts import (
    FALSE,
    NOTHING,
    TRUE,
    Constant,
    Formula,
    Keys,
    Literal,
    OneOfValues,
    Value,
    all_of,
    any_of,
    negate,
)
from ramify.grammars.json_schema.formats import FORMATS, REFUSED
from ramify.grammars.json_schema.json_values import TYPES, canonical_json, type_of
from ramify.grammars.json_schema.outline import Outlines
from ramify.grammars.json_schema.profile import Profile, plain_facts

MAX_IN_PLACE = 64  # nesting of allOf, $ref, not ... about one value
MAX_BRANCHES = 12  # of anyOf where what each evaluates has to be told apart


class Evaluated(NamedTuple):
    """Which items and members of a value the keywords that hold have looked at."""

    names: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    members: bool = False  # all of them
    num_items: int = 0  # the first ones
    items: bool = False  # all of them
    contained: frozenset[Value] = frozenset()  # and items that satisfy one of these

    def join(self, other: "Evaluated") -> "Evaluated":
        """What either has looked at."""
        return Evaluated(
            self.names | other.names,
            self.patterns | other.patterns,
            self.members or other.members,
            max(self.num_items, other.num_items),
            self.items or other.items,
            self.contained | other.contained,
        )


NOTHING_EVALUATED = Evaluated()
Case = tuple[Formula, Evaluated]  # where the formula holds, just this was evaluated


@dataclass(frozen=True, slots=True)
class Options:
    """How a schema is read."""

    formats: bool = True  # is `format` a constraint?


class Formulas:
    """The formulas of one document's schemas, made once each."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.outlines = Outlines()
        self._made: dict[tuple[Schema, str], Formula] = {}
        self._cases: dict[tuple[Schema, str], list[Case]] = {}
        self._open: list[tuple[Schema, str]] = []  # being made: a cycle is a $ref to itself

    def of_value(self, value: Value, kind: str) -> Formula:
        """What a Value asks of a value of this type."""
        return all_of([self._of_item(item, kind) for item in value])

    def _of_item(self, item: Literal | OneOfValues | Constant, kind: str) -> Formula:
        if isinstance(item, Literal):
            found = self.of_schema(item.schema, kind)
            return found if item.holds else negate(found)
        if isinstance(item, Constant):
            found = constant(json.loads(item.text, parse_float=Decimal), kind)
            return found if item.holds else negate(found)
        return any_of([self.of_value(option, kind) for option in item.values])

    def of_schema(self, schema: Schema, kind: str) -> Formula:
        """What a schema asks of a value of this type."""
        if isinstance(schema.value, bool):
            return TRUE if schema.value else FALSE
        key = (schema, kind)
        found = self._made.get(key)
        if found is None:
            with _Opened(self._open, key):
                if _needs_cases(schema, kind):
                    found = any_of([formula for formula, _ in self.cases(schema, kind)])
                else:
                    found = self._conjunction(schema, kind)
            self._made[key] = found
        return found

    def _conjunction(self, schema: Schema, kind: str) -> Formula:
        if schema.document.draft <= 7 and "$ref" in schema.value:
            return self.of_schema(schema.document.resolve(schema, "$ref"), kind)
        parts = _own_facts(schema, kind, self._options)
        if parts is None:
            return FALSE
        for keyword in schema.value:
            make = _IN_PLACE.get(keyword)
            if make is not None:
                part = make(self, schema, keyword, kind)
                if part == FALSE:
                    return FALSE
                parts.append(part)
        return all_of(parts)

    # -- unevaluated*: formulas with what was evaluated where each of them holds

    def cases(self, schema: Schema, kind: str) -> list[Case]:
        """Ways for the schema to hold: exactly one of them does where it holds."""
        if isinstance(schema.value, bool):
            return [(TRUE, NOTHING_EVALUATED)] if schema.value else []
        key = (schema, kind)
        found = self._cases.get(key)
        if found is None:
            with _Opened(self._open, (schema, kind + " cases")):
                found = self._make_cases(schema, kind)
            self._cases[key] = found
        return found

    def _make_cases(self, schema: Schema, kind: str) -> list[Case]:
        if schema.document.draft <= 7 and "$ref" in schema.value:
            return self.cases(schema.document.resolve(schema, "$ref"), kind)
        own = _own_facts(schema, kind, self._options)
        if own is None:
            return []
        out: list[Case] = [(all_of(own), _own_evaluated(schema, kind))]
        for keyword in schema.value:
            if keyword in _IN_PLACE:
                out = _product(out, self._keyword_cases(schema, keyword, kind))
        return [self._close(schema, kind, case) for case in out]

    def _close(self, schema: Schema, kind: str, case: Case) -> Case:
        formula, evaluated = case
        if kind == "object" and "unevaluatedProperties" in schema.value:
            rest: Value = frozenset((Literal(schema.child("unevaluatedProperties")),))
            if not evaluated.members:
                keys = Keys(None, evaluated.names, evaluated.patterns)
                formula = all_of([formula, facts.Members(keys, rest)])
            evaluated = evaluated._replace(members=True)
        if kind == "array" and "unevaluatedItems" in schema.value:
            rest = frozenset((Literal(schema.child("unevaluatedItems")),))
            if not evaluated.items:
                if evaluated.contained:
                    rest = frozenset((OneOfValues((rest, *sorted(evaluated.contained, key=repr))),))
                formula = all_of([formula, facts.Items(evaluated.num_items, rest)])
            evaluated = evaluated._replace(items=True)
        return formula, evaluated

    def _keyword_cases(self, schema: Schema, keyword: str, kind: str) -> list[Case]:
        value = schema.get(keyword)
        if keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            return self.cases(_target(schema, keyword), kind)
        if keyword == "allOf":
            out: list[Case] = [(TRUE, NOTHING_EVALUATED)]
            for index in range(len(value)):
                out = _product(out, self.cases(schema.child(keyword, index), kind))
            return out
        if keyword == "anyOf" or (keyword == "oneOf" and schema.is_relaxed(keyword)):
            return self._any_cases(schema, keyword, kind)
        if keyword == "oneOf":
            branches = [schema.child(keyword, index) for index in range(len(value))]
            out = []
            for index, branch in enumerate(branches):
                others = [negate(self.of_schema(other, kind)) for other in branches]
                del others[index]
                out += _product(self.cases(branch, kind), [(all_of(others), NOTHING_EVALUATED)])
            return out
        if keyword == "if":
            return self._if_cases(schema, kind)
        if keyword in ("dependentSchemas", "dependencies") and kind == "object":
            out = [(TRUE, NOTHING_EVALUATED)]
            for name, needed in value.items():
                if isinstance(needed, list):
                    found: list[Case] = [(_needs(name, needed), NOTHING_EVALUATED)]
                else:
                    with_it = self.cases(schema.child(keyword, name), kind)
                    found = [(facts.Member(name, NOTHING), NOTHING_EVALUATED)]
                    found += [
                        (all_of([facts.Required(name), part]), seen) for part, seen in with_it
                    ]
                out = _product(out, found)
            return out
        return [(_IN_PLACE[keyword](self, schema, keyword, kind), NOTHING_EVALUATED)]

    def _any_cases(self, schema: Schema, keyword: str, kind: str) -> list[Case]:
        """Each branch holds (in one of its ways) or does not; at least one does."""
        branches = _branches(schema, keyword)
        if len(branches) > MAX_BRANCHES:
            schema.refuse(keyword, f"more than {MAX_BRANCHES} branches beside unevaluated*")
        out: list[tuple[Formula, Evaluated, bool]] = [(TRUE, NOTHING_EVALUATED, False)]
        for branch in branches:
            ways = self.cases(branch, kind)
            without = negate(self.of_schema(branch, kind))
            out = [
                (all_of([formula, more]), seen.join(also), held)
                for formula, seen, some in out
                for more, also, held in (
                    *((way, evaluated, True) for way, evaluated in ways),
                    (without, NOTHING_EVALUATED, some),
                )
            ]
            out = [case for case in out if case[0] != FALSE]
        return [(formula, seen) for formula, seen, held in out if held]

    def _if_cases(self, schema: Schema, kind: str) -> list[Case]:
        condition = schema.child("if")
        true: list[Case] = [(TRUE, NOTHING_EVALUATED)]
        then = self.cases(schema.child("then"), kind) if "then" in schema.value else true
        other = self.cases(schema.child("else"), kind) if "else" in schema.value else true
        failed: list[Case] = [(negate(self.of_schema(condition, kind)), NOTHING_EVALUATED)]
        return _product(self.cases(condition, kind), then) + _product(failed, other)

    # -- keywords about the same value

    def _reference(self, schema: Schema, keyword: str, kind: str) -> Formula:
        return self.of_schema(_target(schema, keyword), kind)

    def _all_of(self, schema: Schema, keyword: str, kind: str) -> Formula:
        return all_of([self.of_schema(branch, kind) for branch in _branches(schema, keyword)])

    def _any_of(self, schema: Schema, keyword: str, kind: str) -> Formula:
        return any_of([self.of_schema(branch, kind) for branch in _branches(schema, keyword)])

    def _one_of(self, schema: Schema, keyword: str, kind: str) -> Formula:
        if schema.is_relaxed(keyword):
            return self._any_of(schema, keyword, kind)
        parts = [self.of_schema(branch, kind) for branch in _branches(schema, keyword)]
        parts = [part for part in parts if part != FALSE]
        profiles = [Profile(self.outlines, plain_facts(part)) for part in parts]
        out: list[Formula] = []
        for index, part in enumerate(parts):
            others = [
                negate(other)
                for at, other in enumerate(parts)
                if at != index and not profiles[index].excludes(profiles[at])
            ]
            out.append(all_of([part, *others]))
        return any_of(out)

    def _not(self, schema: Schema, keyword: str, kind: str) -> Formula:
        return negate(self.of_schema(schema.child(keyword), kind))

    def _if(self, schema: Schema, keyword: str, kind: str) -> Formula:
        condition = self.of_schema(schema.child("if"), kind)
        then = self.of_schema(schema.child("then"), kind) if "then" in schema.value else TRUE
        other = self.of_schema(schema.child("else"), kind) if "else" in schema.value else TRUE
        if then == other == TRUE:
            return TRUE
        return any_of([all_of([condition, then]), all_of([negate(condition), other])])

    def _dependencies(self, schema: Schema, keyword: str, kind: str) -> Formula:
        if kind != "object":
            return TRUE
        parts: list[Formula] = []
        for name, needed in _mapping(schema, keyword).items():
            if isinstance(needed, list):
                parts.append(_needs(name, needed))
            elif isinstance(needed, str):
                parts.append(_needs(name, [needed]))
            else:
                asked = self.of_schema(schema.child(keyword, name), kind)
                parts.append(any_of([facts.Member(name, NOTHING), asked]))
        return all_of(parts)


_IN_PLACE: dict[str, Callable[[Formulas, Schema, str, str], Formula]] = {
    "$ref": Formulas._reference,
    "$dynamicRef": Formulas._reference,
    "$recursiveRef": Formulas._reference,
    "allOf": Formulas._all_of,
    "anyOf": Formulas._any_of,
    "oneOf": Formulas._one_of,
    "not": Formulas._not,
    "if": Formulas._if,
    "dependentRequired": Formulas._dependencies,
    "dependentSchemas": Formulas._dependencies,
    "dependencies": Formulas._dependencies,
}


class _Opened:
    """Marks a formula as being made; one that needs itself has no meaning."""

    def __init__(self, stack: list[tuple[Schema, str]], key: tuple[Schema, str]) -> None:
        self._stack = stack
        self._key = key

    def __enter__(self) -> None:
        schema = self._key[0]
        if self._key in self._stack:
            raise GrammarError(
                "invalid_json_schema",
                f"JSON Schema {schema.pointer or '#'}: refers to itself about the same value",
                pointer=schema.pointer,
            )
        if len(self._stack) >= MAX_IN_PLACE:
            raise GrammarError(
                "grammar_too_complex",
                f"JSON Schema {schema.pointer or '#'}: more than {MAX_IN_PLACE} combinators and "
                "references deep about one value",
                pointer=schema.pointer,
            )
        self._stack.append(self._key)

    def __exit__(self, *_: object) -> None:
        self._stack.pop()


def _needs_cases(schema: Schema, kind: str) -> bool:
    return (kind == "object" and "unevaluatedProperties" in schema.value) or (
        kind == "array" and "unevaluatedItems" in schema.value
    )


def _product(left: list[Case], right: list[Case]) -> list[Case]:
    out = []
    for formula, seen in left:
        for more, also in right:
            both = all_of([formula, more])
            if both != FALSE:
                out.append((both, seen.join(also)))
    return out


def _target(schema: Schema, keyword: str) -> Schema:
    return schema.document.resolve(schema, keyword)


def _branches(schema: Schema, keyword: str) -> list[Schema]:
    branches = schema.get(keyword)
    if not isinstance(branches, list) or not branches:
        schema.invalid(keyword, "must be a non-empty list of schemas")
    return [schema.child(keyword, index) for index in range(len(branches))]


def _mapping(schema: Schema, keyword: str) -> dict[str, Json]:
    value = schema.get(keyword)
    if not isinstance(value, dict):
        schema.invalid(keyword, "must be an object")
    return value


def _needs(name: str, needed: list[str]) -> Formula:
    required: list[Formula] = [facts.Required(other) for other in needed]
    return any_of([facts.Member(name, NOTHING), all_of(required)])


# -- constants


def constant(value: Json, kind: str) -> Formula:
    """A value of this type equals this JSON."""
    if type_of(value) != kind:
        return FALSE
    if kind == "null":
        return TRUE
    if kind == "boolean":
        return facts.Booleans(frozenset((value,)))
    if kind == "number":
        return facts.Numbers(frozenset((Fraction(value),)))
    if kind == "string":
        return facts.Strings(frozenset((value,)))
    parts: list[Formula] = [facts.Size(len(value), len(value))]
    if kind == "array":
        for index, item in enumerate(value):
            parts.append(facts.Item(index, frozenset((Constant(canonical_json(item)),))))
    else:
        for name, member in value.items():
            parts.append(facts.Required(name))
            parts.append(facts.Member(name, frozenset((Constant(canonical_json(member)),))))
    return all_of(parts)


def _one_of_constants(values: Iterable[Json], kind: str) -> Formula:
    values = [value for value in values if type_of(value) == kind]
    if kind == "string" and values:
        return facts.Strings(frozenset(values))
    if kind == "number" and values:
        return facts.Numbers(frozenset(map(Fraction, values)))
    return any_of([constant(value, kind) for value in values])


# -- a schema's own keywords, by type


def _own_facts(schema: Schema, kind: str, options: Options) -> list[Formula] | None:
    """Facts of the keywords about a value of this type itself; None where the type is wrong."""
    value = schema.value
    out: list[Formula] = []
    if "type" in value:
        allowed = value["type"] if isinstance(value["type"], list) else [value["type"]]
        for name in allowed:
            if name not in TYPES and name != "integer":
                schema.invalid("type", f"{name!r} is not a type: {', '.join(TYPES)}, integer are")
        if kind not in allowed:
            if kind != "number" or "integer" not in allowed:
                return None
            # to draft 4, 1.0 is no integer
            out.append(facts.Multiple(Fraction(1), plain=schema.document.draft <= 4))
    if "const" in value:
        found = constant(value["const"], kind)
        if found == FALSE:
            return None
        out.append(found)
    if "enum" in value:
        if not isinstance(value["enum"], list):
            schema.invalid("enum", "must be a list")
        found = _one_of_constants(value["enum"], kind)
        if found == FALSE:
            return None
        out.append(found)
    by_type = _BY_TYPE.get(kind)
    if by_type is not None:
        by_type(schema, out, options)
    return out


def _count(schema: Schema, keyword: str, default: int | None) -> int | None:
    value = schema.get(keyword)
    if value is None and keyword not in schema.value:
        return default
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, Decimal))
        or value < 0
        or value != int(value)
    ):
        schema.invalid(keyword, f"{value} is not a non-negative integer")
    return int(value)


def _bounds(schema: Schema, low: str, high: str) -> tuple[int, int | None] | None:
    if low not in schema.value and high not in schema.value:
        return None
    return _count(schema, low, 0) or 0, _count(schema, high, None)


def _number(schema: Schema, keyword: str) -> Fraction | None:
    value = schema.get(keyword)
    if keyword not in schema.value or isinstance(value, bool):
        return None
    if not isinstance(value, (int, Decimal)):
        schema.invalid(keyword, f"{value!r} is not a number")
    return Fraction(value)


def _number_facts(schema: Schema, out: list[Formula], options: Options) -> None:
    for keyword, other, make in (
        ("minimum", "exclusiveMinimum", facts.AtLeast),
        ("maximum", "exclusiveMaximum", facts.AtMost),
    ):
        bound = _number(schema, keyword)
        if bound is not None:
            out.append(make(bound, schema.get(other) is True))  # draft 4: a boolean beside it
        bound = _number(schema, other)
        if bound is not None:
            out.append(make(bound, True))
    step = _number(schema, "multipleOf")
    if step is not None:
        if step <= 0:
            schema.invalid("multipleOf", "must be above 0")
        out.append(facts.Multiple(step))


def _string_facts(schema: Schema, out: list[Formula], options: Options) -> None:
    bounds = _bounds(schema, "minLength", "maxLength")
    if bounds is not None:
        out.append(facts.Length(*bounds))
    pattern = schema.get("pattern")
    if pattern is not None:
        if not isinstance(pattern, str):
            schema.invalid("pattern", "must be a string")
        schema.note_pattern("pattern", pattern)
        out.append(facts.Pattern(pattern))
    name = schema.get("format")
    if name is not None and options.formats:
        if name in REFUSED:
            schema.refuse("format", f"{name!r}: {REFUSED[name]}; drop it or set formats=False")
        if name in FORMATS:
            out.append(facts.Format(name))


def _array_facts(schema: Schema, out: list[Formula], options: Options) -> None:
    bounds = _bounds(schema, "minItems", "maxItems")
    if bounds is not None:
        out.append(facts.Size(*bounds))
    first, rest = _item_schemas(schema)
    for index, item in enumerate(first):
        out.append(facts.Item(index, frozenset((Literal(item),))))
    if rest is not None:
        out.append(facts.Items(len(first), frozenset((Literal(rest),))))
    if "contains" in schema.value:
        low = _count(schema, "minContains", 1) or 0
        high = _count(schema, "maxContains", None)
        if low or high is not None:
            wanted = frozenset((Literal(schema.child("contains")),))
            out.append(facts.SomeItems(0, wanted, low, high))
    if schema.get("uniqueItems") is True:
        out.append(facts.Unique(schema))


def _item_schemas(schema: Schema) -> tuple[list[Schema], Schema | None]:
    """The schemas of the first items, and that of the rest."""
    items = schema.get("items")
    if isinstance(items, list):  # up to draft 2019-09
        first = [schema.child("items", index) for index in range(len(items))]
        return first, schema.child("additionalItems") if "additionalItems" in schema.value else None
    prefix = schema.get("prefixItems", [])
    if not isinstance(prefix, list):
        schema.invalid("prefixItems", "must be a list of schemas")
    first = [schema.child("prefixItems", index) for index in range(len(prefix))]
    return first, schema.child("items") if "items" in schema.value else None


def _object_facts(schema: Schema, out: list[Formula], options: Options) -> None:
    bounds = _bounds(schema, "minProperties", "maxProperties")
    if bounds is not None:
        out.append(facts.Size(*bounds))
    names = _mapping(schema, "properties") if "properties" in schema.value else {}
    for name in names:
        out.append(facts.Member(name, frozenset((Literal(schema.child("properties", name)),))))
    required = schema.get("required", [])
    if isinstance(required, list):  # draft 3 wrote a boolean here: no meaning since
        out += [facts.Required(name) for name in required]
    patterns = _mapping(schema, "patternProperties") if "patternProperties" in schema.value else {}
    for pattern in patterns:
        schema.note_pattern("patternProperties", pattern)
        asked = frozenset((Literal(schema.child("patternProperties", pattern)),))
        out.append(facts.Members(Keys(pattern), asked))
    if schema.get("additionalProperties", True) is not True:
        rest = frozenset((Literal(schema.child("additionalProperties")),))
        keys = Keys(None, frozenset(names), frozenset(patterns))
        out.append(facts.Members(keys, rest))
    if "propertyNames" in schema.value:
        name_value = frozenset((Literal(schema.child("propertyNames")),))
        out.append(facts.Members(Keys(outside_value=name_value), NOTHING))


_BY_TYPE: dict[str, Callable[[Schema, list[Formula], Options], None]] = {
    "number": _number_facts,
    "string": _string_facts,
    "array": _array_facts,
    "object": _object_facts,
}


def _own_evaluated(schema: Schema, kind: str) -> Evaluated:
    if kind == "object":
        return Evaluated(
            names=frozenset(schema.get("properties", ())),
            patterns=frozenset(schema.get("patternProperties", ())),
            members="additionalProperties" in schema.value,
        )
    if kind == "array":
        first, rest = _item_schemas(schema)
        contained = frozenset[Value]()
        if "contains" in schema.value and schema.document.draft >= 2020:
            contained = frozenset((frozenset((Literal(schema.child("contains")),)),))
        return Evaluated(num_items=len(first), items=rest is not None, contained=contained)
    return NOTHING_EVALUATED
