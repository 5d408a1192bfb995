"""Free text: any UTF-8 up to the first of some texts, with none of some others in it.

The texts are found by an automaton of Aho and Corasick over bytes. A mask of free text is that of
all text, less the tokens that run past a text which is looked for: those are found in the
vocabulary's trie by the text, so no state of free text is walked.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ramify.grammars.charsets import SpellingNode
from ramify.grammars.inside import Inside
from ramify.grammars.lexer import Lexer
from ramify.grammars.structural_tags.marks import Shortcut
from ramify.grammars.structural_tags.scan import Automaton
from ramify.grammars.structural_tags.text_tables import (
    BETWEEN,
    TextTable,
    any_char,
    char_states,
    row_of,
    text_table,
)
from ramify.grammars.terminals import Key, Terminal
from ramify.grammars.vocabulary import Vocabulary

ENDED = 0  # the label of text that is over; those of its triggers are others
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


class _Moves(Mapping[int, Key]):
    """The bytes of one key that lead on, and where: looked up, for they are many."""

    __slots__ = ("_key", "_text")

    def __init__(self, text: "FreeText", key: Key) -> None:
        self._text = text
        self._key = key

    def __getitem__(self, byte: int) -> Key:
        target = self._text.move(self._key, byte)
        if target is None:
            raise KeyError(byte)
        return target

    def get(self, byte: int, default: Any = None) -> Any:
        """As in a dict."""
        target = self._text.move(self._key, byte)
        return default if target is None else target

    def __iter__(self) -> Iterator[int]:
        return (byte for byte in self._key[1].next if self._text.move(self._key, byte) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class FreeText(Terminal):
    """Text up to a stop. Key: (node of the automaton, node of the spelling of a character).

    With `may_end` it may end at any character (label ENDED), else only at a stop. `is_last`:
    nothing follows where it ends without a stop.
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
        self._scan = Automaton([stop.text for stop in stops])
        self._met = [self._first_of(found) for found in self._scan.found]
        self._places = self._find_places()
        self._within: tuple[np.ndarray, np.ndarray] | None = None  # of its one vocabulary
        self._keys: dict[Key, Key] = {}
        self.start: Key = (0, self._root)

    # -- terminal

    def transitions(self, key: Key) -> Mapping[int, Key]:
        """Bytes of any character but the last of what may not be read."""
        if key[0] == _MET:
            return {}
        if key[0] == _REST:
            return {self._stops[key[1]].text[key[2]]: self._rest(key[1], key[2] + 1)}
        return _Moves(self, key)

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
            return self._key(node, following if isinstance(following, SpellingNode) else self._root)
        label = self._stops[met].label
        return None if label is None else self._key(_MET, label)

    def label(self, key: Key) -> int | None:
        """The stop that was met; ENDED between characters where the text may just end."""
        if key[0] == _MET:
            return int(key[1])
        return ENDED if self._may_end and key[0] >= 0 and key[1] is self._root else None

    def is_detour(self, key: Key) -> bool:
        """A trigger is one."""
        return self.label(key) != ENDED

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
        text = text_table(vocabulary, key[1])
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
        row = text.row & ~row_of(vocabulary, np.array(out, np.int64)) if out else text.row
        return lexer.made(row, (), nodes, labels)

    def states(self, lexer: Lexer, key: Key) -> np.ndarray | None:
        """As `inside`: all text's states but near the beginnings of stops."""
        if key[0] < 0:
            return None
        vocabulary = lexer.vocabulary
        text = text_table(vocabulary, key[1])
        numbers, _ = char_states()
        plain = [0, *(lexer.state(self, (0, place)) for place in numbers)]
        states: np.ndarray = np.array(plain, np.int32)[text.chars]
        states[0] = lexer.state(self, key)
        near, scanned = self._within_tokens(vocabulary)
        by_node = np.array([self._state_of(lexer, at) for at in range(len(self._met))], np.int32)
        is_text = text.chars[near] > 0
        states[near[is_text]] = by_node[scanned[is_text]]
        for node, at in self._continued(vocabulary, key[0]).items():
            if text.chars[node]:
                states[node] = by_node[at]
        for node, _ in self._stops_below(vocabulary, key[0], text):
            states[node + 1 : vocabulary.trie.skip[node]] = 0
        return states

    def _state_of(self, lexer: Lexer, node: int) -> int:
        """The lexer's state at a node of the automaton."""
        met = self._met[node]
        if met is None:
            return lexer.state(self, (node, self._places[node]))
        label = self._stops[met].label
        return 0 if label is None else lexer.state(self, (_MET, label))

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

    def _key(self, *key: Any) -> Key:
        """One object for each key: who groups bytes by where they lead compares objects."""
        return self._keys.setdefault(key, key)

    def _find_places(self) -> list[SpellingNode]:
        """The place in a character at each node of the automaton."""
        places = [self._root]
        for above, byte in self._scan.parents[1:]:
            following = places[above].next[byte]
            places.append(following if isinstance(following, SpellingNode) else self._root)
        return places

    def _first_of(self, found: tuple[int, ...]) -> int | None:
        """Of the stops met at once, the longest; but one that may not be read comes last."""
        labelled = [at for at in found if self._stops[at].label is not None]
        return next(iter(labelled or found), None)

    def _rest(self, stop: int, num_read: int) -> Key:
        text, label, _ = self._stops[stop]
        return (_MET, label) if num_read == len(text) else (_REST, stop, num_read)

    def _stops_below(
        self, vocabulary: Vocabulary, node: int, text: TextTable
    ) -> list[tuple[int, int]]:
        """(trie node, stop) where tokens that are read from a state meet their first stop."""
        near, scanned = self._within_tokens(vocabulary)
        is_met = np.array([met is not None for met in self._met])[scanned]
        found = dict(zip(near[is_met].tolist(), scanned[is_met].tolist(), strict=True))
        found |= self._continued(vocabulary, node)
        out: list[tuple[int, int]] = []
        end = 0
        for at, read in sorted(found.items()):
            met = self._met[read]
            if met is not None and at >= end and text.chars[at] == BETWEEN:
                end = vocabulary.skips[at]
                out.append((at, met))
        return out

    def _within_tokens(self, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
        """Trie nodes whose bytes end in the beginning of a stop, and the automaton's node there."""
        if self._within is None:
            nodes, scanned = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
            todo = [(0, np.arange(vocabulary.trie.num_nodes))]
            for above, ends in todo:  # shorter beginnings first: the longest one counts
                is_end = np.zeros(vocabulary.trie.num_nodes, bool)
                is_end[ends] = True
                for byte, child in self._scan.children[above].items():
                    found = vocabulary.nodes_by_byte(byte)
                    found = found[is_end[vocabulary.parents[found]]]
                    if len(found):
                        nodes.append(found)
                        scanned.append(np.full(len(found), child))
                        todo.append((child, found))
            self._within = _last_of_each(np.concatenate(nodes), np.concatenate(scanned))
        return self._within

    def _continued(self, vocabulary: Vocabulary, node: int) -> dict[int, int]:
        """Trie nodes that go on with the beginning of a stop that was read before."""
        found: dict[int, int] = {}
        for prefix in reversed(self._scan.suffixes(node)):  # the longest one counts
            todo = [(prefix, 0)]
            while todo:
                above, at = todo.pop()
                for byte, child in self._scan.children[above].items():
                    below = vocabulary.children(at).get(byte)
                    if below is not None:
                        found[below] = child
                        todo.append((child, below))
        return found


def _last_of_each(nodes: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each node once, with the value that came last."""
    kept, at = np.unique(nodes[::-1], return_index=True)
    return kept, values[::-1][at]
