"""Member names as terminals: from the opening quote to the blanks after the colon."""

from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

from ramify.grammars.automata import Table
from ramify.grammars.charsets import SpellingNode, spelling
from ramify.grammars.json_schema.layout import LAYOUTS, Blanks, Whitespace
from ramify.grammars.json_schema.strings import ANY_ROOT, quote
from ramify.grammars.limits import Budget
from ramify.grammars.terminals import (
    Elsewhere,
    Key,
    Selected,
    Shadow,
    Terminal,
    TextTrie,
    text_reached,
)

START = "start"
_QUOTE = "quote"  # in place of a class of characters
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

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    @cached_property
    def texts(self) -> TextTrie:
        """Of each name its bytes in JSON, quotes and all."""
        return TextTrie([quote(name) for name in self._names])

    @property
    def opened(self) -> int:
        """The node after the opening quote."""
        return self.texts.next[0].get(0x22, 0)


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


class FreeNames(NameTerminal):
    """Any name; the label is 0."""

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

    def shadow(self, key: Key) -> None:
        """It is what others are shadows of."""


free_names = cache(FreeNames)

FREE_NAMES: dict[Whitespace, FreeNames] = {
    name: free_names(layout.after_colon) for name, layout in LAYOUTS.items()
}


class OtherNames(NameTerminal):
    """Any name that is not in a trie. Off the trie, the states are those of `FreeNames`."""

    is_wide = True

    def __init__(self, trie: NameTrie, free: FreeNames) -> None:
        super().__init__(free._blanks)
        self._trie = trie
        self._free = free

    def transitions(self, key: Key) -> "dict[int, Key | Elsewhere]":
        """As free names, less the quotes that would close a declared one."""
        if key == START:
            return {0x22: ("in", ANY_ROOT, self._trie.opened)}
        _, spelled, node = key
        out: dict[int, Key | Elsewhere] = {}
        for byte, target in self._free.transitions(("in", spelled)).items():
            below = self._trie.texts.next[node].get(byte)
            if below is None:
                out[byte] = Elsewhere(self._free, target)
            elif byte != 0x22 or spelled is not ANY_ROOT:
                out[byte] = ("in", target[1], below)
        return out

    def move(self, key: Key, byte: int) -> "Key | Elsewhere | None":
        """As `transitions`, for one byte."""
        if key == START:
            return ("in", ANY_ROOT, self._trie.opened) if byte == 0x22 else None
        _, spelled, node = key
        if spelled is ANY_ROOT and byte == 0x22:
            below = self._trie.texts.next[node].get(byte)
            return Elsewhere(self._free, (COLON, 0, 0)) if below is None else None
        following = spelled.next.get(byte)
        if following is None:
            return None
        target = following if isinstance(following, SpellingNode) else ANY_ROOT
        below = self._trie.texts.next[node].get(byte)
        return Elsewhere(self._free, ("in", target)) if below is None else ("in", target, below)

    def label(self, key: Key) -> int | None:
        """Never on the trie."""
        return None

    def shadow(self, key: Key) -> Shadow | None:
        """A free name, but for the ends that spell a declared name."""
        if key == START:
            return Shadow(self._free, START, self._trie.texts.next, 0)
        return Shadow(self._free, ("in", key[1]), self._trie.texts.next, key[2])


class ClassifiedNames(NameTerminal):
    """The names of a table, labelled by its final states."""

    is_wide = True

    def __init__(self, table: Table, labels: dict[int, int], blanks: Blanks) -> None:
        super().__init__(blanks)
        self._automaton = table
        self._labels = labels  # of each final state
        self._root = spelling(table.alphabet, json=True)
        self._root_groups = (*self._root.groups, (_QUOTE, (0x22,)))

    def restricted(self, labels: frozenset[int], budget: Budget) -> "ClassifiedNames | None":
        """The names with one of these labels; None if there are none."""
        table = self._automaton
        budget.tick(len(table.rows))
        kept = table.ending(self._labels.get(state) in labels for state in range(len(table.rows)))
        return None if kept.start is None else ClassifiedNames(kept, self._labels, self._blanks)

    @property
    def is_endless(self) -> bool:
        """Are there names without end?"""
        table = self._automaton
        classes = range(table.alphabet.num_classes)
        following = {}
        todo = [table.start]
        while todo:
            state = todo.pop()
            if state not in following:
                steps = (table.step(state, cls) for cls in classes)
                following[state] = {target for target in steps if target is not None}
                todo += following[state]
        while ends := [state for state, targets in following.items() if not targets]:
            for state in ends:
                del following[state]
            for targets in following.values():
                targets.difference_update(ends)
        return bool(following)  # what is left goes round in circles

    def transitions(self, key: Key) -> dict[int, Key]:
        """The bytes of the characters that lead on; a quote where the automaton accepts."""
        if key == START:
            return {0x22: ("in", self._automaton.start, self._root)}
        if key[0] == COLON:
            return self.after_quote(key)
        groups = self.groups(key)
        targets = ((self.reached(key, what), group) for what, group in groups)
        return {byte: target for target, group in targets if target is not None for byte in group}

    def move(self, key: Key, byte: int) -> Key | None:
        """As `transitions`, for one byte."""
        if key[0] != "in":
            return self.transitions(key).get(byte)
        is_quote = byte == 0x22 and key[2] is self._root
        what = _QUOTE if is_quote else key[2].next.get(byte)
        return None if what is None else self.reached(key, what)

    def groups(self, key: Key) -> Sequence[tuple[Any, Sequence[int]]]:
        """Those of the spelling, and the closing quote."""
        if key[0] != "in":
            return super().groups(key)
        node: SpellingNode = key[2]
        return self._root_groups if node is self._root else node.groups

    def reached(self, key: Key, what: Any) -> Key | None:
        """By a class, part of a character or a quote."""
        if key[0] != "in":
            return what
        _, state, node = key
        if what is _QUOTE:
            return (COLON, self._labels[state], 0) if self._automaton.accepts(state) else None
        target = text_reached(self._automaton, self._root, (state, node), what)
        return None if target is None else ("in", *target)
