"""Slot pool and radix tree driven at random against a plain dict: (namespace, prefix) -> slot.

RAMIFY_NIGHTLY=1 runs 250,000 operations instead of some thousands.
"""

import os

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ramify.runtime.cache.radix_tree import Match, RadixNode, RadixTree
from ramify.runtime.cache.slot_pool import SlotPool

NIGHTLY = os.environ.get("RAMIFY_NIGHTLY") == "1"

NAMESPACES = st.sampled_from(["", "salt"])
# Few letters and long runs: prefixes collide often, and runs are split at every place.
KEYS = st.lists(st.integers(0, 2), min_size=1, max_size=12).map(tuple)
PICK = st.integers(0, 2**16)

Prefix = tuple[str, tuple[int, ...]]


def array(tokens: tuple[int, ...]) -> np.ndarray:
    return np.array(tokens, dtype=np.int32)


class CacheMachine(RuleBasedStateMachine):
    """Requests lock prefixes, extend them, and let go; the cache evicts what nobody holds."""

    def __init__(self) -> None:
        super().__init__()
        self.cached: dict[Prefix, int] = {}
        self.held: list[tuple[RadixNode, Prefix]] = []
        self.hints: list[tuple[Prefix, Match]] = []

    @initialize(num_slots=st.integers(1, 40))
    def start(self, num_slots):
        self.pool = SlotPool(num_slots)
        self.tree = RadixTree(self.pool)

    def longest(self, namespace: str, key: tuple[int, ...]) -> int:
        length = 0
        while length < len(key) and (namespace, key[: length + 1]) in self.cached:
            length += 1
        return length

    def locked(self) -> set[Prefix]:
        return {(ns, key[:n]) for _, (ns, key) in self.held for n in range(1, len(key) + 1)}

    @rule(namespace=NAMESPACES, key=KEYS)
    def lock(self, namespace, key):
        match = self.tree.match(array(key), namespace)
        assert match.length == self.longest(namespace, key)
        unlocked, evictable = self.tree.num_unlocked(match), self.tree.num_evictable
        node = self.tree.lock_match(match, namespace)
        assert evictable - self.tree.num_evictable == unlocked
        self.held.append((node, (namespace, key[: match.length])))

    @precondition(lambda self: self.held)
    @rule(pick=PICK, tokens=KEYS)
    def insert_below_a_lock(self, pick, tokens):
        node, (namespace, head) = self.held[pick % len(self.held)]
        tokens = tokens[: self.pool.num_free]
        slots = self.pool.allocate(len(tokens))
        end = self.tree.insert(node, array(tokens), slots, step=0)
        assert end.end == len(head) + len(tokens)
        for n, slot in enumerate(slots.tolist(), start=len(head) + 1):
            self.cached.setdefault((namespace, (head + tokens)[:n]), slot)

    @precondition(lambda self: self.held)
    @rule(pick=PICK)
    def lock_again(self, pick):
        node, prefix = self.held[pick % len(self.held)]
        self.tree.lock(node)
        self.held.append((node, prefix))

    @precondition(lambda self: self.held)
    @rule(pick=PICK)
    def unlock(self, pick):
        node, _ = self.held.pop(pick % len(self.held))
        self.tree.unlock(node)

    @rule(num_slots=st.integers(0, 12))
    def evict(self, num_slots):
        self.after_eviction(min(num_slots, self.tree.num_evictable), self.tree.evict(num_slots))

    @rule()
    def flush(self):
        self.after_eviction(len(self.cached.keys() - self.locked()), self.tree.flush())

    def after_eviction(self, expected: int, evicted: int) -> None:
        """Which ones went is the tree's choice; what must hold is that nobody held them."""
        left = self.contents()
        gone = self.cached.keys() - left.keys()
        assert len(gone) == evicted == expected
        assert not gone & self.locked(), "a locked prefix was evicted"
        for prefix in gone:
            del self.cached[prefix]

    @precondition(lambda self: not self.held)
    @rule(namespace=NAMESPACES)
    def drop(self, namespace):
        self.tree.drop(namespace)
        self.cached = {prefix: s for prefix, s in self.cached.items() if prefix[0] != namespace}

    @rule(namespace=NAMESPACES, key=KEYS)
    def remember_a_match(self, namespace, key):
        self.hints.append(((namespace, key), self.tree.match(array(key), namespace)))

    @precondition(lambda self: self.hints)
    @rule(pick=PICK)
    def match_from_a_hint(self, pick):
        index = pick % len(self.hints)
        (namespace, key), hint = self.hints[index]
        match = self.tree.match(array(key), namespace, hint)
        assert match.length == self.longest(namespace, key)
        self.hints[index] = ((namespace, key), match)

    @invariant()
    def tree_and_pool_equal_the_model(self):
        self.tree.check_invariants()
        self.pool.check_invariants()
        assert self.contents() == self.cached
        free = set(self.pool.free_slots().tolist())
        owned = set(self.cached.values())
        assert len(owned) == len(self.cached), "a slot has two owners"
        assert not free & owned
        assert len(free) + len(owned) == self.pool.num_slots, "a slot leaked"
        assert self.tree.num_evictable == len(self.cached.keys() - self.locked())

    def contents(self) -> dict[Prefix, int]:
        found: dict[Prefix, int] = {}
        path: dict[int, tuple[int, ...]] = {}
        for node in self.tree.nodes():
            head = path[id(node.parent)] if node.parent is not None else ()
            tokens = path[id(node)] = head + tuple(node.key.tolist())
            for n, slot in enumerate(node.slots.tolist(), start=len(head) + 1):
                found[node.namespace, tokens[:n]] = slot
        return found

    def teardown(self):
        if not hasattr(self, "tree"):
            return
        for node, _ in self.held:
            self.tree.unlock(node)
        self.tree.flush()
        assert self.pool.num_free == self.pool.num_slots
        assert list(self.tree.nodes()) == []


TestCache = CacheMachine.TestCase
TestCache.settings = settings(
    max_examples=3000 if NIGHTLY else 150,
    stateful_step_count=100 if NIGHTLY else 50,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
