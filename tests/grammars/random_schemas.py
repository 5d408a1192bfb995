"""Random JSON Schemas, and values that have a chance to satisfy them."""

from random import Random
from typing import Any

from hypothesis import strategies as st

NAMES = ("a", "b", "ab", "c/d", "é")
PATTERNS = ("^a", "b$", "[ab]{2}", "^.?$", "a|é", "^(a|bc)*$")
VALUES = (None, True, False, 0, 1, 2, -3, 1.5, "", "a", "ab", "é", [], [1], {}, {"a": 1})
SCALARS = ("null", "boolean", "integer", "number", "string")
TYPES = (*SCALARS, "array", "object")


def _some(options: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Up to three of the keywords."""
    return st.lists(st.sampled_from(sorted(options)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: options[name] for name in names})
    )


COUNTS = st.integers(0, 3)
NUMBERS = st.sampled_from([-3, -1, 0, 1, 2, 2.5, 7, 0.5, 12])
STRING = {
    "minLength": COUNTS,
    "maxLength": COUNTS,
    "pattern": st.sampled_from(PATTERNS),
}
NUMBER = {
    "minimum": NUMBERS,
    "maximum": NUMBERS,
    "exclusiveMinimum": NUMBERS,
    "exclusiveMaximum": NUMBERS,
    "multipleOf": st.sampled_from([1, 2, 3, 0.5, 0.25]),
}


def _object(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    names = st.sampled_from(NAMES)
    return {
        "properties": st.dictionaries(names, inner, min_size=1, max_size=3),
        "required": st.lists(names, max_size=2, unique=True),
        "additionalProperties": st.one_of(st.booleans(), inner),
        "patternProperties": st.dictionaries(st.sampled_from(PATTERNS), inner, max_size=2),
        "propertyNames": inner,
        "minProperties": COUNTS,
        "maxProperties": COUNTS,
        "dependentRequired": st.dictionaries(names, st.lists(names, max_size=2, unique=True)),
        "dependentSchemas": st.dictionaries(names, inner, max_size=1),
        "unevaluatedProperties": st.one_of(st.just(False), inner),
    }


def _array(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    return {
        "items": inner,
        "prefixItems": st.lists(inner, min_size=1, max_size=2),
        "minItems": COUNTS,
        "maxItems": COUNTS,
        "uniqueItems": st.booleans(),
        "contains": inner,
        "minContains": COUNTS,
        "maxContains": COUNTS,
        "unevaluatedItems": st.one_of(st.just(False), inner),
    }


def _combined(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    several = st.lists(inner, min_size=1, max_size=3)
    return {
        "allOf": several,
        "anyOf": several,
        "oneOf": several,
        "not": inner,
        "if": inner,
        "then": inner,
        "else": inner,
    }


def _typed(name: str, options: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    return _some(options).map(lambda keywords: {"type": name, **keywords})


def schemas() -> st.SearchStrategy[Any]:
    """Schemas with a definition `#/$defs/d`, which some of them use."""
    leaves = st.one_of(
        st.booleans(),
        st.sampled_from(SCALARS).map(lambda name: {"type": name}),
        st.lists(st.sampled_from(TYPES), min_size=1, max_size=3, unique=True).map(
            lambda names: {"type": names}
        ),
        _typed("string", STRING),
        _typed("integer", NUMBER),
        _typed("number", NUMBER),
        _some({**STRING, **NUMBER}),
        st.lists(st.sampled_from(VALUES), min_size=1, max_size=4).map(lambda all: {"enum": all}),
        st.sampled_from(VALUES).map(lambda value: {"const": value}),
        st.just({"$ref": "#/$defs/d"}),
    )

    def extend(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.one_of(
            _typed("object", _object(inner)),
            _typed("array", _array(inner)),
            _some({**_object(inner), **_array(inner)}),
            _some(_combined(inner)),
            st.tuples(_typed("object", _object(inner)), _some(_combined(inner))).map(
                lambda both: both[0] | both[1]
            ),
        )

    parts = st.recursive(leaves, extend, max_leaves=6)
    return st.tuples(parts, parts).map(_with_definition)


def _with_definition(both: tuple[Any, Any]) -> Any:
    schema, definition = both
    if isinstance(schema, bool) or "$ref" not in str(schema):
        return schema
    return {**schema, "$defs": {"d": definition}}


def random_value(rng: Random, depth: int = 2) -> Any:
    if depth == 0 or rng.random() < 0.6:
        return rng.choice([*VALUES, 7, 2.5, 0.25, -1, 12, "b", "ba", "bc", "aé", "abc"])
    if rng.random() < 0.5:
        return [random_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    names = rng.sample([*NAMES, "x"], rng.randrange(4))
    return {name: random_value(rng, depth - 1) for name in names}


def value_for(schema: Any, rng: Random, definition: Any = True, depth: int = 4) -> Any:
    """A value that has a chance; the validator has the last word."""
    if isinstance(schema, bool) or depth == 0 or not schema:
        return random_value(rng)
    definition = schema.get("$defs", {}).get("d", definition)

    def of(part: Any) -> Any:
        return value_for(part, rng, definition, depth - 1)

    if "$ref" in schema:
        return of(definition)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    for name in ("allOf", "anyOf", "oneOf"):
        if name in schema and rng.random() < 0.5:
            return of(rng.choice(schema[name]))
    if rng.random() < 0.2:
        return of(schema.get(rng.choice(("then", "else", "if")), True))
    types = schema.get("type", list(TYPES))
    kind = types if isinstance(types, str) else rng.choice(types)
    if kind == "object":
        return _object_for(schema, rng, of)
    if kind == "array":
        return _array_for(schema, rng, of)
    choices = {
        "null": (None,),
        "boolean": (True, False),
        "integer": (0, 1, 2, 3, -3, 6, 7, 12, 1.0),
        "number": (0, 1, 2.5, -0.75, 3.25, 7, 12),
        "string": ("", "a", "b", "ab", "bc", "abc", "é", "aé", "bb", "aabb"),
    }
    return rng.choice(choices[kind])


def _object_for(schema: dict[str, Any], rng: Random, of: Any) -> dict[str, Any]:
    declared = schema.get("properties", {})
    wanted = [*schema.get("required", ()), *declared]
    names = {name for name in wanted if rng.random() < 0.8}
    while len(names) < schema.get("minProperties", 0) or rng.random() < 0.3:
        names.add(rng.choice([*NAMES, "x", "bc"]))
    members = [
        (name, of(declared.get(name, schema.get("additionalProperties", True)))) for name in names
    ]
    rng.shuffle(members)
    return dict(members)


def _array_for(schema: dict[str, Any], rng: Random, of: Any) -> list[Any]:
    first = schema.get("prefixItems", [])
    rest = schema.get("items", schema.get("contains", True))
    low, high = schema.get("minItems", 0), schema.get("maxItems", 3)
    count = rng.randint(low, max(low, high))
    return [of(first[at] if at < len(first) else rest) for at in range(count)]
