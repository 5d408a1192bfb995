"""What a vocabulary says of plain text: which tokens are text, and where texts end in its trie."""

from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ramify.grammars.charsets import Alphabet, SpellingNode, spelling
from ramify.grammars.vocabulary import Vocabulary

BETWEEN = 1  # number of the place between two characters


@cache
def any_char() -> SpellingNode:
    """The bytes of any one character."""
    return spelling(Alphabet(()), json=False)


class TextTable(NamedTuple):
    """What the vocabulary says of text from one place in a character on."""

    row: np.ndarray  # [num_words] uint32: tokens that are text
    chars: np.ndarray  # [num_nodes] uint8: number of the place in a character at each trie node


def prepare(vocabulary: Vocabulary) -> None:
    """Make the tables that every free text needs, where the wait is not felt."""
    numbers, _ = char_states()
    for start in numbers:
        text_table(vocabulary, start)


def text_table(vocabulary: Vocabulary, start: SpellingNode) -> TextTable:
    """The table of one place in a character."""
    tables: dict[SpellingNode, TextTable] = vocabulary.tables.setdefault("text", {})
    found = tables.get(start)
    if found is None:
        found = tables[start] = _made(vocabulary, start)
    return found


def _made(vocabulary: Vocabulary, start: SpellingNode) -> TextTable:
    """Level by level of the trie: the state of each node from that of its parent."""
    numbers, following = char_states()
    trie = vocabulary.trie
    states = np.zeros(trie.num_nodes, np.uint8)  # 0 = not text
    states[0] = numbers[start]
    order = np.argsort(trie.depth, kind="stable")
    edges = np.searchsorted(trie.depth[order], np.arange(1, int(trie.depth.max(initial=0)) + 2))
    for first, end in pairwise(edges.tolist()):
        level = order[first:end]
        states[level] = following[states[vocabulary.parents[level]], trie.byte[level]]
    tokens = trie.token_ids[np.repeat(states > 0, np.diff(trie.first))]
    row = row_of(vocabulary, tokens)
    row.flags.writeable = False
    return TextTable(row, states)


def row_of(vocabulary: Vocabulary, token_ids: np.ndarray) -> np.ndarray:
    """[num_words] uint32: the bits of some tokens."""
    bits = np.zeros(32 * vocabulary.num_words, bool)
    bits[token_ids] = True
    return np.packbits(bits, bitorder="little").view(np.uint32)


@cache
def char_states() -> tuple[dict[SpellingNode, int], np.ndarray]:
    """Numbers of the places in a character (1: between two), and [number, byte] -> number, 0 = not
    text."""
    root = any_char()
    numbers = {root: 1}
    todo = [root]
    for node in todo:
        for target, _ in node.groups:
            if isinstance(target, SpellingNode) and target not in numbers:
                numbers[target] = len(numbers) + 1
                todo.append(target)
    following = np.zeros((len(numbers) + 1, 256), np.uint8)
    for node, number in numbers.items():
        for byte, target in node.next.items():
            following[number, byte] = numbers[target if isinstance(target, SpellingNode) else root]
    return numbers, following
