"""A request's way through its grammar: what is forced, what is allowed, and when it has to end."""

from random import Random

import numpy as np
import pytest

from ramify.grammars import ChoicesSpec, JsonSchemaSpec, RegexSpec, compile_grammar
from ramify.grammars.vocabulary import Vocabulary
from ramify.runtime.guide import Forcing, Guide

WORDS = (b'{"', b"name", b'":', b'"name"', b'":"', b'"}', b"long", b"er")
PIECES = [*(bytes([byte]) for byte in range(256)), *WORDS, None]
VOCABULARY = Vocabulary(PIECES, [len(PIECES) - 1])
SCHEMA = """{"type": "object", "properties": {"name": {"enum": ["long", "longer"]}},
"required": ["name"], "additionalProperties": false}"""


def letters(text: str) -> list[int]:
    """A tokenizer that writes every byte as a token of its own."""
    return list(text.encode())


def allowed(guide: Guide) -> list[int]:
    row = np.zeros(VOCABULARY.num_words, np.int32)
    guide.fill(row)
    return np.flatnonzero(np.unpackbits(row.view(np.uint8), bitorder="little")).tolist()


def answer(guide: Guide, limit: int, rng: Random) -> bytes:
    text = b""
    for _ in range(limit):
        token = guide.forced[0] if guide.forced else rng.choice(allowed(guide))
        assert guide.accept(token)
        if guide.is_finished:
            break
        text += PIECES[token] or b""
        if guide.must_end:
            break
    return text


@pytest.mark.parametrize("spec", [JsonSchemaSpec(SCHEMA, whitespace="compact"), RegexSpec("a{9}b")])
@pytest.mark.parametrize("room", [0, 1, 5, 50])
def test_the_tokenizers_own_tokens_are_forced_only_as_far_as_they_fit(spec, room):
    grammar = compile_grammar(spec, VOCABULARY)
    forcing = Forcing(lambda token: PIECES[token] or b"", letters)
    assert grammar.min_tokens is not None
    limit = grammar.min_tokens + room
    for seed in range(20):
        text = answer(Guide(grammar, limit, forcing), limit, Random(seed))
        assert text in (b'{"name":"long"}', b'{"name":"longer"}', b"a" * 9 + b"b"), text


def test_a_guide_has_to_end_where_nothing_may_follow():
    guide = Guide(compile_grammar(ChoicesSpec(("long", "longer")), VOCABULARY), 9)
    for word, must_end in ((b"long", False), (b"er", True)):
        assert guide.accept(PIECES.index(word))
        assert guide.must_end == must_end


def test_where_no_token_is_left_for_more_only_the_end_is_allowed():
    guide = Guide(compile_grammar(ChoicesSpec(("long", "longest, by far")), VOCABULARY), 3)
    assert guide.accept(PIECES.index(b"long"))
    assert allowed(guide) == [len(PIECES) - 1]
