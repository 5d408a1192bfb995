"""Byte automata of the pieces that never recurse: what the lexer makes states of.

Invariant: from every key that `transitions` names an accepting key can be reached.
"""

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ramify.grammars.automata import CharAutomaton, State
from ramify.grammars.charsets import SpellingNode

if TYPE_CHECKING:
    from ramify.grammars.inside import Inside
    from ramify.grammars.lexer import Lexer

Key = Any  # hashable, opaque to all but the terminal


class Terminal:
    """A deterministic byte automaton, made key by key as it is asked."""

    start: Key
    is_wide = False  # are there keys with many transitions, so that `move` is cheaper?
    keeps_texts_apart = False  # is there a label for each text, not for each kind of text?

    def transitions(self, key: Key) -> "Mapping[int, Key | Elsewhere]":
        """Next key of each byte that leads on."""
        raise NotImplementedError

    def move(self, key: Key, byte: int) -> "Key | Elsewhere | None":
        """Next key of one byte; None where it does not lead on."""
        return self.transitions(key).get(byte)

    def label(self, key: Key) -> int | None:
        """None where the terminal cannot end; else which of its ends this is (mostly 0)."""
        raise NotImplementedError

    def distance(self, key: Key) -> int:
        """No text ends in fewer bytes than this; 0 where that is not known."""
        return 0

    def is_detour(self, key: Key) -> bool:
        """Is this an end after which the terminal may come again, where others are the last?"""
        return False

    def unknown_label(self, label: int) -> int:
        """The label of an end where it is not known which text was read."""
        return label

    def special(self, key: Key) -> Mapping[int, Key]:
        """Next key of each special token that leads on."""
        return {}

    def inside(self, lexer: "Lexer", key: Key) -> "Inside | None":
        """The tokens of a state, where the terminal knows them without a walk."""
        return None

    def chars(self, key: Key) -> "Chars | None":
        """The state by characters, where the terminal reads them by their classes."""
        return None

    def soonest(self, key: Key) -> Key:
        """A key that reads some of the same texts: the one to choose from, to come to an end."""
        return key

    def selected(self, key: Key) -> "Selected | None":
        """The texts that are read from here, where they are some of a trie's."""
        return None

    def states(self, lexer: "Lexer", key: Key) -> "np.ndarray | None":
        """[num_nodes] int32: where the vocabulary's trie leads to, where the terminal knows that
        without a walk; 0 where it does not lead."""
        return None

    def shadow(self, key: Key) -> "Shadow | None":
        """A state of another terminal that reads almost the same, to take the tokens from."""
        return None


class Elsewhere(NamedTuple):
    """A key of another terminal: how terminals share states (and so their masks)."""

    terminal: Terminal
    key: Hashable


class Shadow(NamedTuple):
    """What a state reads is what `terminal` reads at `key`, but for texts that end the terminal.

    With `texts`: those of the trie below `node` (byte -> node; the leaves) may not be read. With
    `lengths`: it ends after that many characters only, and no more are read. With neither: the
    texts of `near` were read before and may not be read again (`is_last`: see `Captured`). With
    `label`: the same, but every end has this label. `reach`: the shadow is true for tokens of that
    many bytes.
    """

    terminal: Terminal
    key: Hashable
    texts: Sequence[Mapping[int, int]] | None = None
    node: int = 0
    lengths: tuple[int, int | None] | None = None
    reach: int | None = None
    near: tuple[bytes, ...] = ()
    is_last: bool = False
    label: int | None = None


class Chars(NamedTuple):
    """A state within a text of an automaton.

    The text ends at a quote, after which `closed(state)` is the terminal's key; or, where that is
    None, wherever the automaton accepts, with the label 0.
    """

    automaton: CharAutomaton
    root: SpellingNode
    state: State
    node: SpellingNode  # how far the next character has got
    closed: Callable[[State], Key] | None


class Selected(NamedTuple):
    """A state that reads some texts of a trie, from a node on.

    `ends(index)` is the key after that text. No text ends before the last byte of it.
    """

    trie: "TextTrie"
    node: int
    texts: int  # bit set; some text
    ends: Callable[[int], Key]


class Literals(Terminal):
    """A list of byte strings; the label is 0. Key: (first, after the last, bytes read) of the
    sorted strings that begin with what was read: so there is nothing to make of long lists."""

    def __init__(self, literals: Iterable[bytes]) -> None:
        self.texts = tuple(sorted({*literals}))
        self.start: Key = (0, len(self.texts), 0)

    def transitions(self, key: Key) -> dict[int, Key]:
        """By the next byte of the strings."""
        at, stop, depth = key
        texts = self.texts
        out: dict[int, Key] = {}
        if len(texts[at]) == depth:
            at += 1
        while at < stop:
            byte = texts[at][depth]
            after = stop
            if byte < 0xFF:
                after = bisect_left(texts, texts[at][:depth] + bytes((byte + 1,)), at, stop)
            out[byte] = (at, after, depth + 1)
            at = after
        return out

    def label(self, key: Key) -> int | None:
        """Ends with a string."""
        return 0 if len(self.texts[key[0]]) == key[2] else None

    def inside(self, lexer: "Lexer", key: Key) -> "Inside":
        """Down the vocabulary's trie and the sorted strings at once."""
        children_of, tokens_at = lexer.vocabulary.children, lexer.vocabulary.tokens_at
        texts = self.texts
        token_ids: list[int] = []
        ends: list[int] = []
        todo = [(*key, 0)]
        num_steps = 0
        while todo:
            at, stop, depth, node = todo.pop()
            if len(texts[at]) == depth:
                if node:
                    ends.append(node)
                at += 1
            children = children_of(node)
            while at < stop:
                num_steps += 1
                byte, after = texts[at][depth], stop
                if at + 1 < stop and byte < 0xFF:
                    after = bisect_left(texts, texts[at][:depth] + bytes((byte + 1,)), at, stop)
                child = children.get(byte)
                if child is not None:
                    token_ids += tokens_at(child)
                    todo.append((at, after, depth + 1, child))
                at = after
        lexer.spend(num_steps)
        return lexer.made(None, token_ids, ends, [0] * len(ends))


class TextTrie:
    """Byte strings as a trie that knows which of them are below each node."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self.texts = tuple(texts)
        self.next: list[dict[int, int]] = [{}]
        self.depth = [0]  # of each node
        self.below: list[int] = [(1 << len(texts)) - 1]  # bit set of the texts below each node
        self.text_at: dict[int, int] = {}  # node -> index of the text that ends there
        for index, text in enumerate(texts):
            node = 0
            for byte in text:
                following = self.next[node]
                if byte not in following:
                    following[byte] = len(self.next)
                    self.next.append({})
                    self.depth.append(self.depth[node] + 1)
                    self.below.append(0)
                node = following[byte]
                self.below[node] |= 1 << index
            self.text_at[node] = index
        self.index_of = {text: index for index, text in enumerate(self.texts)}

    def moves(self, node: int, selected: int) -> Iterator[tuple[int, int, int]]:
        """(byte, node, selected texts below it) of the children with any."""
        for byte, child in self.next[node].items():
            below = self.below[child] & selected
            if below:
                yield byte, child, below


class Text(Terminal):
    """An automaton's texts in UTF-8. Key: (its state, node of the spelling)."""

    is_wide = True

    def __init__(self, automaton: CharAutomaton, root: SpellingNode) -> None:
        self._automaton = automaton
        self._root = root
        self.start: Key = (automaton.start, root)

    def transitions(self, key: Key) -> dict[int, Key]:
        """Bytes of the characters that the automaton can read here."""
        return text_transitions(self._automaton, self._root, key)

    def chars(self, key: Key) -> Chars:
        """As it is."""
        state, node = key
        return Chars(self._automaton, self._root, state, node, None)

    def move(self, key: Key, byte: int) -> Key | None:
        """One byte of a character."""
        return text_move(self._automaton, self._root, key, byte)

    def label(self, key: Key) -> int | None:
        """Ends between characters, where the automaton accepts."""
        return 0 if key[1] is self._root and self._automaton.accepts(key[0]) else None

    def distance(self, key: Key) -> int:
        """In characters."""
        return self._automaton.distance(key[0])


def text_transitions(
    automaton: CharAutomaton, root: SpellingNode, key: tuple[State, SpellingNode]
) -> dict[int, Key]:
    """Next (state, node) by the bytes of the characters that lead on."""
    state, node = key
    targets = automaton.row(state)
    live = sum(1 << cls for cls, target in enumerate(targets) if target is not None)
    out: dict[int, Key] = {}
    for following, group in node.groups:
        if isinstance(following, SpellingNode):
            if following.classes & live:
                out |= dict.fromkeys(group, (state, following))
        elif live >> following & 1:
            out |= dict.fromkeys(group, (targets[following], root))
    return out


def text_move(
    automaton: CharAutomaton, root: SpellingNode, key: tuple[State, SpellingNode], byte: int
) -> Key | None:
    """The next (state, node) by one byte; None where no character that leads on is spelled so."""
    following = key[1].next.get(byte)
    return None if following is None else text_reached(automaton, root, key, following)


def text_reached(
    automaton: CharAutomaton,
    root: SpellingNode,
    key: tuple[State, SpellingNode],
    following: int | SpellingNode,
) -> Key | None:
    """The next (state, node) by a class, or by the start of a character of some classes."""
    state = key[0]
    if not isinstance(following, SpellingNode):
        target = automaton.step(state, following)
        return None if target is None else (target, root)
    for cls in range(automaton.alphabet.num_classes):
        if following.classes >> cls & 1 and automaton.step(state, cls) is not None:
            return (state, following)
    return None
