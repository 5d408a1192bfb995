"""Free text: any UTF-8 up to the first of some texts, with none of some others in it.

The texts are found by an automaton of Aho and Corasick over bytes. A mask of free text is that of
all text, less the tokens that run past a text which is looked for: those are found in the
vocabulary's trie by the text, so no state of free text is walked.
"""

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ramify.grammars.charsets import Alphabet, SpellingNode, spelling
from ramify.grammars.inside import Inside
from ramify.grammars.lexer import Lexer
from ramify.grammars.structural_tags.marks import Shortcut
from ramify.grammars.terminals import Key, Terminal
from ramify.grammars.vocabulary import Vocabulary

ENDED = -1  # the label of text in a tag that has read the tag's end too
_MET, _REST = -1, -2  # in place of a node in keys: (_MET, label), (_REST, stop, bytes read)


class Stop(NamedTuple):
    """A text that free text looks for."""

    text: bytes
    label: int | None  # of the end that it makes; None: it may not be read
    shortcuts: tuple[Shortcut, ...] = ()


class Jump(NamedTuple):
    """A special token that free text looks for."""

    before: bytes  # the text that must stand before it: the beginning of a stop
    token_id: int
    label: int  # of the end that it makes


@cache
def any_char() -> SpellingNode:
    """The bytes of any one character."""
    return spelling(Alphabet(()), json=False)


class FreeText(Terminal):
    """Text up to a stop. Key: (node of the automaton, node of the spelling of a character).

    With `may_end` it may end at any character (label 0), else only at a stop. `is_last`: nothing
    follows where it ends without a stop.
    """

    def __init__(
        self,
        stops: Sequence[Stop],
        jumps: Sequence[Jump],
        *,
        may_end: bool,
        is_last: bool,
    ) -> None:
        self._stops = stops
        self._jumps = jumps
        self._may_end = may_end
        self._is_last = is_last
        self._root = any_char()
        self._scan = _Automaton([stop.text for stop in stops])
        self._met = [self._first_of(found) for found in self._scan.found]
        self._within: list[int] | None = None  # by the one vocabulary that it is used with
        self.start: Key = (0, self._root)

    # -- terminal

    def transitions(self, key: Key) -> dict[int, Key]:
        """Bytes of any character but the last of what may not be read."""
        if key[0] == _MET:
            return {}
        if key[0] == _REST:
            return {self._stops[key[1]].text[key[2]]: self._rest(key[1], key[2] + 1)}
        moves = ((byte, self.move(key, byte)) for byte in key[1].next)
        return {byte: target for byte, target in moves if target is not None}

    def move(self, key: Key, byte: int) -> Key | None:
        """One byte of a character."""
        if key[0] < 0:
            return self.transitions(key).get(byte)
        following = key[1].next.get(byte)
        if following is None:
            return None
        node = self._scan.step(key[0], byte)
        met = self._met[node]
        if met is None:
            return (node, following if isinstance(following, SpellingNode) else self._root)
        label = self._stops[met].label
        return None if label is None else (_MET, label)

    def label(self, key: Key) -> int | None:
        """The stop that was met; 0 between characters where the text may just end."""
        if key[0] == _MET:
            return int(key[1])
        return 0 if self._may_end and key[0] >= 0 and key[1] is self._root else None

    def special(self, key: Key) -> dict[int, Key]:
        """Tokens that are stops, or part of one: then the rest of the stop must follow."""
        if key[0] == _MET or (key[0] >= 0 and key[1] is not self._root):
            return {}
        out: dict[int, Key] = {}
        if key[0] == _REST:
            _, index, num_read = key
            read = self._stops[index].text[:num_read]
            for token_id, start, end in self._stops[index].shortcuts:
                if start == num_read:
                    out[token_id] = self._rest(index, end)
            return out | {
                jump.token_id: (_MET, jump.label) for jump in self._jumps if jump.before == read
            }
        read = self._scan.text(key[0])
        for index, stop in enumerate(self._stops):
            for token_id, start, end in stop.shortcuts if stop.label is not None else ():
                if read.endswith(stop.text[:start]):
                    out[token_id] = self._rest(index, end)
        for before, token_id, label in self._jumps:
            if read.endswith(before):
                out[token_id] = (_MET, label)
        return out

    def inside(self, lexer: Lexer, key: Key) -> Inside | None:
        """All text's tokens but those that run past a stop."""
        if key[0] < 0 or (self._may_end and not self._is_last):
            return None
        vocabulary = lexer.vocabulary
        trie = vocabulary.trie
        text = _text_table(vocabulary, key[1])
        row = text.row
        out: list[int] = []
        nodes: list[int] = []
        labels: list[int | None] = []
        for node, met in self._stops_below(vocabulary, key[0], text):
            label = self._stops[met].label
            first = trie.first[node] if label is None else trie.first[node + 1]
            out += trie.token_ids[first : trie.first[trie.skip[node]]].tolist()
            if label is not None:
                nodes.append(node)
                labels.append(label)
        return lexer.made(row & ~_row_of(vocabulary, np.array(out, np.int64)), (), nodes, labels)

    # -- what is never met

    def hidden_stop(self) -> "tuple[Stop, Stop] | None":
        """A stop with a label that is never met, and the one that is always met before it."""
        for index, stop in enumerate(self._stops):
            node = 0
            for byte in stop.text if stop.label is not None else b"":
                node = self._scan.step(node, byte)
                met = self._met[node]
                if met is not None and met != index:
                    return stop, self._stops[met]
        return None

    # -- inner parts

    def _first_of(self, found: tuple[int, ...]) -> int | None:
        """Of the stops met at once, the longest; but one that may not be read comes last."""
        labelled = [at for at in found if self._stops[at].label is not None]
        return next(iter(labelled or found), None)

    def _rest(self, stop: int, num_read: int) -> Key:
        text, label, _ = self._stops[stop]
        return (_MET, label) if num_read == len(text) else (_REST, stop, num_read)

    def _stops_below(
        self, vocabulary: Vocabulary, node: int, text: "_TextTable"
    ) -> list[tuple[int, int]]:
        """(trie node, stop) where tokens that are read from a state meet their first stop."""
        met = set(self._within_tokens(vocabulary))
        todo = [(prefix, 0) for prefix in self._scan.suffixes(node)]
        while todo:  # the ways on from what was read, in both tries at once
            prefix, at = todo.pop()
            for byte, child in self._scan.children[prefix].items():
                below = vocabulary.children(at).get(byte)
                if below is not None:
                    todo.append((child, below))
                    if self._met[child] is not None:
                        met.add(below)
        out: list[tuple[int, int]] = []
        end = 0
        for at in sorted(met):
            if at < end or not text.between[at]:
                continue
            end = int(vocabulary.trie.skip[at])
            out.append((at, self._stop_at(vocabulary, node, at)))
        return out

    def _within_tokens(self, vocabulary: Vocabulary) -> list[int]:
        """Trie nodes whose bytes end in a stop."""
        if self._within is None:
            self._within = [
                node for stop in self._stops for node in _nodes_ending_in(vocabulary, stop.text)
            ]
        return self._within

    def _stop_at(self, vocabulary: Vocabulary, node: int, at: int) -> int:
        """The stop that is met at a trie node."""
        path = bytearray()
        while at:
            path.append(int(vocabulary.trie.byte[at]))
            at = int(vocabulary.parents[at])
        for byte in reversed(path):
            node = self._scan.step(node, byte)
        met = self._met[node]
        assert met is not None
        return met


class _Automaton:
    """Aho and Corasick's: which of some texts end here, whatever came before."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.children: list[dict[int, int]] = [{}]
        self._parents: list[tuple[int, int]] = [(0, 0)]  # (node, byte)
        own: dict[int, list[int]] = {}
        for index, text in enumerate(texts):
            node = 0
            for byte in text:
                child = self.children[node].get(byte)
                if child is None:
                    child = self.children[node][byte] = len(self.children)
                    self.children.append({})
                    self._parents.append((node, byte))
                node = child
            own.setdefault(node, []).append(index)
        self._fail = [0] * len(self.children)
        self._next: list[dict[int, int]] = [{} for _ in self.children]
        self.found: list[tuple[int, ...]] = [()] * len(self.children)  # texts, longest first
        todo = [0]
        for node in todo:  # breadth first
            if node:
                above, byte = self._parents[node]
                self._fail[node] = self.step(self._fail[above], byte) if above else 0
            self.found[node] = (*own.get(node, ()), *(self.found[self._fail[node]] if node else ()))
            todo += self.children[node].values()

    def step(self, node: int, byte: int) -> int:
        """The longest beginning of a text that what was read now ends in."""
        row = self._next[node]
        target = row.get(byte)
        if target is None:
            at = node
            while at and byte not in self.children[at]:
                at = self._fail[at]
            target = row[byte] = self.children[at].get(byte, 0)
        return target

    def suffixes(self, node: int) -> list[int]:
        """The beginnings of texts that what was read ends in, but for the empty one."""
        out: list[int] = []
        while node:
            out.append(node)
            node = self._fail[node]
        return out

    def text(self, node: int) -> bytes:
        """What was read, as far as it matters."""
        out = bytearray()
        while node:
            node, byte = self._parents[node]
            out.append(byte)
        return bytes(reversed(out))


class _TextTable(NamedTuple):
    """What the vocabulary says of text from one place in a character on."""

    row: np.ndarray  # [num_words] uint32: tokens that are text
    between: np.ndarray  # [num_nodes] bool: trie nodes that are text, and end between characters


def prepare(vocabulary: Vocabulary) -> None:
    """Make the tables that every free text needs, where the wait is not felt."""
    numbers, _ = _char_states()
    for start in numbers:
        _text_table(vocabulary, start)


def _text_table(vocabulary: Vocabulary, start: SpellingNode) -> _TextTable:
    tables: dict[SpellingNode, _TextTable] = vocabulary.tables.setdefault("text", {})
    found = tables.get(start)
    if found is None:
        found = tables[start] = _make_text_table(vocabulary, start)
    return found


def _make_text_table(vocabulary: Vocabulary, start: SpellingNode) -> _TextTable:
    """Level by level of the trie: the state of each node from that of its parent."""
    numbers, following = _char_states()
    trie = vocabulary.trie
    states = np.zeros(trie.num_nodes, np.uint8)  # 0 = not text
    states[0] = numbers[start]
    order = np.argsort(trie.depth, kind="stable")
    edges = np.searchsorted(trie.depth[order], np.arange(1, int(trie.depth.max(initial=0)) + 2))
    for first, end in pairwise(edges.tolist()):
        level = order[first:end]
        states[level] = following[states[vocabulary.parents[level]], trie.byte[level]]
    tokens = trie.token_ids[np.repeat(states > 0, np.diff(trie.first))]
    return _TextTable(_row_of(vocabulary, tokens), states == numbers[any_char()])


def _row_of(vocabulary: Vocabulary, token_ids: np.ndarray) -> np.ndarray:
    """[num_words] uint32: the bits of some tokens."""
    bits = np.zeros(32 * vocabulary.num_words, bool)
    bits[token_ids] = True
    return np.packbits(bits, bitorder="little").view(np.uint32)


@cache
def _char_states() -> tuple[dict[SpellingNode, int], np.ndarray]:
    """Numbers from 1 of the places in a character, and [number, byte] -> number, 0 = not text."""
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


def _nodes_ending_in(vocabulary: Vocabulary, text: bytes) -> list[int]:
    """Trie nodes whose bytes end in a text."""
    nodes = above = vocabulary.nodes_by_byte(text[-1])
    for byte in reversed(text[:-1]):
        above = vocabulary.parents[above]
        kept = (above > 0) & (vocabulary.trie.byte[above] == byte)
        nodes, above = nodes[kept], above[kept]
    return nodes.tolist()  # type: ignore[no-any-return]
