"""uniqueItems: equal items are told whatever way they come about."""

import json
import random

import jsonschema
import pytest

from ramify.grammars import GrammarError, JsonSchemaSpec, Matcher, compile_grammar
from tests.grammars.conformance import BYTES, fits
from tests.grammars.vocabularies import allowed, brute_force, byte_vocabulary, sample

VOCABULARY = byte_vocabulary(b'", "', b"1, ", b"], [", b'"a', b"}, {", b"}]", b'": 1', b".5")


def unique(items, **more):
    schema = {"type": "array", "uniqueItems": True, "items": items, **more}
    return compile_grammar(JsonSchemaSpec(json.dumps(schema), order="any"), VOCABULARY)


POINT = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}


@pytest.mark.parametrize(
    ("items", "yes", "no"),
    [
        ({"type": "string"}, ['["/", "a"]'], ['["/", "\\/"]', '["\\n", "\\u000a"]']),
        (
            {"anyOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]},
            ['["a", "b", "c"]'],
            ['["b", "b"]', '["b", "a", "b"]'],
        ),
        ({"enum": [1, 12, 123]}, ["[1, 12]", "[12, 123, 1]"], ["[1, 1]", "[12, 1, 12]"]),
        ({"enum": [1.5, 2]}, ["[1.5, 2]"], ["[2, 2.0]", "[1.5, 1.5]"]),
        ({"type": "number"}, ["[1, 1.5, 10, 1.05, -1]"], ["[1.5, 1.50]", "[1, 1.0]", "[0, -0]"]),
        (
            POINT,
            [
                '[{"x": 1}, {"x": 2}]',
                '[{"x": 1}, {"x": 1, "y": 2}]',
                '[{"x": 1}, {"y": 1, "x": 1}]',
            ],
            [
                '[{"x": 1}, {"x": 1.0}]',
                '[{"x": 1, "y": [2]}, {"y": [2.0], "x": 1}]',
                '[{"x": 1}, {"x": 2}, {"x": 1}]',
            ],
        ),
        (
            {"type": "array", "items": {"type": ["integer", "array"]}},
            ["[[], [1], [1, 1], [[]]]"],
            ["[[1], [1]]", "[[], []]", "[[[1]], [[1]]]"],
        ),
        (True, ['[1, "1", true, null, [1], {"a": 1}]'], ["[null, null]", '[{"a": []}, {"a": []}]']),
    ],
)
def test_equal_items_are_refused(items, yes, no):
    grammar = unique(items)
    assert [text for text in yes if not fits(grammar, text)] == []
    assert [text for text in no if fits(grammar, text)] == []


@pytest.mark.parametrize(
    "schema",
    [
        {"items": {"type": "string", "pattern": "^[ab]$"}, "minItems": 2},
        {"items": {"type": "integer", "minimum": 1, "maximum": 5, "not": {"const": 2}}},
        {"items": {"type": "number", "minimum": 1, "maximum": 2, "multipleOf": 0.25}},
        {"items": {"type": ["boolean", "null"]}, "minItems": 3},
        {"prefixItems": [{"type": "boolean"}, {"type": "boolean"}], "items": False, "minItems": 2},
        {"prefixItems": [{"enum": [1, 2, 3]}, {"enum": [1]}, {"enum": [1, 2]}], "minItems": 3},
        {"items": {"type": "object", "additionalProperties": {"enum": [1]}}, "maxItems": 3},
        {"items": {"type": "array", "items": {"enum": [0, 1]}}, "maxItems": 4},
    ],
    ids=json.dumps,
)
def test_sampled_arrays_are_valid(schema):
    schema = {"type": "array", "uniqueItems": True, **schema}
    spec = JsonSchemaSpec(json.dumps(schema), whitespace="spaced")
    grammar = compile_grammar(spec, VOCABULARY)
    check = jsonschema.Draft202012Validator(schema)
    rng = random.Random(json.dumps(schema))
    num = 0
    for _ in range(30):
        text = sample(Matcher(grammar), rng, max_tokens=200, audit=0.05)
        if text is not None:
            num += 1
            assert check.is_valid(json.loads(text)), text
    assert num


STRINGS = {"type": "array", "uniqueItems": True, "items": {"type": "string"}}
PAST_ENDS = byte_vocabulary(
    *(left + right for left in (b"", b"a", b"b", b"ab") for right in (b'"', b'",', b'", "', b'"]')),
    *(b'","a', b'a", "a"', b'a", "a", "a', b'b", "a", "b"]', b"1,", b"1, 1", b"2, 1]", b"]]"),
    *(b'["a"', b'["a"]', b'"], ["a"]', b'"], ["b", "a', b"}, {", b'{"a', b'": "a", "', b"1]}"),
    *(b'"a": "a"', b'a": "b", "a": "', b'"}', b'"}, {"a": "a"}', b'", "b": "b"}]', b"ull, nul"),
)
LIKELY = {*b'ab12{}[]:, "', *b"null"}


@pytest.mark.parametrize(
    "schema",
    [
        STRINGS,
        {**STRINGS, "minItems": 2, "maxItems": 3},
        {**STRINGS, "items": {"type": "string", "maxLength": 1}},
        {**STRINGS, "items": {"enum": ["a", "b", "ab"]}},
        {**STRINGS, "items": {"anyOf": [{"enum": [1, 2, "ab"]}, {"type": "string"}]}},
        {**STRINGS, "items": {"type": ["integer", "null"], "minimum": 1}},
        {**STRINGS, "items": {"type": "array", "items": {"type": "string"}}},
        {**STRINGS, "items": {"type": ["object", "string"]}},
        {"type": "array", "items": STRINGS},
        {"properties": {"a": STRINGS, "b": {"type": "string"}}, "minProperties": 2},
        {"type": "object", "minProperties": 3, "additionalProperties": {"type": "string"}},
    ],
    ids=json.dumps,
)
def test_tokens_past_the_end_of_an_item_are_told_apart(schema):
    grammar = compile_grammar(
        JsonSchemaSpec(json.dumps(schema), order="any", whitespace="spaced"), PAST_ENDS
    )
    rng = random.Random(json.dumps(schema))
    for _ in range(6):
        matcher = Matcher(grammar)
        for _ in range(12):
            tokens = allowed(matcher)
            assert tokens == brute_force(matcher)
            texts = {token: PAST_ENDS.token_bytes[token] or b"?" for token in tokens}
            likely = [token for token, text in texts.items() if LIKELY.issuperset(text)]
            if not likely or not matcher.accept(rng.choice(sorted(likely))):
                break


def test_grammars_with_the_same_words_number_them_on_their_own():
    words = {"enum": ["a", "b", "ab"]}
    for schema in ({"anyOf": [{"const": 1}, words]}, words):
        grammar = compile_grammar(
            JsonSchemaSpec(json.dumps({**STRINGS, "items": schema}), whitespace="spaced"), PAST_ENDS
        )
        for start in (b'["', b'["b", "', b'["ab", "b", "'):
            matcher = Matcher(grammar)
            assert matcher.accept_text(start)
            assert allowed(matcher) == brute_force(matcher)


@pytest.mark.parametrize(
    ("schema", "code"),
    [
        ({"items": {"type": "boolean"}, "minItems": 3}, "unsatisfiable_schema"),
        ({"items": {"pattern": "^[ab]$", "type": "string"}, "minItems": 3}, "unsatisfiable_schema"),
        (
            {"items": {"properties": {"a": {"type": "boolean"}}, "additionalProperties": False}},
            "unsupported_keyword",
        ),
        ({"items": {"type": "array", "maxItems": 2}}, "unsupported_keyword"),
        ({"contains": {"const": 1}}, "unsupported_keyword"),
    ],
)
def test_what_might_have_no_end_is_refused(schema, code):
    with pytest.raises(GrammarError) as refused:
        compile_grammar(
            JsonSchemaSpec(json.dumps({"type": "array", "uniqueItems": True, **schema})), BYTES
        )
    assert refused.value.code == code
