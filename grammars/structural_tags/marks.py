"""Begins, ends and separators: texts in which a special token may stand for its own text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ramify.grammars.terminals import Key, Terminal


class Shortcut(NamedTuple):
    """A special token that stands for text[start:end]."""

    token_id: int
    start: int
    end: int


class Mark(NamedTuple):
    """A text, and after it, with `token_id`, that one token in no other spelling."""

    text: bytes
    shortcuts: tuple[Shortcut, ...] = ()
    token_id: int | None = None


def after(mark: Mark, num_read: int) -> Mark:
    """What is left of a mark after some bytes."""
    left = [
        Shortcut(token_id, start - num_read, end - num_read)
        for token_id, start, end in mark.shortcuts
        if start >= num_read
    ]
    return Mark(mark.text[num_read:], tuple(left), mark.token_id)


def find_shortcuts(text: str, special_tokens: Mapping[str, int]) -> tuple[Shortcut, ...]:
    """The special tokens in a text, leftmost first and the longest there, as tokenizers see it."""
    found: list[Shortcut] = []
    names = sorted((name for name in special_tokens if name in text), key=len, reverse=True)
    at = 0
    while names and at < len(text):
        name = next((name for name in names if text.startswith(name, at)), None)
        if name is None:
            at += 1
            continue
        start = len(text[:at].encode())
        found.append(Shortcut(special_tokens[name], start, start + len(name.encode())))
        at += len(name)
    return tuple(found)


class Marks(Terminal):
    """One of some marks, as a trie; the label says which of `groups` it is in."""

    def __init__(self, groups: Sequence[Iterable[Mark]]) -> None:
        self.start: Key = 0
        self._next: list[dict[int, int]] = [{}]
        self._special: list[dict[int, int]] = [{}]
        self._label: dict[int, int] = {}
        for label, group in enumerate(groups):
            for mark in group:
                self._label.setdefault(self._add(mark), label)

    def transitions(self, key: Key) -> dict[int, Key]:
        """Down the trie."""
        return self._next[key]

    def special(self, key: Key) -> dict[int, Key]:
        """Down the trie by a token."""
        return self._special[key]

    def label(self, key: Key) -> int | None:
        """The group of the mark that ends here."""
        return self._label.get(key)

    def _add(self, mark: Mark) -> int:
        nodes = [0]
        for byte in mark.text:
            nodes.append(self._child(self._next[nodes[-1]], byte))
        for token_id, start, end in mark.shortcuts:
            self._special[nodes[start]][token_id] = nodes[end]
        if mark.token_id is not None:
            return self._child(self._special[nodes[-1]], mark.token_id)
        return nodes[-1]

    def _child(self, following: dict[int, int], symbol: int) -> int:
        found = following.get(symbol)
        if found is None:
            found = following[symbol] = len(self._next)
            self._next.append({})
            self._special.append({})
        return found
