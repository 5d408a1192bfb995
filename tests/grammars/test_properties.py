"""Random specs against independent oracles: `re` and lark. JSON Schema: test_properties_json.py.

RAMIFY_NIGHTLY=1 draws thousands of specs anew; otherwise some hundreds, the same ones each time.
"""

import os
import re
import warnings
from random import Random

import lark
from hypothesis import HealthCheck, Phase, assume, event, given, settings
from hypothesis import strategies as st

from ramify.grammars import ChoicesSpec, EbnfSpec, GrammarError, Matcher, RegexSpec, compile_grammar
from tests.grammars.random_specs import MAX_TEXT, extra_tokens, grammars, regexes
from tests.grammars.vocabularies import byte_vocabulary
from tests.grammars.walks import walk

NIGHTLY = os.environ.get("RAMIFY_NIGHTLY") == "1"
NUM_WALKS = 4


def draws(nightly: int, usual: int):
    return settings(
        max_examples=nightly if NIGHTLY else usual,
        derandomize=not NIGHTLY,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


def fits(grammar, text: str) -> bool:
    matcher = Matcher(grammar)
    return matcher.accept_text(text.encode()) and matcher.is_complete


def compiled_or_refusal(spec, vocabulary):
    try:
        return compile_grammar(spec, vocabulary), None
    except GrammarError as error:
        return None, error


def mutated(text: str, letters: str, rng: Random) -> str:
    """Nearly the same text."""
    at = rng.randrange(len(text) + 1)
    kind = rng.randrange(3)
    return text[:at] + (rng.choice(letters) if kind else "") + text[at + (kind != 1) :]


@draws(10_000, 250)
@given(piece=regexes(), extra=extra_tokens(), seed=st.integers(0, 2**32))
def test_a_regex_takes_what_fullmatch_takes(piece, extra, seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = re.compile(piece.spec)
    rng = Random(seed)
    texts = ["", *(piece.write(rng) for _ in range(6))]
    texts = [text for text in texts if len(text) < 40]
    texts += [mutated(text, "ab1-é A\n_", rng) for text in texts]
    if r"\B" in piece.spec:  # before Python 3.14 it does not match an empty text, as it should
        texts = [text for text in texts if text]
    grammar, refusal = compiled_or_refusal(RegexSpec(piece.spec), byte_vocabulary(*extra))
    if grammar is None:
        event(f"refused: {refusal.code}")
        if refusal.code == "unsupported_regex":
            assert "inside a lookahead" in refusal.message
            assert "(?=" in piece.spec or "(?!" in piece.spec
            return
        assert refusal.code in ("invalid_regex", "grammar_too_complex"), refusal
        if refusal.code == "invalid_regex":
            assert "matches no text" in refusal.message
            assert not any(expected.fullmatch(text) for text in texts)
        return
    event("compiled")
    for text in texts:
        assert fits(grammar, text) == bool(expected.fullmatch(text)), text
    for _ in range(NUM_WALKS):
        found = walk(Matcher(grammar), rng)
        assert not found or expected.fullmatch(found.decode()), found


@draws(5_000, 150)
@given(grammar=grammars(), extra=extra_tokens(), seed=st.integers(0, 2**32))
def test_a_grammar_takes_what_lark_takes(grammar, extra, seed):
    vocabulary = byte_vocabulary(*extra)
    try:
        parser = lark.Lark(
            grammar.lark,
            start="root",
            parser="earley",
            lexer="dynamic_complete",
            ambiguity="forest",
        )
    except lark.exceptions.LarkError as error:
        assume("defined twice" not in str(error))  # two alternatives of one rule are the same
        raise
    rng = Random(seed)
    texts = rng.sample(grammar.texts(), min(6, len(grammar.texts())))
    texts += ["", *(mutated(text, "abé(", rng) for text in texts)]
    texts = [text for text in texts if len(text) <= MAX_TEXT + 1]
    verdicts = [parses(parser, text) for text in texts]
    specs = EbnfSpec(grammar.gbnf), EbnfSpec(grammar.lark, "lark", "root")
    for spec in specs:
        found, refusal = compiled_or_refusal(spec, vocabulary)
        if found is None:
            event(f"refused: {refusal.code}")
            if refusal.code != "grammar_too_complex":  # such as left recursion below repeats
                assert refusal.code == "invalid_grammar"
                assert not any(verdicts), refusal
            continue
        try:
            assert [fits(found, text) for text in texts] == verdicts, (spec.syntax, texts)
            for _ in range(NUM_WALKS // 2):
                text = walk(Matcher(found), rng, num_steps=12)
                if text is not None and len(text) < 30:
                    assert parses(parser, text.decode()), (spec.syntax, text)
        except GrammarError as error:
            if error.code != "grammar_too_complex":
                raise
            event("too ambiguous")
        else:
            event("compiled")


def parses(parser: lark.Lark, text: str) -> bool:
    try:
        parser.parse(text)
    except (lark.exceptions.UnexpectedInput, lark.exceptions.ParseError):
        return False
    return True


@draws(1_000, 50)
@given(
    choices=st.lists(st.text('ab"é🐢\n', max_size=5), min_size=1, max_size=6),
    extra=extra_tokens(),
    seed=st.integers(0, 2**32),
)
def test_choices_are_the_only_texts(choices, extra, seed):
    rng = Random(seed)
    grammar = compile_grammar(ChoicesSpec(tuple(choices)), byte_vocabulary(*extra))
    assert all(fits(grammar, text) for text in choices)
    for text in choices:
        other = mutated(text, 'ab"é', rng)
        assert fits(grammar, other) == (other in choices)
    for _ in range(NUM_WALKS):
        found = walk(Matcher(grammar), rng, audit=0.5)
        assert found is None or found.decode() in choices
