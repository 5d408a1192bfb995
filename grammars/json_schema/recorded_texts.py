"""The scalars of items that have to differ, as terminals: the label is the number of the value."""

from functools import lru_cache
from itertools import pairwise

from ramify.grammars.json_schema.captured import Captured
from ramify.grammars.json_schema.numbers import Number, plain_number
from ramify.grammars.json_schema.recorder import UNKNOWN, Recorder
from ramify.grammars.terminals import Elsewhere, Key, Literals, Selected, Terminal, TextTrie

MAX_WORDS = 512  # of more, a trie that knows which are below each node takes milliseconds


class RecordedText(Captured):
    """A scalar's texts, less those of some values; the label is the number of the value."""

    def __init__(
        self, inner: Terminal, recorder: Recorder, unlike: frozenset[int], *, is_last: bool
    ) -> None:
        first = _first_bytes(inner)
        texts = (
            text
            for text in recorder.texts(unlike)
            if ord(text[0]) in first and _reads(inner, text.encode())
        )
        super().__init__(inner, texts, is_name=False, is_last=is_last)
        self._recorder = recorder
        self._unlike = unlike

    def label(self, key: Key) -> int | None:
        """The number of the value that was read."""
        if key[0].label(key[1]) is None:
            return None
        number = self._recorder.scalar(key[2])
        return None if number in self._unlike else number

    def unknown_label(self, label: int) -> int:
        """Of any value."""
        return UNKNOWN


class RecordedWords(Terminal):
    """Listed scalars, less those of some values; the label is the number of the value.

    Key: ("in", node, bit set of the texts below it that may be read), so that the states inside a
    text are the same whichever others may be; or ("end", number of the value).
    """

    keeps_texts_apart = True

    def __init__(self, inner: Literals, recorder: Recorder) -> None:
        self._trie = _trie_of(inner)
        self._recorder = recorder
        self._gone = frozenset[int](), 0  # values last asked for, and the bit set of their texts
        self.start: Key = ("in", 0, self._trie.below[0])

    def unlike(self, numbers: frozenset[int]) -> Key | None:
        """The key before a text of any value but these; None if there is none. Where there are
        such values, each has one text only."""
        before, gone = self._gone
        if not before <= numbers:  # mostly one has come since
            before, gone = frozenset(), 0
        for text in self._recorder.texts(numbers - before):
            index = self._trie.index_of.get(text.encode())
            gone |= 0 if index is None else 1 << index
        self._gone = numbers, gone
        selected = self._trie.below[0] & ~gone
        return ("in", 0, selected) if selected else None

    def transitions(self, key: Key) -> dict[int, Key]:
        """Down the trie, where a text that may be read is below."""
        if key[0] == "end":
            return {}
        out: dict[int, Key] = {}
        for byte, node, below in self._trie.moves(key[1], key[2]):
            index = self._trie.text_at.get(node)
            out[byte] = ("in", node, below) if index is None else self._end(index)
        return out

    def _end(self, index: int) -> Key:
        return ("end", self._recorder.scalar(self._trie.texts[index]))

    def label(self, key: Key) -> int | None:
        """The number of the value that was read."""
        return key[1] if key[0] == "end" else None

    def selected(self, key: Key) -> Selected | None:
        """Those that may be read, up to the last byte of one."""
        return Selected(self._trie, key[1], key[2], self._end) if key[0] == "in" else None


@lru_cache(maxsize=256)
def _trie_of(terminal: Literals) -> TextTrie:
    return TextTrie(terminal.texts)


@lru_cache(maxsize=4096)
def are_words(terminal: Literals) -> bool:
    """Are they few enough for a trie, and does none of them begin with another?"""
    if len(terminal.texts) > MAX_WORDS:
        return False
    return not any(longer.startswith(text) for text, longer in pairwise(sorted(terminal.texts)))


@lru_cache(maxsize=4096)
def _first_bytes(terminal: Terminal) -> frozenset[int]:
    return frozenset(terminal.transitions(terminal.start))


@lru_cache(maxsize=8192)
def _reads(terminal: Terminal, text: bytes) -> bool:
    key: Key = terminal.start
    for byte in text:
        target = terminal.move(key, byte)
        if target is None:
            return False
        terminal, key = target if isinstance(target, Elsewhere) else (terminal, target)
    return terminal.label(key) is not None


@lru_cache(maxsize=4096)
def plain_terminal(terminal: Terminal) -> Terminal:
    """The scalars of a terminal, each written in one way."""
    if isinstance(terminal, Number):
        return plain_number(terminal)
    if isinstance(terminal, Literals):
        recorder = Recorder()
        numbers = frozenset(map(recorder.scalar, terminal.texts))
        return Literals(text.encode() for text in recorder.texts(numbers))
    return terminal
