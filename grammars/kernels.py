"""The wide walk: which tokens stay inside a terminal, over the whole trie.

`inside_walk` is the numba kernel, compiled on first use and cached on disk; `inside_walk_ref` is
the same in plain Python, the oracle of the tests and what runs where numba is not installed.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ramify.grammars.vocabulary import Trie

UNKNOWN, DEAD = -1, 0  # in a table of dense states
MAX_TOKEN_BYTES = 4096


class DenseStates(NamedTuple):
    """Lexer states that a wide walk has met, renumbered from 1; 0 is the dead state."""

    next: np.ndarray  # [capacity, 256] int32: UNKNOWN, DEAD, or a dense state
    accepting: np.ndarray  # [capacity] uint8


class InsideWalk(NamedTuple):
    """Result of a walk. Where `unknown` is not empty, fill those rows in and walk again."""

    row: np.ndarray  # [num_words] uint32: tokens that stay inside the terminal
    exit_nodes: np.ndarray  # [num_exits] int32: trie nodes where the terminal may end
    exit_states: np.ndarray  # [num_exits] int32: the dense state there
    unknown: np.ndarray  # [num_unknown] int32: dense states whose row is not known yet


def inside_walk_ref(trie: Trie, states: DenseStates, start: int, num_words: int) -> InsideWalk:
    """Depth first over the trie, one node at a time."""
    row = np.zeros(num_words, np.uint32)
    exits: list[tuple[int, int]] = []
    unknown = set[int]()
    path = [start]
    at, end = 1, trie.num_nodes
    byte, depth, skip = trie.byte, trie.depth, trie.skip
    while at < end:
        here = path[depth[at] - 1]
        target = int(states.next[here, byte[at]])
        if target <= DEAD:
            if target == UNKNOWN:
                unknown.add(here)
            at = int(skip[at])
            continue
        del path[depth[at] :]
        path.append(target)
        for token_id in trie.token_ids[trie.first[at] : trie.first[at + 1]].tolist():
            row[token_id >> 5] |= np.uint32(1 << (token_id & 31))
        if states.accepting[target]:
            exits.append((at, target))
        at += 1
    nodes = np.array([node for node, _ in exits], np.int32)
    exit_states = np.array([state for _, state in exits], np.int32)
    return InsideWalk(row, nodes, exit_states, np.array(sorted(unknown), np.int32))


def _walk_loop(  # compiled by numba
    byte: Any,
    depth: Any,
    skip: Any,
    first: Any,
    token_ids: Any,
    following: Any,
    accepting: Any,
    start: int,
    row: Any,
    nodes: Any,
    states: Any,
    unknown: Any,
) -> int:
    path = np.empty(4097, np.int32)
    path[0] = start
    at = 1
    num_exits = 0
    while at < len(byte):
        here = path[depth[at] - 1]
        target = following[here, byte[at]]
        if target <= 0:
            if target < 0:
                unknown[here] = 1
            at = skip[at]
            continue
        path[depth[at]] = target
        for index in range(first[at], first[at + 1]):
            token_id = token_ids[index]
            row[token_id >> 5] |= np.uint32(1) << np.uint32(token_id & 31)
        if accepting[target]:
            nodes[num_exits] = at
            states[num_exits] = target
            num_exits += 1
        at += 1
    return num_exits


@cache
def _compiled() -> Callable[..., Any] | None:
    try:
        import numba
    except ImportError:
        return None
    signature = (
        "int64(uint8[::1],int32[::1],int32[::1],int32[::1],int32[::1],int32[:,::1],uint8[::1],"
        "int64,uint32[::1],int32[::1],int32[::1],uint8[::1])"
    )
    return numba.njit(signature, cache=True, nogil=True)(_walk_loop)  # type: ignore[no-any-return]


def inside_walk(trie: Trie, states: DenseStates, start: int, num_words: int) -> InsideWalk:
    """As `inside_walk_ref`, by the kernel where numba is there."""
    kernel = _compiled()
    if kernel is None:
        return inside_walk_ref(trie, states, start, num_words)
    row = np.zeros(num_words, np.uint32)
    nodes = np.empty(trie.num_nodes, np.int32)
    exit_states = np.empty(trie.num_nodes, np.int32)
    unknown = np.zeros(len(states.accepting), np.uint8)
    count = kernel(*trie, *states, start, row, nodes, exit_states, unknown)
    missing = np.flatnonzero(unknown).astype(np.int32)
    return InsideWalk(row, nodes[:count].copy(), exit_states[:count].copy(), missing)
