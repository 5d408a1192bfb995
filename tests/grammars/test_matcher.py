import gc
import json
import random
import weakref

import numpy as np
import pytest

from ramify.grammars import JsonSchemaSpec, Matcher, RegexSpec, compile_grammar
from ramify.grammars.lexer import Lexer
from tests.grammars.vocabularies import allowed, byte_vocabulary

VOCABULARY = byte_vocabulary(b"12", b"-", b"1-")
EOS = VOCABULARY.eos_token_ids[0]
CONTROL = EOS - 1


@pytest.fixture
def matcher():
    return Matcher(compile_grammar(RegexSpec(r"[0-9]{2}-[0-9]+"), VOCABULARY))


def test_fill_writes_the_whole_row(matcher):
    row = np.full(VOCABULARY.num_words + 3, -1, np.int32)
    matcher.fill(row)
    assert (row[: VOCABULARY.num_words] == matcher.mask()).all()
    assert not row[VOCABULARY.num_words :].any()


def test_a_refused_token_changes_nothing(matcher):
    before = allowed(matcher)
    assert not matcher.accept(ord("x"))
    assert not matcher.accept(CONTROL)
    assert not matcher.accept(EOS)
    assert not matcher.accept_text(b"1x")
    assert allowed(matcher) == before


def test_end_of_sequence_is_allowed_exactly_when_complete(matcher):
    for char in "12-3":
        assert EOS not in allowed(matcher)
        assert not matcher.is_complete
        assert matcher.accept(ord(char))
    assert matcher.is_complete
    assert EOS in allowed(matcher)
    assert matcher.accept(EOS)
    assert matcher.is_finished
    assert allowed(matcher) == {EOS}
    assert not matcher.accept(ord("1"))


def test_rollback_undoes(matcher):
    rng = random.Random(0)
    masks = [allowed(matcher)]
    for _ in range(5):
        assert matcher.accept(rng.choice(sorted(masks[-1] - {EOS})))
        masks.append(allowed(matcher))
    matcher.rollback(2)
    assert allowed(matcher) == masks[3]
    matcher.rollback(3)
    assert allowed(matcher) == masks[0]
    with pytest.raises(ValueError, match="rollback"):
        matcher.rollback(1)


def test_forced_is_what_leaves_no_choice():
    wanted = {
        "type": "object",
        "properties": {"name": {"enum": ["one", "only"]}},
        "required": ["name"],
        "additionalProperties": False,
    }
    schema = JsonSchemaSpec(json.dumps(wanted), whitespace="compact")
    matcher = Matcher(compile_grammar(schema, VOCABULARY))
    assert matcher.forced() == b'{"name":"on'
    assert matcher.accept_text(matcher.forced())
    assert matcher.forced() == b""
    assert matcher.accept_text(b"e")
    assert matcher.forced() == b'"}'
    assert matcher.accept_text(b'"}')
    assert matcher.is_complete
    assert matcher.forced() == b""


def test_a_clone_goes_its_own_way(matcher):
    matcher.accept_text(b"12")
    other = matcher.clone()
    assert other.accept_text(b"-7")
    assert not matcher.is_complete
    assert other.is_complete
    other.rollback(2)
    assert other.accept_text(b"99")


def test_a_lexer_is_freed_with_the_last_machine_that_uses_it(monkeypatch):
    made = []

    class Watched(Lexer):
        def __init__(self, vocabulary):
            super().__init__(vocabulary)
            made.append(weakref.ref(self))

    grammar = compile_grammar(JsonSchemaSpec('{"maxLength": 9}'), VOCABULARY)
    monkeypatch.setattr("ramify.grammars.matcher.Lexer", Watched)
    gc.disable()
    try:
        assert grammar.min_tokens == 1
        assert [lexer() for lexer in made] == [None]
        monkeypatch.setitem(VOCABULARY.tables, "lexer", Watched(VOCABULARY))
        matcher = Matcher(grammar)
        matcher.accept_text(b'"ab')
        matcher.mask(4)
        monkeypatch.undo()
        assert made[1]() is not None
        del grammar, matcher
        assert made[1]() is None
    finally:
        gc.enable()
