"""strict=False: what cannot be enforced is left out, so that nothing valid is refused."""

import json

import pytest

from ramify.grammars import GrammarError, JsonSchemaSpec, compile_grammar
from tests.grammars.conformance import (
    BYTES,
    MASKBENCH,
    NO_HURRY,
    RATCHETS,
    REFUSED,
    SUITE,
    fits,
)

REMOTE = {"$ref": "http://example.com/elsewhere.json"}


def relaxed(schema, **options):
    spec = JsonSchemaSpec(json.dumps(schema), order="any", strict=False, **options)
    return compile_grammar(spec, BYTES, NO_HURRY)


def places(grammar):
    return {(each.pointer, each.keyword) for each in grammar.relaxed}


def test_what_can_be_enforced_is_not_relaxed():
    grammar = relaxed({"type": "object", "required": ["a"]})
    assert grammar.relaxed == ()
    assert not fits(grammar, "{}")


def test_says_what_and_why():
    grammar = relaxed({"properties": {"a": {"type": "string", "format": "regex", "minLength": 2}}})
    (found,) = grammar.relaxed
    assert (found.pointer, found.keyword) == ("/properties/a", "format")
    assert "regex" in found.why
    assert fits(grammar, '{"a": "(("}')
    assert not fits(grammar, '{"a": "("}')  # the rest is enforced


@pytest.mark.parametrize(
    ("schema", "dropped", "valid"),
    [
        ({"not": REMOTE}, {("", "not")}, [1, "a"]),
        ({"if": REMOTE, "then": {"type": "null"}}, {("", "if")}, [1, None]),
        ({"$defs": {"d": REMOTE}, "not": {"$ref": "#/$defs/d"}}, {("", "not")}, [1]),
        (
            {"not": {"items": {"not": REMOTE}}},  # two turns widen again, but it is not relied on
            {("", "not")},
            [1],
        ),
        ({"contains": REMOTE, "maxContains": 1}, {("", "contains")}, [[], [1, 2]]),
        (
            {"patternProperties": {"(a)\\1": {"type": "null"}}, "additionalProperties": False},
            {("", "patternProperties"), ("", "additionalProperties")},
            [{"aa": None}, {"b": 1}],
        ),
        (
            {"allOf": [REMOTE, {"properties": {"a": True}}], "unevaluatedProperties": False},
            {("", "unevaluatedProperties"), ("/allOf/0", "$ref")},
            [{"a": 1, "b": 2}],
        ),
    ],
)
def test_only_ever_widens(schema, dropped, valid):
    grammar = relaxed(schema)
    assert places(grammar) == dropped
    for value in valid:
        assert fits(grammar, json.dumps(value))


def test_one_of_becomes_any_of():
    grammar = relaxed({"oneOf": [{"type": "number"}, {"format": "regex"}, {"type": "array"}]})
    assert places(grammar) == {("", "oneOf"), ("/oneOf/1", "format")}
    assert fits(grammar, "1")
    assert fits(grammar, "{}")


def test_siblings_of_an_old_reference_stay_without_meaning():
    grammar = relaxed(
        {"$schema": "http://json-schema.org/draft-07/schema#", **REMOTE, "type": "string"}
    )
    assert fits(grammar, "1")


def test_a_schema_that_is_too_complex_loses_its_combinators():
    parts = [{"anyOf": [{"required": [f"{at}{name}"]} for name in "abcd"]} for at in range(8)]
    grammar = relaxed({"type": "object", "maxProperties": 9, "allOf": parts})
    assert grammar.relaxed
    assert not fits(grammar, "[]")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "text"},
        {"$ref": "#/nowhere"},
        {"pattern": "("},
        {"items": 3},
        {"type": "string", "minLength": 3, "maxLength": 2},
    ],
)
def test_a_wrong_schema_stays_an_error(schema):
    with pytest.raises(GrammarError):
        relaxed(schema)


def refused_groups():
    """(Schema, valid instances, formats) of the groups that are refused."""
    for name in ("json-schema-test-suite", "maskbench-254"):
        ratchet = json.loads((RATCHETS / f"{name}.json").read_text())
        for key, verdict in ratchet.items():
            if verdict != REFUSED:
                continue
            if name == "maskbench-254":
                case = json.loads((MASKBENCH / f"{key}.json").read_text(encoding="utf-8"))
                formats = True
            else:
                path, _, index = key.partition(" ")[0].partition("#")
                case = json.loads((SUITE / path).read_text(encoding="utf-8"))[int(index)]
                formats = path.startswith("optional/format/")
            yield key, case["schema"], [t["data"] for t in case["tests"] if t["valid"]], formats


@pytest.mark.skipif(not MASKBENCH.is_dir(), reason=f"no conformance data in {MASKBENCH.parent}")
def test_refused_groups_of_the_suites_take_all_that_is_valid():
    for key, schema, valid, formats in refused_groups():
        grammar = relaxed(schema, formats=formats)
        assert grammar.relaxed, key
        for value in valid:
            assert fits(grammar, json.dumps(value, ensure_ascii=False)), key
