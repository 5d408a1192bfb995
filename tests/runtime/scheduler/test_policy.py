import numpy as np

from ramify.runtime.scheduler.policy import ordering
from tests.runtime.fakes import token_request
from tests.runtime.scheduler.harness import Harness


def waiting(*specs, cached=()):
    """Requests as they wait after `cached` prompts were computed, matched against the tree."""
    harness = Harness()
    for number, prompt in enumerate(cached):
        harness.add(token_request(f"cached {number}", prompt, max_tokens=0))
    harness.run()
    for spec in specs:
        harness.add(spec)
    requests = list(harness.scheduler._queues.waiting.values())
    for request in requests:
        request.match = harness.tree.match(request.prefill_ids, "")
    return requests


def order(policy, requests):
    return [request.spec.rid for request in ordering(policy, 0)(requests)]


def test_lpm_puts_the_longest_cached_prefix_first_and_ties_in_order_of_arrival():
    requests = waiting(
        token_request("none", [9]),
        token_request("two", [1, 2, 7]),
        token_request("all", [1, 2, 3]),
        token_request("none too", [8]),
        cached=[[1, 2, 3]],
    )
    assert order("lpm", requests) == ["all", "two", "none", "none too"]


def test_lof_puts_the_longest_output_first():
    requests = waiting(
        token_request("short", [1], max_tokens=1),
        token_request("long", [1], max_tokens=100),
        token_request("long too", [1], max_tokens=100),
    )
    assert order("lof", requests) == ["long", "long too", "short"]


def test_priority_puts_the_highest_first():
    requests = waiting(token_request("low", [1]), token_request("high", [1], priority=2))
    assert order("priority", requests) == ["high", "low"]


def test_dfs_weight_keeps_subtrees_together_heaviest_first():
    requests = waiting(
        token_request("none", [50]),
        token_request("a1", [1, 1, 9]),
        token_request("b1", [2, 2, 9]),
        token_request("a2", [1, 1, 8]),
        token_request("b2", [2, 2, 3, 9]),
        token_request("b3", [2, 2, 4, 9]),
        cached=[[1, 1], [2, 2, 3], [2, 2, 4]],
    )
    ordered = order("dfs-weight", requests)
    assert set(ordered[:2]) == {"b2", "b3"}
    assert ordered[2:] == ["b1", "a1", "a2", "none"]


def test_random_is_seeded_and_loses_nobody():
    requests = waiting(*(token_request(str(n), [1]) for n in range(50)))
    first, again = order("random", requests), order("random", requests)
    assert first == again != order("fcfs", requests)
    assert sorted(first, key=int) == order("fcfs", requests) == list(np.arange(50).astype(str))
