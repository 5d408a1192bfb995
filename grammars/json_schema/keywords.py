"""What a schema's own keywords ask of a value of one type, as facts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any as Json

from ramify.grammars.json_schema import facts
from ramify.grammars.json_schema.facts import (
    ANYTHING,
    FALSE,
    NOTHING,
    TRUE,
    Constant,
    Formula,
    Keys,
    Value,
    all_of,
    any_of,
)
from ramify.grammars.json_schema.formats import FORMATS, REFUSED
from ramify.grammars.json_schema.json_values import TYPES, canonical_json, type_of
from ramify.grammars.json_schema.schema import Schema


@dataclass(frozen=True, slots=True)
class Options:
    """How a schema is read."""

    formats: bool = True  # is `format` a constraint?


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


def own_facts(schema: Schema, kind: str, options: Options) -> list[Formula] | None:
    """Facts of the keywords about a value of this type itself; None where the type is wrong."""
    value = schema.value
    out: list[Formula] = []
    if "type" in value and value["type"] != kind:
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
        if facts.is_false(found):
            return None
        out.append(found)
    if "enum" in value:
        if not isinstance(value["enum"], list):
            schema.invalid("enum", "must be a list")
        found = _one_of_constants(value["enum"], kind)
        if facts.is_false(found):
            return None
        out.append(found)
    keywords = ABOUT.get(kind)
    if keywords is not None and not keywords.isdisjoint(value):
        _BY_TYPE[kind](schema, out, options)
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
    first, rest = item_schemas(schema)
    for index, item in enumerate(first):
        out.append(facts.Item(index, facts.satisfying(item)))
    if rest is not None and (asked := facts.satisfying(rest)):
        out.append(facts.Items(len(first), asked))
    if "contains" in schema.value:
        low = _count(schema, "minContains", 1) or 0
        high = _count(schema, "maxContains", None)
        if low or high is not None:
            wanted = facts.satisfying_below(schema, "contains")
            out.append(facts.SomeItems(0, wanted, low, high))
    if schema.get("uniqueItems") is True:
        out.append(facts.Unique(schema))


def _of_others(schema: Schema, keyword: str) -> Value:
    return facts.satisfying_below(schema, keyword) if keyword in schema.value else ANYTHING


def item_schemas(schema: Schema) -> tuple[list[Schema], Schema | None]:
    """The schemas of the first items, and that of the rest."""
    items = schema.get("items")
    if isinstance(items, list):  # up to draft 2019-09
        first = [schema.below("items", index) for index in range(len(items))]
        return first, schema.below("additionalItems") if "additionalItems" in schema.value else None
    prefix = schema.get("prefixItems", [])
    if not isinstance(prefix, list):
        schema.invalid("prefixItems", "must be a list of schemas")
    first = [schema.below("prefixItems", index) for index in range(len(prefix))]
    return first, schema.below("items") if "items" in schema.value else None


def _object_facts(schema: Schema, out: list[Formula], options: Options) -> None:
    bounds = _bounds(schema, "minProperties", "maxProperties")
    if bounds is not None:
        out.append(facts.Size(*bounds))
    names = mapping(schema, "properties") if "properties" in schema.value else {}
    for name in names:
        out.append(facts.Member(name, facts.satisfying_below(schema, "properties", name)))
    required = schema.get("required", [])
    if isinstance(required, list):  # draft 3 wrote a boolean here: no meaning since
        out += [facts.Required(name) for name in required]
    patterns = mapping(schema, "patternProperties") if "patternProperties" in schema.value else {}
    for pattern in patterns:
        schema.note_pattern("patternProperties", pattern)
        if asked := facts.satisfying_below(schema, "patternProperties", pattern):
            out.append(facts.Members(Keys(pattern), asked))
    if asked := _of_others(schema, "additionalProperties"):
        keys = Keys(None, frozenset(names), frozenset(patterns))
        out.append(facts.Members(keys, asked))
    if asked := _of_others(schema, "propertyNames"):
        out.append(facts.Members(Keys(outside_value=asked), NOTHING))


ABOUT = {  # keywords of a value of this type only
    "number": frozenset(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
    ),
    "string": frozenset(("minLength", "maxLength", "pattern", "format")),
    "array": frozenset(
        [
            *("minItems", "maxItems", "items", "prefixItems", "additionalItems", "uniqueItems"),
            *("contains", "minContains", "maxContains"),
        ]
    ),
    "object": frozenset(
        [
            *("minProperties", "maxProperties", "properties", "required", "patternProperties"),
            *("additionalProperties", "propertyNames"),
        ]
    ),
}
_BY_TYPE: dict[str, Callable[[Schema, list[Formula], Options], None]] = {
    "number": _number_facts,
    "string": _string_facts,
    "array": _array_facts,
    "object": _object_facts,
}


def mapping(schema: Schema, keyword: str) -> dict[str, Json]:
    """The value of a keyword that has to be an object."""
    value = schema.get(keyword)
    if not isinstance(value, dict):
        schema.invalid(keyword, "must be an object")
    return value
