"""Dynamic references, whose meaning depends on how the schema was reached."""

import json

import pytest

from ramify.grammars import JsonSchemaSpec, compile_grammar
from tests.grammars.conformance import BYTES, fits

TREE = "https://example.com/tree"
STRICT = "https://example.com/strict-tree"


def tree_2020(start):
    return {
        "$ref": start,
        "$defs": {
            "tree": {
                "$id": TREE,
                "$dynamicAnchor": "node",
                "type": "object",
                "properties": {"data": True, "children": {"items": {"$dynamicRef": "#node"}}},
            },
            "strict": {
                "$id": STRICT,
                "$dynamicAnchor": "node",
                "$ref": TREE,
                "unevaluatedProperties": False,
            },
        },
    }


def tree_2019(start):
    schema = json.loads(
        json.dumps(tree_2020(start))
        .replace('"$dynamicAnchor": "node"', '"$recursiveAnchor": true')
        .replace('"$dynamicRef": "#node"', '"$recursiveRef": "#"')
    )
    return {"$schema": "https://json-schema.org/draft/2019-09/schema", **schema}


@pytest.mark.parametrize("tree", [tree_2020, tree_2019])
def test_the_outermost_resource_decides(tree):
    misspelt = '{"children": [{"daat": 1}]}'
    grammar = compile_grammar(JsonSchemaSpec(json.dumps(tree(TREE))), BYTES)
    assert fits(grammar, misspelt)
    grammar = compile_grammar(JsonSchemaSpec(json.dumps(tree(STRICT))), BYTES)
    assert not fits(grammar, misspelt)
    assert fits(grammar, '{"children": [{"data": 1}]}')


def test_a_recursive_reference_stays_where_there_is_no_anchor():
    schema = tree_2019(STRICT)
    del schema["$defs"]["tree"]["$recursiveAnchor"]
    grammar = compile_grammar(JsonSchemaSpec(json.dumps(schema)), BYTES)
    assert fits(grammar, '{"children": [{"daat": 1}]}')
    assert not fits(grammar, '{"daat": 1}')
