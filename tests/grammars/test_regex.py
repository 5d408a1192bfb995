import random
import re

import pytest

from ramify.grammars import ChoicesSpec, GrammarError, Limits, Matcher, RegexSpec, compile_grammar
from tests.grammars.vocabularies import byte_vocabulary, sample

VOCABULARY = byte_vocabulary(b"ab", b"abc", b"123", b"\xc3\xa9t", b"\xa9", b"-1", b"aaaa", b"ab1")

FULL_MATCHES = [
    ("abc", ["abc"], ["", "ab", "abcd", "ABC"]),
    (r"a\.b\*", ["a.b*"], ["aXb*"]),
    ("a{", ["a{"], ["a"]),
    ("a{,2}", ["", "a", "aa"], ["aaa"]),
    ("a{2,}?", ["aa", "aaaa"], ["a"]),
    (r"[^\d\s]+", ["ab-é"], ["a1", "a "]),
    ("[]a]+", ["]a"], ["b"]),
    ("[\u0430-\u044f]+", ["\u043f\u0440\u0438"], ["hi"]),
    (r"\w+", ["żółw", "漢字", "a_1"], ["-", ""]),
    (r"(?a)\w+", ["ab"], ["é"]),
    (r"\d+", ["٣٤", "12"], ["a"]),
    ("a.c", ["a🐢c", "a c"], ["a\nc", "ac"]),
    ("(?s).", ["\n"], [""]),
    ("(?i)straße|K", ["STRAßE", "k", "\u212a"], ["strasse"]),
    ("(?i:ab)c", ["ABc"], ["ABC"]),
    ("(?x) a b # comment\n c", ["abc"], ["a b c"]),
    ("^a|b$", ["a", "b"], ["ab", ""]),
    ("x*^a", ["a"], ["xa"]),
    (r"(?:^)*a(?:\b)?(?<=a)*", ["a"], ["", "aa"]),
    ("(a$)?b", ["b"], ["ab", "a"]),
    ("a$\n?", ["a", "a\n"], ["a\n\n"]),
    ("(?m)a$.*", ["a"], ["ab", "a\n"]),
    ("(?ms)a\n^b", ["a\nb"], ["ab"]),
    ("(|a)b", ["b", "ab"], ["aab"]),
    ("", [""], ["a"]),
    (r"\bfoo\b", ["foo"], ["foox"]),
    (r"a\Bb|a\b-", ["ab", "a-"], ["a"]),
    ("(?=a)[ab]+", ["ab"], ["ba"]),
    ("(?!admin$)[a-z]+", ["adminx", "user"], ["admin"]),
    (r"(?=.*\d)(?=.*[a-z]).{4,6}", ["abc1", "1234x"], ["abcd", "1234", "a1"]),
    ("(?:(?!ab).)*", ["aac", "b", ""], ["xab"]),
    ("[ab]+(?<=b)c", ["abc"], ["bac"]),
    ("[ab]+(?<!b)c", ["bac"], ["abc"]),
    ("(a+)+b", ["aaab"], ["aaa"]),
    ("a*+b|[ab]{1,2}+a", ["aab", "b", "aba"], ["aba" * 2, "aa", "ba"]),
    (r"(?>\d+)a|(?>xy)z|x{2}+x", ["12a", "xyz", "xxx"], ["12", "xx"]),
    ("[ab]*a[ab]{10}", ["abbbbbbbbbb"], ["bbbbbbbbbbb"]),
    (r"\101\0[\b]\N{BULLET}\u00e9", ["A\0\b\u2022é"], ["A"]),
]


@pytest.mark.parametrize(("pattern", "yes", "no"), FULL_MATCHES)
def test_accepts_what_fullmatch_accepts(pattern, yes, no):
    grammar = compile_grammar(RegexSpec(pattern), VOCABULARY)
    for text in yes + no:
        matcher = Matcher(grammar)
        fits = matcher.accept_text(text.encode()) and matcher.is_complete
        assert fits == bool(re.fullmatch(pattern, text)) == (text in yes), text


@pytest.mark.parametrize("pattern", [pattern for pattern, _, _ in FULL_MATCHES])
def test_sampled_texts_match(pattern):
    rng = random.Random(pattern)
    grammar = compile_grammar(RegexSpec(pattern), VOCABULARY)
    for _ in range(20):
        text = sample(Matcher(grammar), rng, audit=0.1)
        if text is not None:
            assert re.fullmatch(pattern, text.decode())


def random_pattern(rng: random.Random, depth: int = 3) -> str:
    kind = rng.randrange(9 if depth else 3)
    if kind < 3:
        return rng.choice(
            ["a", "b", "ab", ".", "[ab]", "[^a]", r"\d", r"\w", "é", "1", "-", r"[a-c1-3]"]
        )
    inner = random_pattern(rng, depth - 1)
    if kind < 5:
        return inner + random_pattern(rng, depth - 1)
    if kind == 5:
        return f"(?:{inner}|{random_pattern(rng, depth - 1)})"
    if kind == 6:
        return f"(?:{inner}){rng.choice(['*', '+', '?', '{2}', '{1,3}', '{,2}'])}"
    if kind == 7:
        return f"(?{rng.choice('=!')}{inner})(?:{random_pattern(rng, depth - 1)})"
    return rng.choice(
        [rf"\b{inner}", rf"{inner}\b", f"^{inner}", f"(?:{inner}$|{inner})", f"(?i:{inner})"]
    )


@pytest.mark.parametrize("seed", range(300))
def test_random_patterns_agree_with_re(seed):
    rng = random.Random(seed)
    pattern = random_pattern(rng)
    expected = re.compile(pattern)
    texts = ["".join(rng.choices("ab1-é", k=rng.randrange(6))) for _ in range(60)]
    try:
        grammar = compile_grammar(RegexSpec(pattern), VOCABULARY)
    except GrammarError as error:
        refused = error
        grammar = None
    if grammar is None:
        unsupported = refused.code == "unsupported_regex"
        assert unsupported or not any(expected.fullmatch(text) for text in texts), refused
        return
    for text in texts:
        matcher = Matcher(grammar)
        fits = matcher.accept_text(text.encode()) and matcher.is_complete
        assert fits == bool(expected.fullmatch(text)), (pattern, text)
    for _ in range(10):
        found = sample(Matcher(grammar), rng, audit=0.3)
        assert found is None or expected.fullmatch(found.decode()), (pattern, found)


@pytest.mark.parametrize(
    ("pattern", "code", "offset"),
    [
        ("(", "invalid_regex", 0),
        ("ab[c", "invalid_regex", 2),
        ("a**", "invalid_regex", 2),
        ("x(?P<n>a)(?P<n>b)", "invalid_regex", 13),
        ("a\\", "invalid_regex", 1),
        ("a{3,2}", "invalid_regex", 1),
        ("[z-a]", "invalid_regex", 1),
        (r"\q", "invalid_regex", 0),
        (r"(a)\1", "unsupported_regex", 3),
        (r"(?P<x>a)(?P=x)", "unsupported_regex", 8),
        ("(a)?(?(1)b|c)", "unsupported_regex", 4),
        ("(ab)*+a", "unsupported_regex", 5),
        ("a(?>b|bc)", "unsupported_regex", 1),
        ("a(?<=bc)", "unsupported_regex", 1),
    ],
)
def test_refusals_name_the_offset(pattern, code, offset):
    with pytest.raises(GrammarError) as caught:
        compile_grammar(RegexSpec(pattern), VOCABULARY)
    assert (caught.value.code, caught.value.offset) == (code, offset)
    assert f"offset {offset}" in caught.value.message


@pytest.mark.parametrize("pattern", ["a{1000000}", "(a{1000}){1000}", "(" * 500 + ")" * 500])
def test_what_is_too_large_is_refused(pattern):
    with pytest.raises(GrammarError) as caught:
        compile_grammar(RegexSpec(pattern), VOCABULARY)
    assert caught.value.code == "grammar_too_complex"


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(GrammarError, match="matches no text"):
        compile_grammar(RegexSpec("a(?!b)b"), VOCABULARY)


def test_choices_are_the_only_texts():
    choices = ("yes", "no", "not sure", "é")
    grammar = compile_grammar(ChoicesSpec(choices), VOCABULARY)
    rng = random.Random(0)
    found = {sample(Matcher(grammar), rng, audit=1) for _ in range(60)}
    assert {text.decode() for text in found if text} == set(choices)


def test_choices_need_one():
    with pytest.raises(GrammarError, match="at least one"):
        compile_grammar(ChoicesSpec(()), VOCABULARY)


def test_machine_states_are_bounded():
    grammar = compile_grammar(RegexSpec("[ab]*a[ab]{12}"), VOCABULARY, Limits(machine_states=64))
    matcher = Matcher(grammar)
    text = bytes(random.Random(1).choices(b"ab", k=500))
    with pytest.raises(GrammarError) as caught:
        matcher.accept_text(text)
    assert caught.value.code == "grammar_too_complex"
    assert Matcher(grammar).accept_text(b"ab")  # a new matcher starts on fresh tables
