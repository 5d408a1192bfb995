import numpy as np
import pytest

from ramify.runtime.cache.radix_tree import RadixNode, RadixTree
from ramify.runtime.cache.slot_pool import SlotPool


class Cache:
    """A tree over its pool, spoken to in Python lists."""

    def __init__(self, num_slots: int = 100) -> None:
        self.pool = SlotPool(num_slots)
        self.tree = RadixTree(self.pool)

    def put(self, tokens: list[int], namespace: str = "", *, step: int = 0) -> RadixNode:
        """Insert `tokens`; the returned node is locked."""
        key = np.array(tokens, dtype=np.int32)
        match = self.tree.match(key, namespace)
        held = self.tree.lock_match(match, namespace)
        rest = key[match.length :]
        node = self.tree.insert(held, rest, self.pool.allocate(len(rest)), step=step)
        self.tree.lock(node)
        self.tree.unlock(held)
        self.tree.check_invariants()
        return node

    def cache(self, tokens: list[int], namespace: str = "") -> None:
        self.tree.unlock(self.put(tokens, namespace))

    def length(self, tokens: list[int], namespace: str = "") -> int:
        return self.tree.match(np.array(tokens, dtype=np.int32), namespace).length


@pytest.fixture
def cache():
    return Cache()


def test_match_finds_the_longest_prefix_at_token_granularity(cache):
    cache.cache([1, 2, 3, 4])
    cache.cache([1, 2, 7])
    assert cache.length([1, 2, 3, 4, 5]) == 4
    assert cache.length([1, 2, 3, 9]) == 3
    assert cache.length([1, 2, 7]) == 3
    assert cache.length([2]) == 0
    assert cache.length([]) == 0


def test_namespaces_share_nothing(cache):
    cache.cache([1, 2, 3], "a")
    assert cache.length([1, 2, 3], "b") == 0
    assert cache.length([1, 2, 3], "a") == 3


def test_match_changes_nothing_and_lock_match_splits_where_it_ends(cache):
    cache.cache([1, 2, 3, 4])
    match = cache.tree.match(np.array([1, 2, 9], dtype=np.int32), "")
    assert sum(1 for _ in cache.tree.nodes()) == 2  # root and one run
    node = cache.tree.lock_match(match, "")
    assert (node.end, node.lock_ref) == (2, 1)
    assert cache.tree.num_evictable == 2
    cache.tree.check_invariants()


def test_split_keeps_the_lower_object_and_its_locks(cache):
    lower = cache.put([1, 2, 3, 4])
    cache.cache([1, 2, 9])
    assert (lower.start, lower.end) == (2, 4)
    assert lower.parent.lock_ref == 1
    cache.tree.unlock(lower)
    assert cache.tree.num_evictable == cache.tree.num_cached == 5


def test_path_slots_are_those_inserted(cache):
    tokens = np.arange(6, dtype=np.int32)
    root = cache.tree.lock_match(cache.tree.match(tokens, ""), "")
    slots = cache.pool.allocate(6)
    node = cache.tree.insert(root, tokens, slots, step=0)
    cache.put([0, 1, 2, 50])
    assert cache.tree.path_slots(node, 0).tolist() == slots.tolist()
    assert cache.tree.path_slots(node, 4).tolist() == slots[4:].tolist()
    assert cache.tree.path_slots(node, 6).tolist() == []


def test_inserting_what_is_there_frees_the_copies(cache):
    held = cache.put([1])
    cache.cache([1, 2, 3])
    again = cache.pool.allocate(3)
    node = cache.tree.insert(held, np.array([2, 3, 4], dtype=np.int32), again, step=0)
    assert (node.end, cache.tree.num_cached) == (4, 4)
    assert cache.pool.num_free == 100 - 4


def test_evict_never_touches_locked_nodes(cache):
    held = cache.put([1, 2, 3])
    cache.cache([1, 2, 3, 4, 5])
    cache.cache([9, 9])
    assert cache.tree.evict(100) == 4
    assert cache.length([1, 2, 3, 4]) == 3
    cache.tree.unlock(held)
    assert cache.tree.flush() == 3
    assert cache.pool.num_free == 100


def test_evict_takes_the_least_recently_used_leaf_from_its_tail(cache):
    cache.cache([1, 2, 3, 4])
    cache.cache([5, 6, 7, 8])
    cache.cache([1, 2, 3, 4])  # used again: now the younger one
    assert cache.tree.evict(3) == 3
    assert cache.length([5, 6, 7, 8]) == 1
    assert cache.tree.evict(3) == 3
    assert cache.length([5]) == 0
    assert cache.length([1, 2, 3, 4]) == 2
    cache.tree.check_invariants()


def test_a_parent_is_evicted_by_its_own_last_use_not_its_childs(cache):
    cache.cache([1, 2, 3])
    cache.cache([1, 2, 4])
    cache.cache([7])
    cache.cache([1, 2])  # the shared run is youngest
    assert cache.tree.evict(3) == 3
    assert cache.length([1, 2]) == 2
    assert cache.length([7]) == 0


def test_a_match_goes_on_from_an_earlier_one_whatever_happened_between(cache):
    key = np.arange(8, dtype=np.int32)
    cache.cache(list(range(6)))
    hint = cache.tree.match(key, "")
    assert cache.tree.match(key, "", hint) is hint
    cache.cache([0, 1, 2, 99])  # splits the run the hint ends in
    assert cache.tree.match(key, "", hint).length == 6
    cache.cache(list(range(8)))
    assert cache.tree.match(key, "", hint).length == 8
    hint = cache.tree.match(key, "", hint)
    cache.tree.evict(cache.tree.num_cached - 2)
    fresh = cache.tree.match(key, "")
    assert cache.tree.match(key, "", hint) == fresh
    cache.tree.flush()
    assert cache.tree.match(key, "", hint).length == 0
    cache.cache([0, 1])
    assert cache.tree.match(key, "", hint).length == 2


def test_drop_empties_one_namespace(cache):
    cache.cache([1, 2, 3], "a")
    cache.cache([1, 2, 4], "a")
    cache.cache([1, 2], "b")
    cache.tree.drop("a")
    cache.tree.drop("never seen")
    assert cache.length([1], "a") == 0
    assert cache.pool.num_free == 98


def test_an_empty_namespace_leaves_nothing_behind(cache):
    for name in range(50):
        cache.cache([1, 2], f"salt {name}")
    cache.tree.flush()
    assert list(cache.tree.nodes()) == []
    cache.tree.unlock(cache.tree.lock_match(cache.tree.match(np.array([1], np.int32), "x"), "x"))
    assert list(cache.tree.nodes()) == []


def test_unlocking_too_often_is_caught(cache):
    node = cache.put([1])
    cache.tree.unlock(node)
    with pytest.raises(AssertionError, match="not locked"):
        cache.tree.unlock(node)


def test_num_unlocked_is_what_a_lock_takes_from_the_evictable(cache):
    held = cache.put([1, 2, 3])
    cache.cache([1, 2, 3, 4, 5, 6])
    match = cache.tree.match(np.array([1, 2, 3, 4, 5, 9], dtype=np.int32), "")
    before = cache.tree.num_evictable
    assert cache.tree.num_unlocked(match) == 2
    node = cache.tree.lock_match(match, "")
    assert before - cache.tree.num_evictable == 2
    cache.tree.unlock(node)
    cache.tree.unlock(held)


def test_the_eviction_order_does_not_grow_with_use(cache):
    cache.cache([1, 2, 3])
    for _ in range(1000):
        cache.cache([1, 2, 3])
    assert len(cache.tree._lru) < 100
