"""What is left of tokens part of the way through: trie nodes, merged where bytes are equal."""

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ramify.grammars.vocabulary import Vocabulary

FEW_NODES = 400  # more trie nodes than this are looked at all at once, by numpy,
FEW_BYTES = 40  # if no more bytes than this are asked for


class Remainder:
    """What is left of the tokens that pass some trie nodes. Its steps are made as they are read."""

    def __init__(self, vocabulary: Vocabulary, nodes: tuple[int, ...]) -> None:
        self.nodes = nodes
        self._vocabulary = vocabulary
        self._steps: dict[int, RemainderStep] = {}
        self._asked = set[int]()  # bytes that `_steps` was asked for
        self._is_whole = False  # does `_steps` hold every byte that may follow?

    @cached_property
    def num_below(self) -> int:
        """Trie nodes below all of its nodes."""
        skip = self._vocabulary.skips
        return sum(skip[node] - node - 1 for node in self.nodes)

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest text that is left."""
        trie = self._vocabulary.trie
        if len(self.nodes) > FEW_NODES:
            return trie.longest
        spans = ((node, int(trie.skip[node])) for node in self.nodes)
        return max(int(trie.depth[node:end].max() - trie.depth[node]) for node, end in spans)

    def steps(self, wanted: Sequence[int] | None) -> "dict[int, RemainderStep]":
        """Byte -> what is left after it: of every byte, or (of a large set) at least the wanted."""
        if self._is_whole:
            return self._steps
        if wanted is None or len(self.nodes) <= FEW_NODES or len(wanted) > FEW_BYTES:
            self._make_all()
            return self._steps
        for byte in wanted:
            if byte not in self._asked:
                self._asked.add(byte)
                children = self._children(byte)
                if children:
                    self._steps[byte] = self._make(children)
        return self._steps

    def _make(self, children: list[int]) -> "RemainderStep":
        vocabulary = self._vocabulary
        token_ids = [token_id for child in children for token_id in vocabulary.tokens_at(child)]
        inner = [child for child in children if vocabulary.is_inner(child)]
        rest = Remainder(vocabulary, tuple(inner)) if inner else None
        return RemainderStep(token_ids, rest, children)

    def _make_all(self) -> None:
        below: dict[int, list[int]] = {}
        for node in self.nodes:
            for byte, child in self._vocabulary.children(node).items():
                below.setdefault(byte, []).append(child)
        self._steps = {byte: self._make(children) for byte, children in below.items()}
        self._is_whole = True

    def _children(self, byte: int) -> list[int]:
        """The children by one byte of many nodes."""
        vocabulary = self._vocabulary
        inside = np.zeros(vocabulary.trie.num_nodes, bool)
        inside[list(self.nodes)] = True
        candidates = vocabulary.nodes_by_byte(byte)
        return candidates[inside[vocabulary.parents[candidates]]].tolist()  # type: ignore[no-any-return]


class RemainderStep(NamedTuple):
    """One byte further."""

    token_ids: list[int]  # tokens that end with it
    rest: Remainder | None  # what is left of the others
    nodes: list[int]  # trie nodes reached
