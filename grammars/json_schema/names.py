"""Names that are not declared, as terminals: any, or what patterns allow, less the declared."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

from ramify.grammars.automata import FAR, SideBySide, Table, Words, explore
from ramify.grammars.charsets import spelling
from ramify.grammars.json_schema.keys import COLON, START, FreeNames, NameTerminal, NameTrie
from ramify.grammars.json_schema.layout import Blanks
from ramify.grammars.limits import Budget
from ramify.grammars.terminals import Chars, Elsewhere, Key, Shadow, text_move, text_transitions

MAX_DETOUR = 4  # characters of a declared name that may have to be read before others part from it


class ClassifiedNames(NameTerminal):
    """The names of a table, labelled by its final states."""

    is_wide = True

    def __init__(self, table: Table, labels: Mapping[int, int], blanks: Blanks) -> None:
        super().__init__(blanks)
        self._table = table
        self._labels = labels  # of each final state
        self._root = spelling(table.alphabet, json=True)

    def restricted(self, labels: frozenset[int], budget: Budget) -> "ClassifiedNames | None":
        """The names with one of these labels; None if there are none."""
        table = self._table
        budget.tick(len(table.rows))
        kept = table.ending(self._labels.get(state) in labels for state in range(len(table.rows)))
        return None if kept.start is None else ClassifiedNames(kept, self._labels, self._blanks)

    def excluding(self, names: Sequence[str], budget: Budget) -> "ClassifiedNames | None":
        """The names but for some; None if there are no others."""
        words = Words(names)

        def accepts(states: tuple[Any, ...]) -> bool:
            at, word = states
            return (
                at is not None
                and self._table.final[at]
                and (word is None or not words.accepts(word))
            )

        found = explore(SideBySide([self._table, words], accepts), budget, "property names")
        if found.table.start is None:
            return None
        ends = found.table.final
        labels = {row: self._labels[at] for row, (at, _) in enumerate(found.states) if ends[row]}
        return ClassifiedNames(found.table, labels, self._blanks)

    def part_from(self, names: Sequence[str], budget: Budget) -> bool:
        """Wherever one of these texts can be begun, can another name be, and soon?"""
        rows, final, alphabet = self._table.rows, self._table.final, self._table.alphabet
        class_of = {char: alphabet.class_of(ord(char)) for char in {*"".join(names)}}
        states: list[int] = [0]  # of the table, by node of a trie of what can be begun
        children: list[dict[str, int]] = [{}]
        ends = set[int]()
        for name in names:
            node = 0
            for char in name:
                if char not in children[node]:
                    target = rows[states[node]][class_of[char]]
                    if target is None:
                        break
                    children[node][char] = len(states)
                    states.append(target)
                    children.append({})
                node = children[node][char]
            else:
                ends.add(node)
        budget.tick(len(states))
        sizes = [sum(high - low + 1 for low, high in each) for each in alphabet.class_sets()]
        detours = [0] * len(states)  # characters until other names part from these
        for node in reversed(range(len(states))):
            state, below = states[node], children[node]
            taken = Counter(map(class_of.__getitem__, below))
            if not (final[state] and node not in ends) and not any(
                target is not None and taken[cls] < sizes[cls]
                for cls, target in enumerate(rows[state])
            ):
                detours[node] = 1 + min((detours[child] for child in below.values()), default=FAR)
                if detours[node] > MAX_DETOUR:
                    return False
        return True

    @property
    def is_endless(self) -> bool:
        """Are there names without end?"""
        return bool(self._table.endless)

    def transitions(self, key: Key) -> dict[int, Key]:
        """The bytes of the characters that lead on; a quote where the table accepts."""
        if key == START:
            return {0x22: ("in", self._table.start, self._root)}
        if key[0] == COLON:
            return self.after_quote(key)
        _, state, node = key
        moves = text_transitions(self._table, self._root, (state, node))
        out: dict[int, Key] = {byte: ("in", *target) for byte, target in moves.items()}
        if node is self._root and self._table.accepts(state):
            out[0x22] = self._closed(state)
        return out

    def move(self, key: Key, byte: int) -> Key | None:
        """As `transitions`, for one byte."""
        if key[0] != "in":
            return self.transitions(key).get(byte)
        _, state, node = key
        if byte == 0x22 and node is self._root:
            return self._closed(state) if self._table.accepts(state) else None
        target = text_move(self._table, self._root, (state, node), byte)
        return None if target is None else ("in", *target)

    def _closed(self, state: int) -> Key:
        return (COLON, self._labels[state], 0)

    def chars(self, key: Key) -> Chars | None:
        """Between the quotes."""
        if key[0] != "in":
            return None
        _, state, node = key
        return Chars(self._table, self._root, state, node, self._closed)


class OtherNames(NameTerminal):
    """Names that are not in a trie. Key: (key of all the names, node of the trie); off the trie,
    the states are those of all the names.

    Invariant: from every state on the trie another name can be finished.
    """

    is_wide = True

    def __init__(self, trie: NameTrie, names: FreeNames | ClassifiedNames) -> None:
        super().__init__(names._blanks)
        self._trie = trie
        self._all = names
        self.start: Key = (names.start, 0)

    @property
    def is_endless(self) -> bool:
        """Are there names without end?"""
        return self._all.is_endless

    def restricted(self, labels: frozenset[int], budget: Budget) -> "AnyNames | None":
        """The names with one of these labels; None if there are none."""
        kept = self._all.restricted(labels, budget)
        return None if kept is None else without(kept, self._trie, budget)

    def transitions(self, key: Key) -> dict[int, Key]:
        """As all the names, less the quotes that would close one of the trie."""
        following = self._trie.texts.next[key[1]]
        out: dict[int, Key] = {}
        for byte, target in self._all.transitions(key[0]).items():
            moved = self._moved(target, following.get(byte))
            if moved is not None:
                out[byte] = moved
        return out

    def move(self, key: Key, byte: int) -> Key | None:
        """As `transitions`, for one byte."""
        target = self._all.move(key[0], byte)
        if target is None:
            return None
        return self._moved(target, self._trie.texts.next[key[1]].get(byte))

    def _moved(self, target: Key, node: int | None) -> Key | None:
        if node is None:
            return Elsewhere(self._all, target)
        return None if node in self._trie.texts.text_at else (target, node)

    def label(self, key: Key) -> int | None:
        """Never on the trie."""
        return None

    def shadow(self, key: Key) -> Shadow | None:
        """One of all the names, but for the ends that spell one of the trie."""
        return Shadow(self._all, key[0], self._trie.texts.next, key[1])


AnyNames = FreeNames | ClassifiedNames | OtherNames

# One for the same trie and names, as long as it is used
_OTHERS: "WeakValueDictionary[tuple[NameTrie, FreeNames | ClassifiedNames], OtherNames]"
_OTHERS = WeakValueDictionary()


def without(names: FreeNames | ClassifiedNames, trie: NameTrie, budget: Budget) -> AnyNames | None:
    """Names but for those of a trie; None if there are no others."""
    if not trie.names:
        return names
    if isinstance(names, FreeNames) or names.part_from(trie.names, budget):
        key = (trie, names)
        return _OTHERS.get(key) or _OTHERS.setdefault(key, OtherNames(*key))
    return names.excluding(trie.names, budget)
