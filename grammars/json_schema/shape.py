"""What a keyword's value has to be: one that is written wrong is refused, not guessed at.

`null` is let pass where it is often written for "nothing". Counts and names of types are looked at
where they are used.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from ramify.grammars.json_schema.schema import Json, Schema


class _Shape(NamedTuple):
    types: frozenset[type]
    words: str
    holds: Callable[[Json], bool] | None = None  # of what is in it


def _are_strings(value: Json) -> bool:
    return type(value) is not list or all(type(item) is str for item in value)


def _is_type(value: Json) -> bool:
    return _are_strings(value) and value != []


def _are_schemas(value: Json) -> bool:
    return all(type(item) in (dict, bool) for item in value.values())


def _are_names(value: Json) -> bool:
    return all(type(item) is list and _are_strings(item) for item in value.values())


def _are_needed(value: Json) -> bool:
    return all(type(item) in (dict, bool, list) and _are_strings(item) for item in value.values())


def _make(words: str, *types: type, holds: Callable[[Json], bool] | None = None) -> _Shape:
    return _Shape(frozenset(types), words, holds)


_NOTHING = type(None)
_STRING = _make("a string", str)
_SCHEMA = _make("a schema: an object or a boolean", dict, bool)
_SCHEMAS = _make("a list of schemas", list)
_MAP = _make("an object of schemas", dict)
_NUMBER = _make("a number", int, Decimal)
_SHAPES = {
    **dict.fromkeys(("$ref", "$dynamicRef"), _STRING),
    **dict.fromkeys(("pattern", "format"), _make("a string", str, _NOTHING)),
    **dict.fromkeys(
        [
            *("additionalItems", "additionalProperties", "contains", "else", "if", "not"),
            *("propertyNames", "then", "unevaluatedItems", "unevaluatedProperties"),
        ],
        _SCHEMA,
    ),
    "items": _make("a schema, or a list of them", dict, bool, list),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _SCHEMAS),
    **dict.fromkeys(("properties", "patternProperties"), _MAP),
    "dependentSchemas": _MAP._replace(holds=_are_schemas),
    "dependencies": _make("an object of schemas or lists of names", dict, holds=_are_needed),
    "dependentRequired": _make("an object of lists of names", dict, holds=_are_names),
    # draft 3 wrote a boolean here: no meaning since
    "required": _make("a list of names", list, bool, _NOTHING, holds=_are_strings),
    "type": _make("the name of a type, or a list of them", str, list, holds=_is_type),
    "enum": _make("a list", list),
    "uniqueItems": _make("a boolean", bool, _NOTHING),
    **dict.fromkeys(("minimum", "maximum", "multipleOf"), _NUMBER),
    # draft 4 wrote a boolean here
    **dict.fromkeys(
        ("exclusiveMinimum", "exclusiveMaximum"), _make("a number", int, Decimal, bool)
    ),
}


def check_shape(schema: Schema) -> None:
    """Raise `invalid_json_schema` for the first keyword whose value is of a wrong kind."""
    for keyword, value in schema.value.items():
        shape = _SHAPES.get(keyword)
        if shape is None:
            continue
        if type(value) not in shape.types or not (shape.holds is None or shape.holds(value)):
            schema.invalid(keyword, f"{str(value)[:80]} is not {shape.words}")
