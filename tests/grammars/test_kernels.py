import numpy as np
import pytest

from ramify.grammars import kernels
from ramify.grammars.automata import AnyText
from ramify.grammars.charsets import spelling
from ramify.grammars.lexer import Lexer
from ramify.grammars.limits import DEFAULT_LIMITS, Budget
from ramify.grammars.regex import regex_automaton
from ramify.grammars.regex_syntax import parse
from ramify.grammars.terminals import Text
from tests.grammars.vocabularies import byte_vocabulary

VOCABULARY = byte_vocabulary(
    b"ab", b"abc", b"\xc3\xa9\xc3", b"\xa9x", b'a"', b'a",', b"ab1", b"1a1a1a"
)


def walk_of(pattern: str):
    lexer = Lexer(VOCABULARY)
    automaton = regex_automaton(parse(pattern), Budget(DEFAULT_LIMITS), pattern)
    state = lexer.start(Text(automaton, spelling(automaton.alphabet, json=False)))
    lexer.inside(state)  # fills the dense rows
    return lexer._dense, lexer._dense_of(state)


@pytest.mark.parametrize("pattern", [".*", "[a-z]+", "(?:ab|é)*1?", r'[^"]*"'])
def test_the_kernel_equals_its_reference(pattern):
    dense, start = walk_of(pattern)
    words = VOCABULARY.num_words
    for found, expected in zip(
        kernels.inside_walk(VOCABULARY.trie, dense, start, words),
        kernels.inside_walk_ref(VOCABULARY.trie, dense, start, words),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_unknown_rows_are_named():
    dense, start = walk_of("[a-z]+")
    dense.next[start] = kernels.UNKNOWN
    for walk in (kernels.inside_walk, kernels.inside_walk_ref):
        assert walk(VOCABULARY.trie, dense, start, VOCABULARY.num_words).unknown.tolist() == [start]


def test_any_text_spells_all_characters_and_nothing_else():
    root = spelling(AnyText.alphabet, json=False)
    for code in (0, 0x7F, 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF):
        node = root
        for byte in chr(code).encode():
            node = node.next[byte]
        assert isinstance(node, int)
    for wrong in (
        b"\x80",
        b"\xc0",
        b"\xc1",
        b"\xe0\x80",
        b"\xed\xa0",
        b"\xf0\x80",
        b"\xf4\x90",
        b"\xf5",
    ):
        node = root
        for byte in wrong[:-1]:
            node = node.next[byte]
        assert wrong[-1] not in node.next
