"""Members of unknown names that are asked for: every text can be finished, and then is valid."""

import json
import random
from weakref import ref

import jsonschema
import pytest

from ramify.grammars import GrammarError, JsonSchemaSpec, Matcher, compile_grammar
from ramify.grammars.json_schema.keys import declared_names, name_trie
from ramify.grammars.json_schema.layout import LAYOUTS
from tests.grammars.conformance import BYTES, fits
from tests.grammars.vocabularies import byte_vocabulary, sample

VOCABULARY = byte_vocabulary(b'{"', b'": ', b'",', b'"x"', b"},", b"1,", b'"y', b'": "')


def some(pattern: str, value=True):
    """There is a member of such a name with such a value."""
    return {"not": {"patternProperties": {pattern: {"not": value}}}}


BASE = {
    "type": "object",
    "propertyNames": {"pattern": "^[xyz]+$"},
    "additionalProperties": {"type": ["null", "integer"]},
}
SCHEMAS = [
    some("^x$", {"type": "null"}),
    some("^x", {"type": "null"}),
    {"maxProperties": 1, **some("^x")},
    {"maxProperties": 1, "allOf": [some("^x"), some("y$")]},
    {"maxProperties": 2, "allOf": [some("^x", {"const": 1}), some("y$", {"const": 2})]},
    {"maxProperties": 3, "required": ["z"], "allOf": [some("^x"), some("^y")]},
    {"minProperties": 3, "allOf": [some("^x$"), some("^y$")], "additionalProperties": {"const": 0}},
    {"propertyNames": {"pattern": "^[xyz]$"}, "allOf": [some("^[xy]$", {"const": 1}), some("^x")]},
]


@pytest.mark.parametrize("order", ["schema", "any"])
@pytest.mark.parametrize("schema", SCHEMAS, ids=json.dumps)
def test_sampled_objects_are_valid(schema, order):
    schema = {**BASE, **schema}
    grammar = compile_grammar(JsonSchemaSpec(json.dumps(schema), order=order), VOCABULARY)
    check = jsonschema.Draft202012Validator(schema)
    rng = random.Random(json.dumps(schema))
    num = 0
    for _ in range(30):
        text = sample(Matcher(grammar), rng, max_tokens=60, audit=0.1)
        if text is not None:
            num += 1
            assert check.is_valid(json.loads(text)), text
    assert num


def test_several_members_may_be_asked_for():
    schema = {
        "type": "object",
        "allOf": [some("^x", {"const": 1}), some("y$", {"type": "integer"})],
    }
    grammar = compile_grammar(JsonSchemaSpec(json.dumps(schema), order="any"), BYTES)
    assert fits(grammar, '{"xy": 1}')
    assert fits(grammar, '{"z": null, "y": 3, "x": 1}')
    assert not fits(grammar, '{"xy": 2}')
    assert not fits(grammar, '{"x": 1, "z": 1}')


def test_what_cannot_be_met_within_the_most_is_unsatisfiable():
    schema = {"type": "object", "maxProperties": 1, "allOf": [some("^x"), some("^y")]}
    with pytest.raises(GrammarError) as refused:
        compile_grammar(JsonSchemaSpec(json.dumps(schema)), BYTES)
    assert refused.value.code == "unsatisfiable_schema"


def test_objects_that_declare_the_same_share_their_names_while_they_live():
    blanks = LAYOUTS["compact"].after_colon
    trie = name_trie(["a", "b"])
    assert name_trie(("a", "b")) is trie
    assert name_trie(("b", "a")) is not trie
    names = declared_names(trie, 1, blanks)
    assert declared_names(trie, 1, blanks) is names
    assert declared_names(trie, 2, blanks) is not names
    kept = ref(trie)
    del trie, names
    assert kept() is None
