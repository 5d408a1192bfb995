"""What is left of tokens part of the way through: trie nodes, merged where bytes are equal."""

from collections.abc import Collection
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
        self._steps: dict[int, RemainderStep | None] = {}  # by byte, those that were asked for

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

    @cached_property
    def following(self) -> Collection[int]:
        """Every byte that may follow."""
        children = self._vocabulary.children
        if len(self.nodes) == 1:
            return children(self.nodes[0])
        return {byte for node in self.nodes for byte in children(node)}

    def common(self, wanted: Collection[int] | None) -> Collection[int]:
        """Bytes among which are all those that may follow and are wanted (None: all are)."""
        if wanted is None:
            return self.following
        if len(wanted) <= 1 or (len(self.nodes) > FEW_NODES and len(wanted) <= FEW_BYTES):
            return wanted
        following = self.following
        return wanted if len(wanted) < len(following) else following

    def step(self, byte: int) -> "RemainderStep | None":
        """One byte further; None where it may not follow."""
        steps = self._steps
        if byte in steps:
            return steps[byte]
        children = self._children(byte)
        found = steps[byte] = self._made(children) if children else None
        return found

    def _made(self, children: list[int]) -> "RemainderStep":
        vocabulary = self._vocabulary
        if len(children) == 1:  # the common case, short
            child = children[0]
            only = Remainder(vocabulary, (child,)) if vocabulary.is_inner(child) else None
            return RemainderStep(vocabulary.tokens_at(child), only, children)
        token_ids = [token_id for child in children for token_id in vocabulary.tokens_at(child)]
        inner = [child for child in children if vocabulary.is_inner(child)]
        rest = Remainder(vocabulary, tuple(inner)) if inner else None
        return RemainderStep(token_ids, rest, children)

    def _children(self, byte: int) -> list[int]:
        vocabulary, nodes = self._vocabulary, self.nodes
        if len(nodes) == 1:
            child = vocabulary.children(nodes[0]).get(byte)
            return [] if child is None else [child]
        if len(nodes) <= FEW_NODES:
            found = [vocabulary.children(node).get(byte) for node in nodes]
            return [child for child in found if child is not None]
        inside = np.zeros(vocabulary.trie.num_nodes, bool)
        inside[list(nodes)] = True
        candidates = vocabulary.nodes_by_byte(byte)
        return candidates[inside[vocabulary.parents[candidates]]].tolist()  # type: ignore[no-any-return]  # of ints


class RemainderStep(NamedTuple):
    """One byte further."""

    token_ids: list[int]  # tokens that end with it
    rest: Remainder | None  # what is left of the others
    nodes: list[int]  # trie nodes reached
