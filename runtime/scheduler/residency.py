"""Where each running request's K and V live: slots taken, shared, handed over and given back.

Who owns the slot of each position of a request:

    [0, tree_len) the radix tree, under `node`'s lock   [tree_len, num_computed) the request

Prompt tokens go to the tree when they are planned, so that a sibling planned later in the same step
finds them; decoded tokens stay the request's until it ends or is retracted.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from ramify.runtime.cache.radix_tree import Match, RadixNode, RadixTree
from ramify.runtime.cache.slot_pool import SlotPool
from ramify.runtime.core import Request
from ramify.runtime.scheduler.admission import slots_needed

_NO_SLOTS = np.empty(0, dtype=np.int32)


class Residency:
    """The only place that moves slots between pool, tree and requests."""

    def __init__(self, pool: SlotPool, tree: RadixTree) -> None:
        self.pool = pool
        self.tree = tree

    @property
    def num_available(self) -> int:
        """Slots that are free or would be after eviction."""
        return self.pool.num_free + self.tree.num_evictable

    def match(self, request: Request) -> Match:
        """Longest cached prefix of what `request` has to prefill, looked up incrementally."""
        request.match = self.tree.match(request.prefill_ids, request.namespace, request.match)
        return request.match

    def allocate(self, num_slots: int) -> np.ndarray:
        """[num_slots] int32 for the caller; unlocked nodes are evicted as needed."""
        short = num_slots - self.pool.num_free
        if short > 0:
            self.tree.evict(short)
        return self.pool.allocate(num_slots)

    def share(self, request: Request) -> None:
        """Lock all of the request's prefill that is cached and use its slots."""
        match = self.match(request)
        held = request.node
        if held is not None and match.length == held.end:
            return
        start = request.num_computed
        node = self.tree.lock_match(match, request.namespace)
        if held is None:
            capacity = slots_needed(request.num_prompt, request.spec.sampling.max_tokens)
            request.slots = np.empty(capacity, dtype=np.int32)
        else:
            self.tree.unlock(held)
        request.slots[start : node.end] = self.tree.path_slots(node, start)
        request.node, request.tree_len, request.num_computed = node, node.end, node.end

    def extend(self, request: Request, end: int, *, step: int) -> None:
        """Slots for [num_computed, end) of the prefill, put into the tree as planned in `step`."""
        start, node = request.num_computed, request.node
        assert node is not None and request.tree_len == start, f"{request.tree_len=} {start=}"
        if end <= start:
            return
        slots = self.allocate(end - start)
        leaf = self.tree.insert(node, request.prefill_ids[start:end], slots, step=step)
        self._move_lock(request, leaf)
        request.slots[start:end] = slots
        request.tree_len = request.num_computed = end

    def release(self, request: Request, *, keep_decoded: bool) -> None:
        """End the request's hold on its slots; what it decoded goes to the tree, or is freed."""
        if request.node is None:
            return
        start, end = request.tree_len, request.num_computed
        node = request.node
        if keep_decoded:
            sure = max(start, request.num_sure)  # rows of no step that is still under way
            tokens = np.array(request.token_ids[start:sure], dtype=np.int32)
            self.tree.insert(node, tokens, request.slots[start:sure], step=0)
            start = sure
        self.pool.free(request.slots[start:end])
        # [0, end) tree or pool   [end, num_tokens) nobody
        self.tree.unlock(node)
        request.node, request.slots = None, _NO_SLOTS
        request.num_computed = request.tree_len = request.next_row = 0
        request.num_pending = request.num_sure = 0

    def forget(self, node: RadixNode | None, min_end: int) -> None:
        """Drop `node` and its ancestors that end after `min_end` and are used by nobody."""
        while node is not None and node.end > min_end and not node.lock_ref and not node.children:
            parent = node.parent
            self.tree.remove(node)
            node = parent

    def forget_since(self, step: int) -> None:
        """Drop what was planned in `step` or later, and whatever was put below it."""
        lost: set[RadixNode] = set()
        for node in self.tree.nodes():  # parents first
            if node.born >= step or node.parent in lost:
                lost.add(node)
        for node in sorted(lost, key=lambda node: -node.end):
            self.tree.remove(node)

    def shared_len(self, request: Request) -> int:
        """Positions whose slots another running request uses too."""
        node = request.node
        while node is not None and node.lock_ref < 2:
            node = node.parent
        return node.end if node is not None else 0

    def check_invariants(self, running: Iterable[Request]) -> None:
        """Assert that each slot has one owner and each lock a holder. Costs O(slots)."""
        self.pool.check_invariants()
        self.tree.check_invariants()
        locks: Counter[RadixNode] = Counter()
        owned = [self.pool.free_slots()]
        for request in running:
            node, tree_len = request.node, request.tree_len
            assert node is not None and node.is_live and node.end == tree_len, request
            assert tree_len <= request.num_computed <= request.num_ahead, request
            assert (request.slots[:tree_len] == self.tree.path_slots(node, 0)).all(), request
            owned.append(request.slots[tree_len : request.num_computed])
            while node is not None:
                locks[node] += 1
                node = node.parent
        for node in self.tree.nodes():
            owned.append(node.slots)
            assert node.lock_ref == locks[node], f"{node.lock_ref=}, holders: {locks[node]}"
        owners = np.bincount(np.concatenate(owned), minlength=self.pool.num_slots)
        assert (owners == 1).all(), f"slots without exactly one owner: {np.nonzero(owners != 1)[0]}"

    def _move_lock(self, request: Request, node: RadixNode) -> None:
        assert request.node is not None
        self.tree.lock(node)
        self.tree.unlock(request.node)
        request.node = node
