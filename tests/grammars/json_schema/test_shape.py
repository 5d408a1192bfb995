"""A schema that is written wrong is refused with the place, whatever the mistake."""

import json
import random

import pytest

from ramify.grammars import GrammarError, JsonSchemaSpec
from ramify.grammars.compile import compile_grammar
from ramify.grammars.json_schema.shape import _SHAPES
from tests.grammars.vocabularies import byte_vocabulary

BYTES = byte_vocabulary()

STRANGE = (None, True, -1, 1.5, 10**30, "", "a", [], {}, [[]], [None], [{}, 5], ["string", 5])
STRANGE += ({"a": None}, {"a": [1]}, {"a": {}}, {"$ref": "#"}, [{"type": "string"}], {"(": {}})
KEYWORDS = (*sorted(_SHAPES), "minLength", "maxItems", "const", "$id", "$anchor", "$defs")


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({"required": ["a", 5]}, "/required"),
        ({"required": {"a": 5}}, "/required"),
        ({"format": {"a": 1}}, "/format"),
        ({"allOf": ["string"]}, "/allOf/0"),
        ({"allOf": {"a": {}}}, "/allOf"),
        ({"if": 1.5}, "/if"),
        ({"dependencies": [{}]}, "/dependencies"),
        ({"dependencies": {"a": [1]}}, "/dependencies"),
        ({"dependentRequired": {"a": "b"}}, "/dependentRequired"),
        ({"dependentSchemas": {"a": ["b"]}}, "/dependentSchemas"),
        ({"properties": {"a": 5}}, "/properties/a"),
        ({"properties": {"a": {"items": {"type": []}}}}, "/properties/a/items/type"),
        ({"items": 5}, "/items"),
        ({"minimum": "5"}, "/minimum"),
        ({"uniqueItems": 1}, "/uniqueItems"),
        ({"enum": {"a": 1}}, "/enum"),
        ({"$ref": 5}, "/$ref"),
        ({"$id": "http://a/b", "anyOf": [5]}, "/anyOf/0"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(schema, pointer):
    with pytest.raises(GrammarError) as raised:
        compile_grammar(JsonSchemaSpec(json.dumps(schema)), BYTES)
    assert raised.value.code == "invalid_json_schema"
    assert raised.value.pointer == pointer


def strange(rng: random.Random, depth: int = 0) -> dict:
    """Keywords with values of any kind, some of them schemas."""
    out = {}
    for _ in range(rng.randint(1, 3)):
        if depth < 3 and rng.random() < 0.4:
            below = strange(rng, depth + 1)
            value = rng.choice((below, [below], {"a": below}))
        else:
            value = rng.choice(STRANGE)
        out[rng.choice(KEYWORDS)] = value
    return out


def test_random_schemas_are_served_or_refused():
    rng = random.Random(7)
    num_served = 0
    for _ in range(800):
        spec = JsonSchemaSpec(json.dumps(strange(rng)), strict=rng.random() < 0.8)
        try:
            num_served += compile_grammar(spec, BYTES).min_tokens is not None
        except GrammarError:
            continue
    assert num_served > 50
