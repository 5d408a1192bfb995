"""uniqueItems: equal items are told whatever way they come about."""

import json

import pytest

from ramify.grammars import JsonSchemaSpec, compile_grammar
from tests.grammars.conformance import BYTES, fits


def unique(items, **more):
    schema = {"type": "array", "uniqueItems": True, "items": items, **more}
    return compile_grammar(JsonSchemaSpec(json.dumps(schema), order="any"), BYTES)


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
    ],
)
def test_equal_items_are_refused(items, yes, no):
    grammar = unique(items)
    assert [text for text in yes if not fits(grammar, text)] == []
    assert [text for text in no if fits(grammar, text)] == []
