"""Specs made to cost much are served, or refused by name."""

import pytest

from ramify.grammars import GrammarError, Matcher, compile_grammar
from tests.grammars.hostile_specs import HOSTILE
from tests.grammars.vocabularies import allowed, byte_vocabulary

VOCABULARY = byte_vocabulary(b"aa", b"ab", b"ba", b'": ', b'", "', b"hello", b"prop_", b"value-")
REFUSALS = {"grammar_too_complex", "invalid_json_schema"}


@pytest.mark.parametrize("name", HOSTILE)
def test_is_served_or_refused(name):
    spec, text = HOSTILE[name]
    try:
        matcher = Matcher(compile_grammar(spec, VOCABULARY))
        fits = all(byte in allowed(matcher) and matcher.accept(byte) for byte in text)
        left = allowed(matcher)
    except GrammarError as error:
        refusal = error
    else:
        assert fits and left
        return
    assert refusal.code in REFUSALS and len(refusal.message) < 2000, refusal
