from ramify.grammars import JsonSchemaSpec, Matcher, compile_grammar
from ramify.grammars.warm import warm
from tests.grammars.vocabularies import byte_vocabulary


def test_a_warm_vocabulary_knows_strings_numbers_and_names():
    vocabulary = byte_vocabulary(b'": "', b'",', b"12", b"ab")
    warm(vocabulary)
    known = len(vocabulary.tables["lexer"]._tables._inside)
    schema = '{"additionalProperties": {"type": ["string", "integer", "null"]}}'
    matcher = Matcher(compile_grammar(JsonSchemaSpec(schema), vocabulary))
    for byte in b'{"abc": "x", "d": 12':
        assert matcher.accept_text(bytes((byte,)))
        matcher.mask()
    new = len(vocabulary.tables["lexer"]._tables._inside) - known
    assert new < known // 4, (new, known)
