"""Outlines hold every value that a schema does: checked against `jsonschema`."""

import json
from decimal import Decimal

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramify.grammars import DEFAULT_LIMITS
from ramify.grammars.json_schema.document import Document
from ramify.grammars.json_schema.facts import Literal
from ramify.grammars.json_schema.json_values import TYPES, canonical_json, type_of
from ramify.grammars.json_schema.outline import Outline, Outlines

VALUES = [None, True, False, 0, 1, 1.5, -2, "", "a", "b", [], [1], {}, {"a": 1}]
SCALARS = st.sampled_from(VALUES)
NAMES = st.sampled_from((*TYPES, "integer"))
LEAVES = st.one_of(
    st.booleans(),
    st.builds(lambda name: {"type": name}, NAMES),
    st.builds(lambda names: {"type": names}, st.lists(NAMES, min_size=1, unique=True)),
    st.builds(lambda value: {"const": value}, SCALARS),
    st.builds(lambda values: {"enum": values}, st.lists(SCALARS, min_size=1)),
    st.builds(
        lambda name, values: {"type": name, "enum": values}, NAMES, st.lists(SCALARS, min_size=1)
    ),
    st.just({"minimum": 1}),
    st.just({"type": "string", "minLength": 1}),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        lambda keyword, branches: {keyword: branches},
        st.sampled_from(("allOf", "anyOf", "oneOf")),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=5,
)


def outline_of(schema, *, holds: bool) -> Outline:
    document = Document(json.dumps(schema), DEFAULT_LIMITS)
    return Outlines().of_value(frozenset((Literal(document.root, holds),)))


def holds_value(outline: Outline, value) -> bool:
    value = json.loads(json.dumps(value), parse_float=Decimal)
    text = canonical_json(value)
    return (
        not outline.is_empty
        and type_of(value) in outline.types
        and (outline.constants is None or text in outline.constants)
        and text not in outline.excluded
    )


@settings(max_examples=300, deadline=None)
@given(SCHEMAS, st.booleans())
def test_no_value_is_left_out(schema, holds):
    outline = outline_of(schema, holds=holds)
    check = jsonschema.Draft202012Validator(schema)
    for value in VALUES:
        if check.is_valid(value) == holds:
            assert holds_value(outline, value), (schema, value)


@pytest.mark.parametrize(
    ("schema", "holds"),
    [
        ({"allOf": [{"type": "string"}, {"type": "number"}]}, True),
        ({"allOf": [{"const": "a"}, {"enum": ["b", 1]}]}, True),
        ({"enum": ["a"], "type": "number"}, True),
        (True, False),
        ({"type": list(TYPES)}, False),
    ],
)
def test_what_is_seen_to_be_impossible(schema, holds):
    assert outline_of(schema, holds=holds).is_empty
