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
    lexer.begin_mask(10_000)
    lexer._tables.walk_wide(state, lexer.root)  # fills the dense rows
    return lexer.dense, lexer.dense_of(state)


def assert_same(found, expected):
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("pattern", [".*", "[a-z]+", "(?:ab|é)*1?", r'[^"]*"'])
def test_the_kernel_equals_its_reference(pattern):
    dense, start = walk_of(pattern)
    trie = VOCABULARY.trie
    below = [node for node in range(trie.num_nodes) if trie.skip[node] > node + 1]
    for nodes in ([0], below):
        starts = np.array(nodes, np.int32)
        args = trie, dense, starts, np.full_like(starts, start), False
        assert_same(kernels.inside_walk(*args), kernels.inside_walk_ref(*args))


def test_a_walk_leaves_out_what_is_not_known_and_goes_on_from_there():
    dense, start = walk_of("[a-z]+")
    begin = np.zeros(1, np.int32), np.full(1, start, np.int32)
    whole = kernels.inside_walk_ref(VOCABULARY.trie, dense, *begin, False)
    reached = int(dense.next[start, ord("a")])
    known = dense.next[reached, ord("b")]
    dense.next[reached, ord("b")] = -1
    first = kernels.inside_walk(VOCABULARY.trie, dense, *begin, False)
    assert_same(first, kernels.inside_walk_ref(VOCABULARY.trie, dense, *begin, False))
    assert set(first.missing_states.tolist()) == {reached}
    dense.next[reached, ord("b")] = known
    args = VOCABULARY.trie, dense, first.missing_nodes, first.missing_states, True
    rest = kernels.inside_walk(*args)
    assert_same(rest, kernels.inside_walk_ref(*args))
    both = [*first.token_ids.tolist(), *rest.token_ids.tolist()]
    assert sorted(both) == sorted(whole.token_ids.tolist())


@pytest.mark.parametrize("pattern", [".*", "[a-z]+", "(?:ab|é)*1?", r'[^"]*"', "(?:[a-c]1)+|é+"])
def test_a_walk_by_characters_finds_what_one_by_bytes_does(pattern):
    automaton = regex_automaton(parse(pattern), Budget(DEFAULT_LIMITS), pattern)
    terminal = Text(automaton, spelling(automaton.alphabet, json=False))
    lexer = Lexer(VOCABULARY)
    for text in (b"", b"a", b"\xc3", b"ab"):
        state = lexer.start(terminal)
        for byte in text:
            state = lexer.next(state, byte)
        lexer.begin_mask(10_000)
        chars = terminal.chars(lexer.key(state)[1]) if state else None
        if chars is None:
            continue
        found = lexer._tables._chars.inside(terminal, chars, lexer.root)
        expected = lexer._tables.walk_wide(state, lexer.root)
        assert sorted(found.token_ids) == sorted(expected.token_ids)
        assert found.exits == expected.exits


def test_bits_are_set_as_by_the_reference():
    ids = np.array([0, 31, 32, 95, 31], np.int32)
    rows = np.zeros((2, 3), np.uint32)
    kernels.set_bits(rows[0], ids)
    kernels.set_bits_ref(rows[1], ids)
    assert_same(*rows)
    assert rows[0].tolist() == [0x80000001, 1, 0x80000000]
    kernels.clear_bits(rows[0], ids[1:3])
    kernels.clear_bits_ref(rows[1], ids[1:3])
    assert_same(*rows)
    assert rows[0].tolist() == [1, 0, 0x80000000]


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
