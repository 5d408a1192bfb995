"""Texts that are kept apart: each has a label of its own, and those seen before are left out."""

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple
from weakref import WeakKeyDictionary

from ramify.grammars.json_schema.keys import COLON
from ramify.grammars.json_schema.strings import quote
from ramify.grammars.terminals import Elsewhere, Key, Shadow, Terminal


class _Known(NamedTuple):
    """Texts from a key on: so many, or, if not all were counted, at least so many."""

    num: int
    is_all: bool


# By inner terminal, then by (its key, are they names?): the same, whatever was seen.
_NUM_TEXTS: "WeakKeyDictionary[Terminal, dict[tuple[Key, bool], _Known]]" = WeakKeyDictionary()
_TEXTS_AHEAD = 64


class Captured(Terminal):
    """Another terminal's texts, less those seen before; the label tells which text was read.

    `texts[label]` is (the text, None if not known, and the inner label). For names the text is
    the name, complete at its closing quote; else it is all the bytes. `is_last`: what follows an
    end is the same whatever was read, as far as no other terminal is gone into that keeps its texts
    apart.
    """

    is_wide = True
    keeps_texts_apart = True

    def __init__(
        self, inner: Terminal, seen: Iterable[str], *, is_name: bool, is_last: bool
    ) -> None:
        self._is_last = is_last
        self._seen = frozenset(seen)
        self._seen_bytes = sorted(quote(name) if is_name else name.encode() for name in self._seen)
        self._is_name = is_name
        self.texts: list[tuple[str | None, int]] = []
        self._labels: dict[tuple[str | None, int], int] = {}
        self.start: Key = (inner, inner.start, b"")

    @property
    def is_live(self) -> bool:
        """Is there a text left?"""
        return self._has_other(self.start)

    def transitions(self, key: Key) -> dict[int, Key]:
        """The inner terminal's, less those that lead to texts that were seen only."""
        return {
            byte: target for byte, target in self._moves(key).items() if self._has_other(target)
        }

    def move(self, key: Key, byte: int) -> Key | None:
        """As `transitions`, for one byte."""
        inner, inner_key, _ = key
        target = inner.move(inner_key, byte)
        if target is None:
            return None
        moved = self._moved(key, byte, target)
        return moved if self._has_other(moved) else None

    def _moved(self, key: Key, byte: int, target: Key) -> Key:
        inner, inner_key, read = key
        reached = target if isinstance(target, Elsewhere) else Elsewhere(inner, target)
        is_after = self._is_name and inner_key[0] == COLON
        return (*reached, read if is_after else read + bytes((byte,)))

    def _moves(self, key: Key) -> dict[int, Key]:
        moves = key[0].transitions(key[1])
        return {byte: self._moved(key, byte, target) for byte, target in moves.items()}

    def _has_other(self, key: Key) -> bool:
        """Can a text be finished from here that was not seen? Every live path leads to one."""
        num_seen = self._num_seen(key[2])
        return not num_seen or self._num_texts(key, num_seen) > num_seen

    def _num_texts(self, key: Key, more_than: int) -> int:
        """How many texts can be read from here: as many or more, if they are `more_than` that."""
        known = _NUM_TEXTS.setdefault(key[0], {}).get((key[1], self._is_name))
        if known is not None and (known.is_all or known.num > more_than):
            return known.num
        enough = 2 * more_than + _TEXTS_AHEAD  # so that the next one seen asks for no new count
        found = 0
        ways = [key]
        while ways and found + len(ways) < enough:
            found += sum(self._is_text(way) for way in ways)
            ways = list(islice(self._ways_on(ways), enough - found))
        count = found + len(ways)
        _NUM_TEXTS[key[0]][key[1], self._is_name] = _Known(count, is_all=not ways)
        return count

    def _num_seen(self, read: bytes) -> int:
        """How many of the seen texts begin with some bytes."""
        seen = self._seen_bytes  # sorted; no UTF-8 has the byte FF
        return bisect_left(seen, read + b"\xff") - bisect_left(seen, read)

    def _ways_on(self, ways: list[Key]) -> Iterator[Key]:
        for way in ways:
            if not (self._is_name and self._is_text(way)):
                for byte, target in way[0].transitions(way[1]).items():
                    yield self._moved(way, byte, target)

    def _is_text(self, key: Key) -> bool:
        inner, inner_key, _ = key
        if self._is_name:
            return bool(inner_key[0] == COLON)
        return inner.label(inner_key) is not None

    def label(self, key: Key) -> int | None:
        """The number of the text and of the inner label."""
        inner, inner_key, read = key
        found = inner.label(inner_key)
        if found is None:
            return None
        text = str(json.loads(read)) if self._is_name else read.decode()
        if text in self._seen:
            return None
        return self._numbered(text, found)

    def unknown_label(self, label: int) -> int:
        """Of no text."""
        return self._numbered(None, label)

    def _numbered(self, text: str | None, label: int) -> int:
        pair = (text, label)
        if pair not in self._labels:
            self._labels[pair] = len(self.texts)
            self.texts.append(pair)
        return self._labels[pair]

    def shadow(self, key: Key) -> Shadow | None:
        """The inner state, but for what leads to texts that were seen only."""
        read = key[2]  # a text that is read already does not end here: its label says so
        near = tuple(
            text[len(read) :] for text in self._seen_bytes if text.startswith(read) and text != read
        )
        return Shadow(key[0], key[1], near=near, is_last=self._is_last)
