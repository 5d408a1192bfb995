import random

import lark
import pytest

from ramify.grammars import EbnfSpec, GrammarError, Matcher, compile_grammar
from tests.grammars.vocabularies import byte_vocabulary, sample

VOCABULARY = byte_vocabulary(b"aa", b"ab", b"))", b"((", b"()", b"1+", b"if ", b"x")

GBNF = [
    ('root ::= "a" | "bc" | ""', ["a", "bc", ""], ["b"]),
    ("root ::= [a-z]{2,3} '-' #x41+ .", ["ab-Ax", "abc-AA\n"], ["a-Ax", "ab-A"]),
    (r'root ::= "\"" [^"\\\n]* "\""', ['"é🐢"'], ['"a"b"']),
    ("root ::= a # comment\n# another\na\n ::=\n 'x'\n | 'y'", ["x", "y"], ["a"]),
    ('root ::= "[" root* "]"', ["[]", "[[][[]]]", "[" * 60 + "]" * 60], ["[[]", "]["]),
    (
        'root ::= root "+" t | t\nt ::= t "*" f | f\nf ::= [0-9]+ | "(" root ")"',
        ["1", "1+2*3", "(1+2)*3+4"],
        ["1+", "*1", "(1"],
    ),
    ('root ::= a\na ::= b "x" | "1"\nb ::= a "y" | "2"', ["1", "2x", "1yx", "2xyx"], ["2", "1y"]),
    ('root ::= e root "a" | "b"\ne ::= "" | "c"', ["b", "ba", "cbaa", "baa"], ["a", "cb"]),
    ('root ::= "a" root "b" | ""', ["", "ab", "aaabbb"], ["aab", "abb"]),
    ('root ::= root root | "a"', ["a", "a" * 12], ["", "b"]),
    ('root ::= ("(" root ")"){2,3} | "x"', ["x", "(x)(x)", "(x)(x)((x)(x))"], ["(x)", "(x)" * 4]),
    ('<root> ::= <a> | "z" <root>?\n<a> ::= "y"', ["y", "zy", "zz"], [""]),
]
LARK = [
    ('start: "a"? ("b" | "c")* "d"+ ["e"]', ["d", "abcd", "bdde"], ["a", "ea"]),
    ('start: "a"~2..3 "b"~2', ["aabb", "aaabb"], ["abb"]),
    ("start: /ab.c/is", ["AB\nC"], ["ab"]),
    ('%ignore " "\nstart: "a" "b"', ["ab", "a  b", " a b "], ["ba"]),
    ('start: "if" NAME | NAME\nNAME: /[a-z]+/\n%ignore " "', ["if x", "ify", "if"], ["1"]),
    ('start: sep{NUM, ","}\nsep{x, d}: x (d x)*\nNUM: /[0-9]+/', ["1,2,3", "1"], ["1,", ""]),
    ('?start: start "+" a | a\n?a: "(" start ")" | /[0-9]/', ["1+2", "(1+2)+3"], ["1+", ")"]),
    ("%import common.ESCAPED_STRING\nstart: ESCAPED_STRING", ['"a\\"b"'], ['"a']),
]


def fits(grammar, text: str) -> bool:
    matcher = Matcher(grammar)
    return matcher.accept_text(text.encode()) and matcher.is_complete


@pytest.mark.parametrize(("text", "yes", "no"), GBNF + LARK)
def test_accepts_the_language(text, yes, no):
    grammar = compile_grammar(EbnfSpec(text), VOCABULARY)
    assert [fits(grammar, each) for each in yes + no] == [True] * len(yes) + [False] * len(no)
    rng = random.Random(text)
    for _ in range(10):
        sample(Matcher(grammar), rng, max_tokens=30, audit=0.2)


@pytest.mark.parametrize("text", [text for text, _, _ in LARK])
def test_sampled_texts_parse_with_lark(text):
    parser = lark.Lark(text, parser="earley", lexer="dynamic_complete")
    grammar = compile_grammar(EbnfSpec(text), VOCABULARY)
    rng = random.Random(1)
    for _ in range(15):
        found = sample(Matcher(grammar), rng, max_tokens=20)
        if found is not None:
            parser.parse(found.decode())


@pytest.mark.parametrize("text", ['top: "a" | start\nstart: "b"', 'top ::= "a" | "b"'])
def test_starts_with_the_rule_that_is_asked_for(text):
    grammar = compile_grammar(EbnfSpec(text, start="top"), VOCABULARY)
    assert fits(grammar, "a") and fits(grammar, "b")


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ('root ::= "a" root', "invalid_grammar", "'root' can never end"),
        ('root ::= "a" b', "invalid_grammar", "'b', not defined"),
        ('a ::= "a"', "invalid_grammar", "no rule 'root'"),
        ('root ::= "a', "invalid_grammar", "offset 9"),
        ('root ::= ("a"', "invalid_grammar", "offset 9"),
        ('root ::= "a"\nroot ::= "b"', "invalid_grammar", "twice"),
        ("root ::= [b-a]", "invalid_grammar", "range"),
        ("start: foo", "invalid_grammar", "foo"),
        ("%declare X\nstart: X", "invalid_grammar", "'X' is declared"),
        ("%import .secrets.X\nstart: X", "invalid_grammar", "cannot import from"),
        ("%import nothing.X\nstart: X", "invalid_grammar", "nothing"),
        ("%import common.NOTHING\nstart: NOTHING", "invalid_grammar", "NOTHING"),
        ("start: (", "invalid_grammar", "grammar"),
        ("root ::= " + "(" * 60_000 + '"a"' + ")" * 60_000, "grammar_too_complex", "nested"),
        ('root ::= ("(" root ")" | "a"){1000,3000}', "grammar_too_complex", "repeats"),
    ],
)
def test_refusals_say_why(text, code, part):
    with pytest.raises(GrammarError) as caught:
        compile_grammar(EbnfSpec(text), VOCABULARY)
    assert caught.value.code == code
    assert part in caught.value.message
