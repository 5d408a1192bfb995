"""Never truncated: with `min_remaining` tokens or more, every way through the masks is complete in
time, for random specs and any choice of tokens."""

import json
import warnings
from random import Random

import numpy as np
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from ramify.grammars import (
    EbnfSpec,
    GrammarError,
    JsonSchemaSpec,
    Matcher,
    RegexSpec,
    compile_grammar,
)
from tests.grammars.random_schemas import schemas
from tests.grammars.random_specs import extra_tokens, grammars, regexes
from tests.grammars.test_properties import compiled_or_refusal, draws
from tests.grammars.vocabularies import byte_vocabulary

ROOM = (0, 0, 1, 3, 12)  # tokens more than the minimum


def tokens_of(row: np.ndarray) -> set[int]:
    bits = np.unpackbits(row.view(np.uint8), bitorder="little")
    return set(np.flatnonzero(bits).tolist())


def finish_in_time(grammar, remaining: int, rng: Random, audit: float = 0.0) -> bytes:
    """A random text under the masks, which never ends before it has to if it need not."""
    matcher = Matcher(grammar)
    vocabulary = grammar.vocabulary
    ends = set(vocabulary.eos_token_ids)
    text = b""
    for left in range(remaining, 0, -1):
        tokens = tokens_of(matcher.mask(left))
        assert tokens, f"dead end after {text!r} with {left} left"
        assert tokens <= tokens_of(matcher.mask())
        if rng.random() < audit:
            check_each(matcher, tokens, left)
            check_ample(matcher)
        if tokens & ends and (tokens <= ends or rng.random() < 0.1):
            return text
        token = rng.choice(sorted(tokens - ends))
        assert matcher.accept(token)
        text += vocabulary.token_bytes[token] or b""
        assert matcher.min_remaining is not None and matcher.min_remaining <= left - 1, text
    assert matcher.is_complete, text
    return text


def check_each(matcher: Matcher, tokens: set[int], left: int) -> None:
    """What is allowed can be completed after it; what is not is not known to be, except inside
    texts that may not repeat, where only the way to the end is looked at."""
    tight = matcher._tight
    places = tight.machine.places[matcher._state]
    is_whole = all(tight._walk(lexed).is_whole for lexed, _ in places if lexed)
    for token in sorted(tokens_of(matcher.mask()) - set(matcher.grammar.vocabulary.eos_token_ids)):
        assert matcher.accept(token)
        count = matcher.min_remaining
        assert count is not None
        if token in tokens:
            assert count < left, token
        elif is_whole:
            assert count >= left, token
        matcher.rollback(1)


def check_ample(matcher: Matcher) -> None:
    """What is said to be ample without a look at the tokens is."""
    ample = matcher._tight._growth.ample(matcher._state)
    for token in tokens_of(matcher.mask()) - set(matcher.grammar.vocabulary.eos_token_ids):
        assert matcher.accept(token)
        count = matcher.min_remaining
        assert count is not None and count < ample, token
        matcher.rollback(1)


def fewest(grammar, at_most: int) -> int | None:
    """The fewest tokens of any text, by brute force."""
    states = [Matcher(grammar)]
    seen = set()
    for num in range(at_most + 1):
        if any(matcher.is_complete for matcher in states):
            return num
        following = []
        for matcher in states:
            for token in tokens_of(matcher.mask()) - set(grammar.vocabulary.eos_token_ids):
                other = matcher.clone()
                assert other.accept(token)
                if other._state not in seen:
                    seen.add(other._state)
                    following.append(other)
        states = following
        if len(seen) > 500:
            return None
    return None


def check(grammar, seed: int) -> None:
    minimum = Matcher(grammar).min_remaining
    assert minimum is not None
    rng = Random(seed)
    try:
        for room in ROOM:
            finish_in_time(grammar, minimum + room, rng, audit=0.005)
        found = fewest(grammar, minimum)
    except GrammarError as error:
        if error.code != "grammar_too_complex":  # some are too ambiguous
            raise
        return
    if found is not None:
        event(f"tokens above the fewest: {minimum - found}")
        assert found <= minimum
    event(f"minimum: {min(minimum, 30)}")


@draws(3_000, 120)
@given(piece=regexes(), extra=extra_tokens(), seed=st.integers(0, 2**32))
def test_a_regex_is_finished_in_time(piece, extra, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        grammar, _ = compiled_or_refusal(RegexSpec(piece.spec), byte_vocabulary(*extra))
    assume(grammar is not None)
    check(grammar, seed)


@draws(2_000, 80)
@given(grammar=grammars(), extra=extra_tokens(), seed=st.integers(0, 2**32))
def test_a_grammar_is_finished_in_time(grammar, extra, seed):
    compiled, _ = compiled_or_refusal(EbnfSpec(grammar.gbnf, "gbnf"), byte_vocabulary(*extra))
    assume(compiled is not None)
    check(compiled, seed)


@draws(3_000, 120)
@given(
    schema=schemas(),
    extra=extra_tokens(),
    order=st.sampled_from(["schema", "any"]),
    seed=st.integers(0, 2**32),
)
def test_a_schema_is_finished_in_time(schema, extra, order, seed):
    spec = JsonSchemaSpec(json.dumps(schema), order)
    grammar, _ = compiled_or_refusal(spec, byte_vocabulary(*extra))
    assume(grammar is not None)
    check(grammar, seed)


@pytest.mark.parametrize("pattern", ["(aa)*", "(.aa)*", "(b|a{9})*", "(a|bc{30})?"])
def test_a_text_that_may_end_at_once_is_finished_once_it_has_begun(pattern):
    grammar = compile_grammar(RegexSpec(pattern), byte_vocabulary(b"a", b"aa"))
    for seed in range(20):
        for limit in range(1, 40, 3):
            finish_in_time(grammar, limit, Random(seed), audit=0.2)


@pytest.mark.parametrize(
    ("pattern", "needed"),
    [("[0-9]{3}|hello", 1), ("[a-z]{6}", 2), ("x[a-z]+y[0-9]{2}", 2), ("(ab|c)*d", 1)],
)
def test_the_fewest_tokens_of_a_terminal_are_found_where_its_nearest_end_takes_more(
    pattern, needed
):
    grammar = compile_grammar(RegexSpec(pattern), byte_vocabulary(b"hello", b"abqz", b"xay", b"12"))
    assert grammar.min_tokens == needed == fewest(grammar, needed)
    for limit in range(needed, needed + 3):
        for seed in range(10):
            finish_in_time(grammar, limit, Random(seed), audit=0.2)


def test_a_search_gives_up_after_so_many_steps_on_any_machine(monkeypatch):
    spec = JsonSchemaSpec('{"type": "string", "minLength": 300}')
    vocabulary = byte_vocabulary()
    assert compile_grammar(spec, vocabulary).min_tokens == 302
    monkeypatch.setattr("ramify.grammars.tight.MASK_STEPS", 200)
    grammar = compile_grammar(spec, vocabulary)
    assert grammar.min_tokens == 302
    matcher = Matcher(grammar)
    assert tokens_of(matcher.mask(302)) == tokens_of(matcher.mask())  # no limit is kept to
    monkeypatch.setattr("ramify.grammars.matcher.MIN_STEPS", 200)
    assert compile_grammar(spec, vocabulary).min_tokens is None
