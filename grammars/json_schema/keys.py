"""Member names as terminals: from the opening quote to the blanks after the colon."""

from collections.abc import Sequence
from functools import cache, cached_property
from weakref import WeakValueDictionary

from ramify.grammars.charsets import SpellingNode
from ramify.grammars.json_schema.layout import LAYOUTS, Blanks, Whitespace
from ramify.grammars.json_schema.strings import ANY_ROOT, quote
from ramify.grammars.limits import Budget
from ramify.grammars.terminals import (
    Key,
    Selected,
    Shadow,
    Terminal,
    TextTrie,
)

START = "start"
COLON = "colon"  # keys (COLON, label, 0 before the colon, 1 + state of the blanks after it)


class NameTerminal(Terminal):
    """What all name terminals share: the colon and the blanks after the closing quote."""

    start: Key = START

    def __init__(self, blanks: Blanks) -> None:
        self._blanks = blanks

    def past_quote(self, label: int) -> Key:
        """The key once the name is closed."""
        return (COLON, label, 0)

    def after_quote(self, key: Key) -> dict[int, Key]:
        """Transitions once the name is closed."""
        _, label, state = key
        if state == 0:
            return {0x3A: (COLON, label, 1)}
        following = self._blanks.following(state - 1)
        return {byte: (COLON, label, 1 + to) for byte, to in following.items()}

    def label(self, key: Key) -> int | None:
        """Ends after the blanks, with the name's label."""
        if key[0] != COLON or key[2] == 0 or not self._blanks.is_end(key[2] - 1):
            return None
        return int(key[1])

    def shadow(self, key: Key) -> Shadow | None:
        """What follows a name is the same whatever it was."""
        if key[0] != COLON:
            return None
        return Shadow(free_names(self._blanks), (COLON, 0, key[2]), label=key[1])


class NameTrie:
    """The declared names of an object; as a trie once an object is written."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    @cached_property
    def texts(self) -> TextTrie:
        """Of each name its bytes in JSON, quotes and all."""
        return TextTrie([quote(name) for name in self.names])


class DeclaredNames(NameTerminal):
    """Names of a trie; the label is the name's index.

    Key: ("in", node, bit set of the names below the node that are selected), so that the states
    inside a name are the same whichever others are selected.
    """

    def __init__(self, trie: NameTrie, required: int, blanks: Blanks) -> None:
        super().__init__(blanks)
        self._trie = trie
        self._required = required  # bit set

    def selecting(self, selected: int) -> Key:
        """The key before any of the selected names."""
        return ("in", 0, selected)

    def transitions(self, key: Key) -> dict[int, Key]:
        """Down the trie, where a selected name is below."""
        if key[0] == COLON:
            return self.after_quote(key)
        out: dict[int, Key] = {}
        for byte, node, below in self._trie.texts.moves(key[1], key[2]):
            index = self._trie.texts.text_at.get(node)
            out[byte] = ("in", node, below) if index is None else (COLON, index, 0)
        return out

    def soonest(self, key: Key) -> Key:
        """The first name that is required, or else the first."""
        if key[0] == COLON:
            return key
        _, node, selected = key
        wanted = selected & self._required or selected
        return ("in", node, wanted & -wanted)

    def selected(self, key: Key) -> Selected | None:
        """Some, up to the quote that closes one."""
        if key[0] == COLON:
            return None
        return Selected(self._trie.texts, key[1], key[2], self.past_quote)


# One for all objects that declare the same, as long as one of them lives: they share states.
_TRIES: "WeakValueDictionary[tuple[str, ...], NameTrie]" = WeakValueDictionary()
_DECLARED: "WeakValueDictionary[tuple[NameTrie, int, Blanks], DeclaredNames]"
_DECLARED = WeakValueDictionary()


def name_trie(names: Sequence[str]) -> NameTrie:
    """The trie of some names, in this order."""
    key = tuple(names)
    return _TRIES.get(key) or _TRIES.setdefault(key, NameTrie(key))


def declared_names(trie: NameTrie, required: int, blanks: Blanks) -> DeclaredNames:
    """The names of a trie as a terminal."""
    key = (trie, required, blanks)
    return _DECLARED.get(key) or _DECLARED.setdefault(key, DeclaredNames(*key))


class FreeNames(NameTerminal):
    """Any name; the label is 0."""

    is_endless = True

    def restricted(self, labels: frozenset[int], budget: Budget) -> "FreeNames | None":
        """There is one label."""
        return self if 0 in labels else None

    def transitions(self, key: Key) -> "dict[int, Key]":
        """The bytes of a JSON string."""
        if key == START:
            return {0x22: ("in", ANY_ROOT)}
        if key[0] == COLON:
            return self.after_quote(key)
        out: dict[int, Key] = {
            byte: ("in", node if isinstance(node, SpellingNode) else ANY_ROOT)
            for byte, node in key[1].next.items()
        }
        if key[1] is ANY_ROOT:
            out[0x22] = (COLON, 0, 0)
        return out

    def move(self, key: Key, byte: int) -> Key | None:
        """As `transitions`, for one byte."""
        if key[0] != "in":
            return self.transitions(key).get(byte)
        if byte == 0x22 and key[1] is ANY_ROOT:
            return (COLON, 0, 0)
        node = key[1].next.get(byte)
        return (
            node if node is None else ("in", node if isinstance(node, SpellingNode) else ANY_ROOT)
        )

    def shadow(self, key: Key) -> None:
        """It is what others are shadows of."""


free_names = cache(FreeNames)

FREE_NAMES: dict[Whitespace, FreeNames] = {
    name: free_names(layout.after_colon) for name, layout in LAYOUTS.items()
}
