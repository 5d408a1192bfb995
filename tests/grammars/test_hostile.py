"""Specs made to cost much are served, or refused by name."""

import json

import pytest

from ramify.grammars import (
    GrammarError,
    JsonSchemaSpec,
    Limits,
    Matcher,
    RegexSpec,
    compile_grammar,
)
from ramify.grammars.closing import Closing
from ramify.grammars.json_schema import objects
from ramify.grammars.lexer import Lexer
from ramify.grammars.machine import Machine
from ramify.grammars.tight import MASK_STEPS
from tests.grammars.hostile_specs import HOSTILE
from tests.grammars.vocabularies import allowed, byte_vocabulary

VOCABULARY = byte_vocabulary(b"aa", b"ab", b"ba", b'": ', b'", "', b"hello", b"prop_", b"value-")
REFUSALS = {"grammar_too_complex", "invalid_json_schema"}


@pytest.mark.parametrize("name", HOSTILE)
def test_is_served_or_refused(name):
    spec, text = HOSTILE[name]
    try:
        grammar = compile_grammar(spec, VOCABULARY)
        _ = grammar.min_tokens  # known, or given up
        matcher = Matcher(grammar)
        fits = all(byte in allowed(matcher) and matcher.accept(byte) for byte in text)
        left = allowed(matcher)
        matcher.mask(50)
    except GrammarError as error:
        refusal = error
    else:
        assert fits and left
        return
    assert refusal.code in REFUSALS and len(refusal.message) < 2000, refusal


def test_a_square_of_names_is_refused_by_name():
    names = [f"p{at}" for at in range(30)]
    spec = JsonSchemaSpec(json.dumps({"required": names}))
    compile_grammar(spec, VOCABULARY, Limits(members=30))
    with pytest.raises(GrammarError, match="30 members named") as caught:
        compile_grammar(spec, VOCABULARY, Limits(members=29))
    assert caught.value.code == "grammar_too_complex"


@pytest.mark.parametrize(
    "value",
    [
        {"type": "object", "minProperties": 10**6},
        {"type": "array", "minItems": 10**6},
        {"type": "array", "minItems": 10**6, "uniqueItems": True},
        {"type": "string", "minLength": 10**6},
    ],
)
def test_no_least_number_of_tokens_is_named_where_it_is_not_found(value):
    grammar = compile_grammar(JsonSchemaSpec(json.dumps(value)), VOCABULARY)
    assert grammar.min_tokens is None


@pytest.mark.parametrize("num", [1, 3, 10, 20])
def test_members_of_any_name_have_a_least_number_of_tokens(num):
    value = {"type": "object", "minProperties": num}
    grammar = compile_grammar(JsonSchemaSpec(json.dumps(value)), VOCABULARY)
    assert grammar.min_tokens is not None and grammar.min_tokens >= 4 * num + 1


def test_a_walk_along_one_long_way_takes_no_square_of_steps():
    grammar = compile_grammar(RegexSpec("a{3000}"), VOCABULARY)
    ways = Closing(Machine(Lexer(VOCABULARY), grammar._root, Limits())).ways
    ways._steps.allow(MASK_STEPS)
    machine = Machine(ways._lexer, grammar._root, Limits())
    lexed = machine.places[machine.start][0][0]
    assert ways.length(lexed) == len(ways.way(lexed)[0]) == 3000
    assert len(ways._lengths) == 3000  # each state's is kept


@pytest.mark.parametrize("num", [0, 1, 2, 5, 6, 7, -1])
def test_the_lowest_bits(num):
    bits = 0b1011_0101_0001
    expected = sum(1 << at for at in [0, 4, 6, 8, 9, 11][: max(num, 0)])
    assert objects._lowest(bits, num) == expected
