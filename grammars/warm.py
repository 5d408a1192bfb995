"""What all grammars of a vocabulary use, made before the first of them is."""

from ramify.grammars import kernels
from ramify.grammars.compile import compile_grammar
from ramify.grammars.matcher import Matcher
from ramify.grammars.spec import JsonSchemaSpec
from ramify.grammars.vocabulary import Vocabulary

_SCHEMA = """{"properties": {"text": {"type": "string", "maxLength": 1000}, "rest": true},
 "additionalProperties": false}"""
_TEXT = """{
  "text": "a \\n\\\\ \\u001f é 漢 😀", "rest": {"a": [0, -1.5e+3, 12, "b é 漢 😀 \\u0000", true,
   false, null], "c": {}, "é漢😀 \\u0000 \\n": []}}"""


def warm(vocabulary: Vocabulary) -> None:
    """Load the kernels, and make the tables of strings, names, numbers and punctuation."""
    kernels.load()
    matcher = Matcher(compile_grammar(JsonSchemaSpec(_SCHEMA, "any"), vocabulary))
    matcher.mask()
    for byte in _TEXT.encode():
        is_allowed = matcher.accept_text(bytes((byte,)))
        assert is_allowed, (_TEXT, byte)
        matcher.mask()
    len(vocabulary.nodes_by_byte(0))
    len(vocabulary.parents)
