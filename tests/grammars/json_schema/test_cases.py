"""Combinators multiplied out: branches that exclude one another cost no cases."""

import json

import pytest

from ramify.grammars import GrammarError, JsonSchemaSpec, compile_grammar
from tests.grammars.conformance import BYTES, fits


def compiled(schema, **options):
    return compile_grammar(JsonSchemaSpec(json.dumps(schema), order="any", **options), BYTES)


def branch(kind: str, *names: str):
    members = {name: {"type": "string", "minLength": 1} for name in names}
    return {"properties": {"type": {"enum": [kind]}, **members}}


def test_a_union_told_apart_by_a_constant_needs_no_product():
    kinds = [branch(f"kind {at}", *(f"{at}-{name}" for name in "abcdef")) for at in range(12)]
    grammar = compiled({"type": "object", "required": ["type"], "oneOf": kinds})
    assert fits(grammar, '{"type": "kind 3", "3-a": "x", "4-a": ""}')
    assert not fits(grammar, '{"type": "kind 3", "3-a": ""}')
    assert not fits(grammar, '{"type": "kind 99"}')


def test_a_branch_excluded_by_what_all_members_are():
    union = {"type": "object", "oneOf": [branch(kind, "a", "b", "c") for kind in "xyz"]}
    for part in union["oneOf"]:
        part["required"] = ["type"]
    off = {"type": "object", "additionalProperties": {"const": False}, "minProperties": 1}
    grammar = compiled({"oneOf": [union, off]})
    assert fits(grammar, '{"any": false}')
    assert fits(grammar, '{"type": "y", "a": "1"}')
    assert not fits(grammar, '{"type": "y", "a": false}')


def test_overlapping_branches_stay_exact():
    grammar = compiled(
        {
            "oneOf": [
                {"type": "object", "required": ["a"], "properties": {"t": {"enum": ["x", "y"]}}},
                {"type": "object", "required": ["b"], "properties": {"t": {"enum": ["y", "z"]}}},
            ]
        }
    )
    assert fits(grammar, '{"a": 1, "b": 2, "t": "x"}')
    assert fits(grammar, '{"a": 1, "b": 2, "t": "z"}')
    assert not fits(grammar, '{"a": 1, "b": 2, "t": "y"}')
    assert not fits(grammar, '{"a": 1, "b": 2}')


def test_too_many_cases_are_refused_with_the_place():
    parts = [{"anyOf": [{"required": [f"{at}{name}"]} for name in "abcd"]} for at in range(8)]
    with pytest.raises(GrammarError, match="512 cases") as error:
        compiled({"properties": {"p": {"type": "object", "allOf": parts}}})
    assert error.value.pointer == "/properties/p"
