"""Order in which waiting requests are considered for admission.

Whatever the policy, nothing starves: the planner lets the longest waiting request go first after
`MAX_OVERTAKES` others went before it.
"""

import random
from collections.abc import Callable, Sequence
from operator import attrgetter

from ramify.runtime.cache.radix_tree import RadixNode
from ramify.runtime.config import Policy
from ramify.runtime.core import Request

MAX_OVERTAKES = 32  # admissions of others that the longest waiting request lets pass

Ordering = Callable[[Sequence[Request]], list[Request]]

CACHE_AWARE: frozenset[Policy] = frozenset({"lpm", "dfs-weight"})  # need `match` to be fresh


def ordering(policy: Policy, seed: int) -> Ordering:
    """The function that sorts waiting requests, best first and ties in order of arrival.

    `seed` is for `random`.
    """
    shuffler = random.Random(seed)
    orderings: dict[Policy, Ordering] = {
        "lpm": lambda arrived: sorted(arrived, key=_longest_match),
        "fcfs": list,
        "lof": lambda arrived: sorted(arrived, key=_longest_output),
        "dfs-weight": _depth_first,
        "random": lambda arrived: shuffler.sample(arrived, len(arrived)),
        "priority": lambda arrived: sorted(arrived, key=_highest_priority),
    }
    chosen = orderings[policy]
    return lambda waiting: chosen(sorted(waiting, key=_arrival))


_arrival = attrgetter("seq")


def _longest_match(request: Request) -> int:
    return -request.match.length if request.match else 0


def _longest_output(request: Request) -> int:
    return -request.spec.sampling.max_tokens


def _highest_priority(request: Request) -> int:
    return -request.spec.priority


def _depth_first(arrived: Sequence[Request]) -> list[Request]:
    """Requests of a subtree together, the fullest subtree first, deeper before shallower."""
    at_node: dict[RadixNode | None, list[Request]] = {}
    for request in arrived:
        at_node.setdefault(request.match.last if request.match else None, []).append(request)
    unmatched = at_node.pop(None, [])
    weight: dict[RadixNode, int] = {}  # requests at or below each node
    children: dict[RadixNode | None, list[RadixNode]] = {}
    for last, requests in at_node.items():
        node: RadixNode | None = last
        while node is not None:
            if node not in weight:
                weight[node] = 0
                children.setdefault(node.parent, []).append(node)
            weight[node] += len(requests)
            node = node.parent
    last_first = unmatched[::-1]
    stack = sorted(children.get(None, ()), key=weight.__getitem__, reverse=True)
    while stack:  # own requests come after all of the subtree's, hence last first
        node = stack.pop()
        last_first += reversed(at_node.get(node, ()))
        stack += sorted(children.get(node, ()), key=weight.__getitem__, reverse=True)
    return last_first[::-1]
