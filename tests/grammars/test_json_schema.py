import json
import random

import jsonschema
import pytest

from ramify.grammars import (
    AnyJsonSpec,
    GrammarError,
    JsonSchemaSpec,
    Limits,
    Matcher,
    compile_grammar,
)
from ramify.grammars.json_schema.document import Document
from tests.grammars.vocabularies import byte_vocabulary, sample

VOCABULARY = byte_vocabulary(
    b'": ', b'", "', b'"}', b"{}", b'{"', b"12", b", ", b'"a', b"true", b"\\n", b'a"', b'"b": "'
)


def compiled(schema, **options):
    return compile_grammar(JsonSchemaSpec(json.dumps(schema), **options), VOCABULARY)


def fits(grammar, value) -> bool:
    return fits_text(grammar, json.dumps(value, ensure_ascii=False))


def fits_text(grammar, text: str) -> bool:
    matcher = Matcher(grammar)
    return matcher.accept_text(text.encode()) and matcher.is_complete


AB = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}}
CASES = [
    ({"type": "integer"}, [0, -5, 123], [1.5, "1"]),
    ({"type": "number"}, [0, -1.5, 1e-07, 1e20], ["a", None]),
    ({"minimum": 1, "exclusiveMaximum": 10, "type": "integer"}, [1, 9], [0, 10, -1]),
    ({"type": "number", "minimum": -0.5, "maximum": 2.5}, [-0.5, 0, 2.5, 2.25], [-0.6, 2.51, 3]),
    ({"type": "number", "multipleOf": 0.25}, [0, 0.25, -1.75, 3], [0.3, 0.26]),
    ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "aé🐢"], ["a", "abcd"]),
    ({"type": "string", "pattern": "^a+$", "maxLength": 3}, ["a", "aaa"], ["aaaa", "b", ""]),
    ({"type": "string", "pattern": "b"}, ["abc", "b"], ["ac"]),
    ({"type": "string", "pattern": "^a|bb$", "maxLength": 2}, ["ac", "a", "bb"], ["xbb", "b"]),
    (
        {"type": "string", "pattern": "^(ab|c)*$", "minLength": 2, "maxLength": 3},
        ["ab", "cc", "abc", "cab", "ccc"],
        ["", "c", "a", "abab"],
    ),
    (
        {"type": "string", "format": "hostname", "minLength": 2, "maxLength": 6},
        ["ab", "a.b", "ab.cde"],
        ["a", "a.", "abcdefg"],
    ),
    (
        {"type": "string", "allOf": [{"pattern": "a"}, {"not": {"pattern": "b"}}]},
        ["a", "ca"],
        ["ab", ""],
    ),
    ({"type": "string", "format": "date"}, ["2024-02-29"], ["2023-02-29", "x"]),
    ({"enum": [1, "a", None, [1, {"x": 2}]]}, [1, "a", None, [1, {"x": 2}]], [2, "b", [1]]),
    ({"const": {"a": 1}}, [{"a": 1}], [{"a": 2}, {}, {"a": 1, "b": 1}]),
    (AB, [{}, {"a": 1}, {"a": 1, "b": "x", "c": None}], [{"a": "1"}, {"b": 1}, []]),
    ({**AB, "additionalProperties": False}, [{}, {"b": "x"}], [{"c": 1}]),
    ({**AB, "required": ["b"]}, [{"b": "x"}, {"a": 1, "b": "x"}], [{}, {"a": 1}]),
    (
        {"type": "object", "patternProperties": {"^n": {"type": "integer"}}},
        [{"n": 1, "x": "y"}],
        [{"n": "y"}],
    ),
    ({"type": "object", "propertyNames": {"maxLength": 2}}, [{"ab": 1}, {}], [{"abc": 1}]),
    (  # names that part from the declared ones, at once or after a while
        {
            "type": "object",
            "properties": {"x-a": {"type": "null"}, "b": {"type": "null"}, "": {"type": "null"}},
            "patternProperties": {"^x-": {"type": ["integer", "null"]}},
            "additionalProperties": False,
        },
        [{"x-a": None}, {"b": None}, {"": None}, {"x-": 1}, {"x-b": 1}, {"x-ab": 1, "x-a": None}],
        [{"x-a": 1}, {"x": 1}, {"x": None}, {"b": 1}, {"bc": None}, {"": 1}],
    ),
    (  # some declared ones have no other name after them
        {
            "type": "object",
            "properties": {"xa": {"type": "null"}, "b": {"type": "null"}},
            "patternProperties": {
                "^.{2}$": {"type": ["integer", "null"]},
                "^fo+$": {"type": "null"},
            },
            "additionalProperties": False,
        },
        [{"xa": None}, {"b": None}, {"xb": 1}, {"fo": None}, {"foo": None}],
        [{"xa": 1}, {"b": 1}, {"c": None}, {"fo": 1}, {"foo": 1}, {"xab": None}],
    ),
    ({"type": "object", "minProperties": 2, "maxProperties": 3}, [{"a": 1, "b": 2}], [{"a": 1}]),
    (
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        [[1], [1, 2]],
        [[], [1, 2, 3]],
    ),
    (
        {"type": "array", "prefixItems": [{"type": "null"}], "items": False},
        [[], [None]],
        [[1], [None, 1]],
    ),
    (
        {"type": "array", "contains": {"const": 1}, "maxContains": 1},
        [[1], [2, 1]],
        [[], [2], [1, 1]],
    ),
    (
        {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True},
        [[], ["a", "b"]],
        [["a", "a"]],
    ),
    (
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        [["a", "ab"]],
        [["a", "b", "a"]],
    ),
    ({"not": {"type": "string"}}, [1, {}, []], ["a"]),
    (
        {
            "type": ["object", "null"],
            "propertyNames": False,
            "not": {"type": "object", "additionalProperties": False},
        },
        [None],
        [{}, {"a": 1}],
    ),
    ({"oneOf": [{"multipleOf": 2}, {"multipleOf": 3}], "type": "integer"}, [2, 3, 4], [6, 1]),
    (
        {"if": {"type": "string"}, "then": {"maxLength": 1}, "else": {"type": "null"}},
        ["a", None],
        ["ab", 1],
    ),
    ({**AB, "dependentRequired": {"a": ["b"]}}, [{}, {"b": ""}, {"a": 1, "b": ""}], [{"a": 1}]),
    ({"allOf": [AB], "unevaluatedProperties": False, "type": "object"}, [{"a": 1}], [{"c": 1}]),
    (
        {
            "$ref": "#/$defs/t",
            "$defs": {"t": {"type": ["null", "array"], "items": {"$ref": "#/$defs/t"}}},
        },
        [[[None], []]],
        [[1]],
    ),
]


@pytest.mark.parametrize(("schema", "valid", "invalid"), CASES)
def test_accepts_exactly_the_valid(schema, valid, invalid):
    grammar = compiled(schema, order="any")
    validator = jsonschema.Draft202012Validator(schema)
    for value in valid:
        assert fits(grammar, value), value
    for value in invalid:
        assert not fits(grammar, value), value
        if "format" not in schema:
            assert not validator.is_valid(value)


@pytest.mark.parametrize("order", ["schema", "any"])
@pytest.mark.parametrize("schema", [schema for schema, _, _ in CASES])
def test_sampled_texts_are_valid(schema, order):
    rng = random.Random(json.dumps(schema))
    grammar = compiled(schema, order=order)
    validator = jsonschema.Draft202012Validator(schema)
    for _ in range(12):
        text = sample(Matcher(grammar), rng, max_tokens=80, audit=0.05)
        if text is not None:
            validator.validate(json.loads(text))


def random_schema(rng: random.Random, depth: int = 2):
    scalar = [
        {"type": "string", "maxLength": rng.randrange(4)},
        {"type": "string", "pattern": rng.choice(["^a", "b$", "[ab]{2}"])},
        {"type": "integer", "minimum": rng.randrange(-5, 5), "maximum": rng.randrange(5, 30)},
        {"enum": rng.sample([1, 2, "a", "b", None, True], 3)},
        {"type": ["null", "boolean"]},
    ]
    if depth == 0:
        return rng.choice(scalar)

    def inner():
        return random_schema(rng, depth - 1)

    objects = {
        "type": "object",
        "properties": {
            name: inner() for name in rng.sample(["a", "ab", "b", "c/d"], rng.randrange(1, 4))
        },
        "required": rng.sample(["a", "b"], rng.randrange(3)),
        "additionalProperties": rng.choice([False, inner()]),
    }
    arrays = {
        "type": "array",
        "items": inner(),
        "minItems": rng.randrange(2),
        "maxItems": rng.randrange(2, 4),
    }
    combined = {rng.choice(["anyOf", "oneOf", "allOf"]): [inner(), inner()]}
    negated = {"type": ["string", "integer", "null"], "not": inner()}
    return rng.choice([*scalar, objects, objects, arrays, combined, negated])


@pytest.mark.parametrize("seed", range(150))
def test_random_schemas(seed):
    rng = random.Random(seed)
    schema = random_schema(rng)
    validator = jsonschema.Draft202012Validator(schema)
    try:
        grammar = compiled(schema, order=rng.choice(["schema", "any"]))
    except GrammarError as error:
        refused = error.code
        grammar = None
    if grammar is None:
        assert refused in ("unsatisfiable_schema", "grammar_too_complex", "unsupported_keyword")
        return
    for _ in range(10):
        text = sample(Matcher(grammar), rng, max_tokens=80, audit=0.05)
        if text is not None:
            validator.validate(json.loads(text))


def test_members_come_in_the_order_that_is_asked_for():
    first, last = {"a": 1, "b": "x", "z": 0}, {"z": 0, "b": "x", "a": 1}
    assert fits(compiled(AB), first)
    assert not fits(compiled(AB), last)
    assert fits(compiled(AB, order="any"), first)
    assert fits(compiled(AB, order="any"), last)
    assert not fits_text(compiled(AB, order="any"), '{"a": 1, "a": 2}')


def test_whitespace_is_bounded():
    texts = {"compact": '{"a":1,"b":""}', "spaced": '{"a": 1, "b": ""}'}
    indented = '{\n  "a": 1,\n  "b": ""\n}'
    for name, text in texts.items():
        grammar = compiled(AB, whitespace=name)
        assert [fits_text(grammar, other) for other in texts.values()] == [
            text == other for other in texts.values()
        ]
    flexible = compiled(AB)
    assert all(fits_text(flexible, text) for text in (*texts.values(), indented))
    assert not fits_text(flexible, '{"a": 1,\n\n"b": ""}')
    assert not fits_text(flexible, '{"a": 1,\n' + " " * 100 + '"b": ""}')


@pytest.mark.parametrize(
    ("schema", "code", "pointer"),
    [
        ({"properties": {"a": {"format": "regex"}}}, "unsupported_keyword", "/properties/a/format"),
        (
            {"items": {"uniqueItems": True, "contains": {"const": 1}}},
            "unsupported_keyword",
            "/items/uniqueItems",
        ),
        ({"items": {"$ref": "http://x.y/z"}}, "unsupported_keyword", "/items/$ref"),
        (
            {"properties": {"a/b": {"type": "strin"}}},
            "invalid_json_schema",
            "/properties/a~1b/type",
        ),
        ({"properties": {"a": 3}}, "invalid_json_schema", "/properties/a"),
        ({"minLength": -1, "type": "string"}, "invalid_json_schema", "/minLength"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#"}}}, "invalid_json_schema", ""),
        ({"allOf": [{"type": "string"}, {"type": "null"}]}, "unsatisfiable_schema", ""),
        (
            {"type": "object", "maxProperties": 0, "required": ["a"]},
            "unsatisfiable_schema",
            "",
        ),
        (
            {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#"}}},
            "unsatisfiable_schema",
            "",
        ),
    ],
)
def test_refusals_name_the_place(schema, code, pointer):
    with pytest.raises(GrammarError) as caught:
        compiled(schema)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


@pytest.mark.parametrize(
    "text", ["{", "[1]", "{'a': 1}", '{"minimum": NaN}', '{"minimum": 1e999999}']
)
def test_what_is_not_a_schema_is_refused(text):
    with pytest.raises(GrammarError) as caught:
        compile_grammar(JsonSchemaSpec(text), VOCABULARY)
    assert caught.value.code == "invalid_json_schema"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"items":' * 3_000 + "true" + "}" * 3_000,
        '{"not":' * 200 + "true" + "}" * 200,
        json.dumps(
            {"type": "array", "prefixItems": [], "contains": {"type": "null"}, "minContains": 10**9}
        ),
    ],
)
def test_hostile_schemas_end_in_a_named_error(text):
    with pytest.raises(GrammarError) as caught:
        Matcher(compile_grammar(JsonSchemaSpec(text), VOCABULARY))
    assert caught.value.code in ("grammar_too_complex", "invalid_json_schema")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "maxLength": 10**9},
        {"type": "array", "items": {"type": "integer"}, "maxItems": 10**9},
        {"enum": [f"value {index}" for index in range(50_000)]},
        {"type": "object", "properties": {f"p{index}": {} for index in range(2_000)}},
    ],
)
def test_large_schemas_are_served(schema):
    matcher = Matcher(compiled(schema))
    assert sample(matcher, random.Random(0), max_tokens=3) is None or matcher.is_complete


def test_any_json():
    grammar = compile_grammar(AnyJsonSpec(), VOCABULARY)
    for value in ({"a": [1, {"b": None}], "c": "é\n"}, [], "x", 1.5, True):
        assert fits(grammar, value)
    only_objects = compile_grammar(AnyJsonSpec(object_only=True), VOCABULARY)
    assert fits(only_objects, {"a": []})
    assert not fits(only_objects, [])


def test_schemas_that_mean_the_same_are_one():
    document = Document(
        json.dumps(
            {
                "$defs": {"s": {"type": "string"}, "x": {"$ref": "#/$defs/y"}, "y": {"$ref": "#"}},
                "properties": {
                    "a": {"type": "string", "title": "A"},
                    "b": {"$ref": "#/$defs/s", "description": "B"},
                    "c": {"$ref": "#/$defs/s", "minLength": 1},
                    "d": {"$ref": "#/$defs/x"},
                    "e": {"title": "E"},
                },
            }
        ),
        Limits(),
    )
    a, b, c, d, e = (document.root.child("properties", name).same for name in "abcde")
    assert a is b
    assert c is document.root.child("properties", "c")
    assert d is document.root
    assert e.value is True


def test_schemas_with_equal_subschemas_are_one():
    point = {"type": "object", "properties": {"x": {"type": "number"}, "y": {"enum": [1, 2]}}}
    named = {**point, "title": "a point", "properties": {**point["properties"]}}
    other = {**point, "properties": {"y": {"enum": [1, 2]}, "x": {"type": "number"}}}
    unions = [{"anyOf": [point, {"type": "null"}]}, {"anyOf": [named, {"type": "null"}]}]
    names = dict(zip("abcdef", [point, named, other, *unions, {**point, "$id": "p"}], strict=True))
    document = Document(json.dumps({"properties": names}), Limits())
    a, b, c, d, e, f = (document.root.below("properties", name) for name in names)
    assert a is b
    assert d is e
    assert c is not a  # in the schema's order, the members come otherwise
    assert f is not a  # its references may lead elsewhere


def test_recursive_schemas_are_compared_without_end():
    tree = {"properties": {"left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"}}}
    deep = {"type": "string"}
    for _ in range(200):
        deep = {"items": deep}
    document = Document(json.dumps({"$defs": {"tree": tree}, **tree, "not": deep}), Limits())
    assert document.root.below("properties", "left") is document.root.child("$defs", "tree")
    assert document.root.below("not").value is not True
