"""Which prefixes have their K and V in slots: a radix tree over single tokens.

A node holds a run of tokens and the slots of their K and V; its path from the root spells a prefix.
Namespaces have separate roots and never share. A locked node is in use and so are its ancestors:
`lock_ref` counts the locks on it and below it. Unlocked nodes are the cache; when slots run out
they are given back, least recently used leaf first, from its last token backwards.

Ownership of a token's slot moves twice: `insert` takes it over from the caller, `evict`, `remove`
and `drop` give it to the pool.
"""

import heapq
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ramify.runtime.cache.slot_pool import SlotArray, SlotPool

TokenArray = npt.NDArray[np.int32]

_EMPTY: SlotArray = np.empty(0, dtype=np.int32)


@dataclass(slots=True, eq=False)
class RadixNode:
    """A run of tokens below `parent`. A split keeps this object as the lower part, so that
    `end` never changes and whoever holds the node keeps the same prefix."""

    namespace: Hashable
    key: TokenArray  # [len] int32: the tokens of this run
    slots: SlotArray  # [len] int32: the slot of each
    end: int  # tokens from the root to the last one of this run
    parent: "RadixNode | None"  # None: a root
    born: int  # step that planned these tokens
    children: "dict[int, RadixNode]" = field(default_factory=dict)  # by first token
    lock_ref: int = 0
    last_used: int = 0  # the tree's clock at the last lock or unlock
    changed: int = 0  # the tree's version when a match that ends here last became out of date
    is_live: bool = True  # False once evicted

    @property
    def start(self) -> int:
        """Tokens from the root to before this run."""
        return self.end - len(self.key)


class Match(NamedTuple):
    """The longest prefix of a key that the tree holds."""

    length: int  # tokens
    last: RadixNode | None  # where it ends, perhaps inside; None: the namespace has no node yet
    version: int  # of the tree when it was looked up


class RadixTree:
    """The prefix tree and its verbs: match, lock, unlock, insert, evict, remove."""

    def __init__(self, pool: SlotPool) -> None:
        self.pool = pool
        self.num_cached = 0  # slots the tree owns
        self.num_evictable = 0  # of those, in unlocked nodes
        self.version = 0  # goes up whenever nodes change
        self._roots: dict[Hashable, RadixNode] = {}
        self._num_nodes = 0  # roots not counted
        self._clock = 0
        # (last_used, tie break, leaf): every unlocked leaf, and stale entries that are skipped
        self._lru: list[tuple[int, int, RadixNode]] = []
        self._num_pushed = 0

    def match(self, key: TokenArray, namespace: Hashable, hint: Match | None = None) -> Match:
        """Longest cached prefix of `key`: [n] int32. Changes nothing.

        `hint` is an earlier match of the same key and namespace; the search goes on from there.
        """
        node: RadixNode | None = None
        if hint is not None:
            if self.is_current(hint):
                return hint
            node = hint.last
            while node is not None and (not node.is_live or node.end > hint.length):
                node = node.parent
        node = node or self._roots.get(namespace)
        if node is None:
            return Match(0, None, self.version)
        end, key_len = node.end, len(key)
        while end < key_len:
            child = node.children.get(key.item(end))
            if child is None:
                break
            end += _common_len(child.key, key[end:])
            node = child
            if end < child.end:
                break
        return Match(end, node, self.version)

    def is_current(self, match: Match) -> bool:
        """Whether the same search would come out the same."""
        if match.last is None:
            return match.version == self.version
        return match.last.changed <= match.version

    def num_unlocked(self, match: Match) -> int:
        """Matched tokens that nobody has locked: what a lock takes from `num_evictable`."""
        count, node = 0, match.last
        while node is not None and node.lock_ref == 0:
            count += min(node.end, match.length) - node.start
            node = node.parent
        return count

    def lock_match(self, match: Match, namespace: Hashable) -> RadixNode:
        """Lock exactly the matched tokens; the node that ends with them is the caller's lock."""
        assert self.is_current(match), f"the tree changed since it was at {match.version=}"
        node = match.last
        if node is None:
            node = RadixNode(namespace, _EMPTY, _EMPTY, end=0, parent=None, born=0)
            self._roots[namespace] = node
            self.version += 1
        elif match.length < node.end:
            node = self._split(node, match.length)
        self.lock(node)
        return node

    def lock(self, node: RadixNode) -> None:
        """Keep `node` and its ancestors from eviction until `unlock`."""
        assert node.is_live, "an evicted node cannot be locked"
        self._clock += 1
        walk: RadixNode | None = node
        while walk is not None:
            if walk.lock_ref == 0:
                self.num_evictable -= len(walk.key)
            walk.lock_ref += 1
            walk.last_used = self._clock
            walk = walk.parent

    def unlock(self, node: RadixNode) -> None:
        """Undo one `lock(node)`."""
        self._clock += 1
        walk: RadixNode | None = node
        while walk is not None:
            assert walk.lock_ref > 0, f"node at [{walk.start}, {walk.end}) is not locked"
            walk.lock_ref -= 1
            walk.last_used = self._clock
            if walk.lock_ref == 0:
                self.num_evictable += len(walk.key)
                if not walk.children:
                    self._became_unused_leaf(walk)
            walk = walk.parent

    def insert(
        self, node: RadixNode, tokens: TokenArray, slots: SlotArray, *, step: int
    ) -> RadixNode:
        """Put `tokens` below `node`, which the caller has locked; the node that ends with them.

        The slots change hands: those of tokens the tree already held go back to the pool, the rest
        is the tree's. Both are [n] int32.
        """
        assert node.lock_ref > 0 and len(tokens) == len(slots), f"{len(tokens)=} {len(slots)=}"
        done = 0
        while done < len(tokens):
            child = node.children.get(tokens.item(done))
            if child is None:
                break
            common = _common_len(child.key, tokens[done:])
            done += common
            node = child if common == len(child.key) else self._split(child, child.start + common)
        # [0, done) already the tree's: free the copies   [done, n) caller -> tree
        self.pool.free(slots[:done])
        if done == len(tokens):
            return node
        leaf = RadixNode(
            node.namespace,
            tokens[done:].copy(),
            slots[done:].copy(),
            end=node.end + len(tokens) - done,
            parent=node,
            born=step,
        )
        node.children[leaf.key.item(0)] = leaf
        self._num_nodes += 1
        self._clock += 1
        leaf.last_used = self._clock
        self.num_cached += len(leaf.key)
        self.num_evictable += len(leaf.key)
        self._mark_changed(node)
        self._became_unused_leaf(leaf)
        return leaf

    def evict(self, num_slots: int) -> int:
        """Give up to `num_slots` slots of unlocked nodes back to the pool, oldest use first."""
        num_evicted = 0
        while num_evicted < num_slots:
            leaf = self._pop_lru()
            if leaf is None:
                break
            excess = len(leaf.key) - (num_slots - num_evicted)
            if excess > 0:  # only the tail is needed: what is left of the run stays cached
                self._split(leaf, leaf.start + excess)
            num_evicted += len(leaf.key)
            self.remove(leaf)
        return num_evicted

    def remove(self, leaf: RadixNode) -> None:
        """Drop an unlocked leaf and give its slots to the pool."""
        parent = leaf.parent
        assert leaf.is_live and not leaf.lock_ref and not leaf.children and parent is not None
        self.pool.free(leaf.slots)
        self.num_cached -= len(leaf.key)
        self.num_evictable -= len(leaf.key)
        self._num_nodes -= 1
        self._mark_changed(leaf)
        del parent.children[leaf.key.item(0)]
        leaf.is_live = False
        leaf.key = leaf.slots = _EMPTY  # old hints may still point here: hold no arrays for them
        if parent.lock_ref == 0 and not parent.children:
            self._became_unused_leaf(parent)

    def drop(self, namespace: Hashable) -> None:
        """Drop everything in a namespace, of which nothing may be locked."""
        if (root := self._roots.get(namespace)) is None:
            return
        nodes = list(_subtree(root))
        for node in reversed(nodes[1:]):  # children come after their parents
            self.remove(node)

    def flush(self) -> int:
        """Drop every unlocked node; how many slots that freed."""
        return self.evict(self.num_evictable)

    def path_slots(self, node: RadixNode, start: int) -> SlotArray:
        """Slots of positions [start, node.end) of `node`'s prefix: [node.end - start] int32."""
        slots = np.empty(node.end - start, dtype=np.int32)
        walk: RadixNode | None = node
        while walk is not None and walk.end > start:
            first = max(walk.start, start)
            slots[first - start : walk.end - start] = walk.slots[first - walk.start :]
            walk = walk.parent
        return slots

    def nodes(self) -> Iterator[RadixNode]:
        """Every node, roots included, parents before their children."""
        for root in self._roots.values():
            yield from _subtree(root)

    def _split(self, node: RadixNode, end: int) -> RadixNode:
        """Cut `node` after position `end`; the new node above it, which ends there."""
        parent, cut = node.parent, end - node.start
        assert parent is not None and 0 < cut < len(node.key), f"{cut=} of {len(node.key)}"
        upper = RadixNode(
            node.namespace,
            node.key[:cut],
            node.slots[:cut],
            end=end,
            parent=parent,
            born=node.born,
            lock_ref=node.lock_ref,  # whoever locks the lower part uses the upper one too
            last_used=node.last_used,
        )
        parent.children[upper.key.item(0)] = upper
        node.key, node.slots, node.parent = node.key[cut:], node.slots[cut:], upper
        upper.children[node.key.item(0)] = node
        self._num_nodes += 1
        self._mark_changed(node)
        return upper

    def _mark_changed(self, node: RadixNode) -> None:
        """Matches that end at `node`, perhaps inside it, have to be looked up again."""
        self.version += 1
        node.changed = self.version

    def _became_unused_leaf(self, node: RadixNode) -> None:
        if node.parent is None:
            node.is_live = False
            del self._roots[node.namespace]
            self._mark_changed(node)
            return
        self._num_pushed += 1
        heapq.heappush(self._lru, (node.last_used, self._num_pushed, node))
        if len(self._lru) > 64 + 4 * self._num_nodes:
            self._lru = [entry for entry in self._lru if _is_current(entry)]
            heapq.heapify(self._lru)

    def _pop_lru(self) -> RadixNode | None:
        while self._lru:
            entry = heapq.heappop(self._lru)
            if _is_current(entry):
                return entry[2]
        return None

    def check_invariants(self) -> None:
        """Assert that nodes, locks, sizes and the eviction order fit together. O(slots)."""
        evictable = {id(entry[2]) for entry in self._lru if _is_current(entry)}
        num_cached = num_evictable = num_nodes = 0
        for node in self.nodes():
            assert node.is_live and node.lock_ref >= 0 and len(node.key) == len(node.slots)
            assert node.lock_ref >= sum(child.lock_ref for child in node.children.values())
            for token, child in node.children.items():
                assert child.parent is node and child.key.item(0) == token
                assert child.start == node.end and len(child.key) > 0
            if node.parent is None:
                assert node.children or node.lock_ref, f"empty namespace {node.namespace!r}"
                continue
            num_nodes += 1
            num_cached += len(node.key)
            num_evictable += len(node.key) if node.lock_ref == 0 else 0
            is_unused_leaf = node.lock_ref == 0 and not node.children
            assert (id(node) in evictable) == is_unused_leaf, "eviction order lost a leaf"
        assert self.num_cached == num_cached, f"{self.num_cached=}, nodes hold {num_cached}"
        assert self.num_evictable == num_evictable, f"{self.num_evictable=}, not {num_evictable}"
        assert self._num_nodes == num_nodes, f"{self._num_nodes=}, found {num_nodes}"


def _common_len(run: TokenArray, key: TokenArray) -> int:
    """Length of the common prefix of two runs of tokens."""
    size = min(len(run), len(key))
    differs = run[:size] != key[:size]
    first = int(differs.argmax())
    return first if differs[first] else size


def _is_current(entry: tuple[int, int, RadixNode]) -> bool:
    last_used, _, node = entry
    return node.is_live and node.lock_ref == 0 and not node.children and node.last_used == last_used


def _subtree(root: RadixNode) -> Iterator[RadixNode]:
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(node.children.values())
