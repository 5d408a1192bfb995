"""Punctuation of JSON and the blanks around it, bounded: no model can write blanks for ever."""

from dataclasses import dataclass
from typing import Literal

from ramify.grammars.terminals import Key, Literals, Terminal

Whitespace = Literal["flexible", "compact", "spaced"]
MAX_INDENT = 32  # blanks after a newline


class Blanks:
    """What may stand between two parts: fixed bytes, or none, a space, or a new line's indent.

    State 0 is the start, and an end too unless the blanks are fixed.
    """

    def __init__(self, fixed: bytes | None, *, newline: bool = False) -> None:
        self._fixed = fixed
        self._first = {0x20: 1, 0x0A: 2} if newline else {0x20: 1}

    def following(self, state: int) -> dict[int, int]:
        """Byte -> next state."""
        if self._fixed is not None:
            return {self._fixed[state]: state + 1} if state < len(self._fixed) else {}
        if state == 0:
            return self._first
        return {0x20: state + 1, 0x09: state + 1} if 2 <= state < 2 + MAX_INDENT else {}

    def is_end(self, state: int) -> bool:
        """May the next part begin here?"""
        return self._fixed is None or state == len(self._fixed)


class Punctuation(Terminal):
    """A few bytes with blanks before and after. Key: (part 0..2, state or index within it)."""

    def __init__(self, before: Blanks, text: bytes, after: Blanks) -> None:
        self._before = before
        self._text = text
        self._after = after
        self.start: Key = (0, 0)

    def transitions(self, key: Key) -> dict[int, Key]:
        """Blanks, the text, blanks."""
        part, state = key
        out: dict[int, Key] = {}
        if part == 0:
            out = {byte: (0, to) for byte, to in self._before.following(state).items()}
            if self._before.is_end(state):
                out[self._text[0]] = (1, 1)
        elif part == 1 and state < len(self._text):
            out = {self._text[state]: (1, state + 1)}
        else:
            at = state if part == 2 else 0
            out = {byte: (2, to) for byte, to in self._after.following(at).items()}
        return out

    def label(self, key: Key) -> int | None:
        """Ends after the text and whole blanks."""
        part, state = key
        if part == 1:
            return 0 if state == len(self._text) and self._after.is_end(0) else None
        return 0 if part == 2 and self._after.is_end(state) else None


_NONE, _SPACE = Blanks(b""), Blanks(b" ")
_MAYBE_SPACE, _ANY = Blanks(None), Blanks(None, newline=True)


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The punctuation of one whitespace policy: one set of terminals for all grammars."""

    open_object: Terminal
    open_array: Terminal
    close_object: Terminal  # after a member
    close_array: Terminal  # after an item
    close_empty_object: Terminal  # right after the opening
    close_empty_array: Terminal
    comma: Terminal
    after_colon: Blanks


def _layout(inside: Blanks, after_comma: Blanks, after_colon: Blanks) -> Layout:
    return Layout(
        Punctuation(_NONE, b"{", inside),
        Punctuation(_NONE, b"[", inside),
        Punctuation(inside, b"}", _NONE),
        Punctuation(inside, b"]", _NONE),
        Literals([b"}"]),
        Literals([b"]"]),
        Punctuation(_NONE, b",", after_comma),
        after_colon,
    )


LAYOUTS: dict[Whitespace, Layout] = {
    "flexible": _layout(_ANY, _ANY, _MAYBE_SPACE),
    "compact": _layout(_NONE, _NONE, _NONE),
    "spaced": _layout(_NONE, _SPACE, _SPACE),
}

NULL = Literals([b"null"])
BOOLEANS = {
    frozenset((True,)): Literals([b"true"]),
    frozenset((False,)): Literals([b"false"]),
    frozenset((True, False)): Literals([b"true", b"false"]),
}
