from ramify.grammars import JsonSchemaSpec, Matcher, RegexSpec, compile, compile_grammar, tidy
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


def test_tables_that_grew_large_are_replaced_where_nobody_waits_or_at_twice_the_size(monkeypatch):
    vocabulary = byte_vocabulary()
    warm(vocabulary)
    old = vocabulary.tables["lexer"]
    tidy(vocabulary)
    assert vocabulary.tables["lexer"] is old
    monkeypatch.setattr(compile, "ARENA_STATES", 2 * len(old) // 3)
    compile_grammar(RegexSpec("a"), vocabulary)
    assert vocabulary.tables["lexer"] is old
    tidy(vocabulary)
    assert vocabulary.tables["lexer"] is not old
    monkeypatch.setattr(compile, "ARENA_STATES", len(old) // 3)
    compile_grammar(RegexSpec("a"), vocabulary)
    assert vocabulary.tables["lexer"] is not old
