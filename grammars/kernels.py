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


class LengthWalk(NamedTuple):
    """Characters that tokens add to a text of any characters, from a state of its terminal."""

    chars: np.ndarray  # [vocabulary] int32: needed to stay inside; HUGE for tokens that do not
    ends: np.ndarray  # [num_ends] int32: trie nodes where the text may end
    end_chars: np.ndarray  # [num_ends] int32: characters before that end

    @property
    def longest(self) -> int:
        """The most characters that a token adds."""
        inside = self.chars[self.chars < HUGE]
        return int(max(inside.max(initial=0), self.end_chars.max(initial=0)))


HUGE = 1 << 30


def length_walk_ref(
    trie: Trie, states: DenseStates, start: int, body: int, num_tokens: int
) -> LengthWalk:
    """Depth first; a character is complete whenever the state is `body`. All rows are known."""
    chars = np.full(num_tokens, HUGE, np.int32)
    ends: list[tuple[int, int]] = []
    path = [(start, 0)]
    at, end = 1, trie.num_nodes
    while at < end:
        del path[trie.depth[at] :]
        here, count = path[-1]
        target = int(states.next[here, trie.byte[at]])
        if target == DEAD:
            at = int(trie.skip[at])
            continue
        if states.accepting[target]:
            ends.append((at, count))
        else:
            count += target == body
            needed = count + (target != body)  # a character that has begun
            for token_id in trie.token_ids[trie.first[at] : trie.first[at + 1]].tolist():
                chars[token_id] = needed
        path.append((target, count))
        at += 1
    nodes = np.array([node for node, _ in ends], np.int32)
    return LengthWalk(chars, nodes, np.array([count for _, count in ends], np.int32))


def _length_loop(  # compiled by numba
    byte: Any,
    depth: Any,
    skip: Any,
    first: Any,
    token_ids: Any,
    following: Any,
    accepting: Any,
    start: int,
    body: int,
    chars: Any,
    nodes: Any,
    end_chars: Any,
) -> int:
    path = np.empty(4097, np.int32)
    counts = np.empty(4097, np.int32)
    path[0] = start
    counts[0] = 0
    at = 1
    num_ends = 0
    while at < len(byte):
        level = depth[at]
        target = following[path[level - 1], byte[at]]
        if target <= 0:
            at = skip[at]
            continue
        count = counts[level - 1]
        if accepting[target]:
            nodes[num_ends] = at
            end_chars[num_ends] = count
            num_ends += 1
        else:
            if target == body:
                count += 1
            needed = count if target == body else count + 1
            for index in range(first[at], first[at + 1]):
                chars[token_ids[index]] = needed
        path[level] = target
        counts[level] = count
        at += 1
    return num_ends


@cache
def _compiled(name: str) -> Callable[..., Any] | None:
    try:
        import numba
    except ImportError:
        return None
    tables = "uint8[::1],int32[::1],int32[::1],int32[::1],int32[::1],int32[:,::1],uint8[::1]"
    loop, more = {
        "inside": (_walk_loop, "int64,uint32[::1],int32[::1],int32[::1],uint8[::1]"),
        "length": (_length_loop, "int64,int64,int32[::1],int32[::1],int32[::1]"),
    }[name]
    return numba.njit(f"int64({tables},{more})", cache=True, nogil=True)(loop)  # type: ignore[no-any-return]


def length_walk(
    trie: Trie, states: DenseStates, start: int, body: int, num_tokens: int
) -> LengthWalk:
    """As `length_walk_ref`, by the kernel where numba is there."""
    kernel = _compiled("length")
    if kernel is None:
        return length_walk_ref(trie, states, start, body, num_tokens)
    chars = np.full(num_tokens, HUGE, np.int32)
    nodes = np.empty(trie.num_nodes, np.int32)
    end_chars = np.empty(trie.num_nodes, np.int32)
    count = kernel(*trie, *states, start, body, chars, nodes, end_chars)
    return LengthWalk(chars, nodes[:count].copy(), end_chars[:count].copy())


def inside_walk(trie: Trie, states: DenseStates, start: int, num_words: int) -> InsideWalk:
    """As `inside_walk_ref`, by the kernel where numba is there."""
    kernel = _compiled("inside")
    if kernel is None:
        return inside_walk_ref(trie, states, start, num_words)
    row = np.zeros(num_words, np.uint32)
    nodes = np.empty(trie.num_nodes, np.int32)
    exit_states = np.empty(trie.num_nodes, np.int32)
    unknown = np.zeros(len(states.accepting), np.uint8)
    count = kernel(*trie, *states, start, row, nodes, exit_states, unknown)
    missing = np.flatnonzero(unknown).astype(np.int32)
    return InsideWalk(row, nodes[:count].copy(), exit_states[:count].copy(), missing)
