"""The wide walk: which tokens stay inside a terminal, over whole subtrees of the trie.

Each kernel is compiled by numba on first use and cached on disk; its `_ref` is the same in plain
Python, the oracle of the tests and what runs where numba is not installed.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from ramify.grammars.char_kernels import CharStates, CharWalk, char_loop, char_walk_ref
from ramify.grammars.vocabulary import Trie

DEAD = 0  # in a table of dense states
UNKNOWN = -1  # of all of a row, or of nothing of it


class DenseStates(NamedTuple):
    """Lexer states that a wide walk has met, renumbered from 1; 0 is the dead state."""

    next: np.ndarray  # [capacity, 256] int32: a state, DEAD or UNKNOWN
    accepting: np.ndarray  # [capacity] uint8


class InsideWalk(NamedTuple):
    """What a walk found. It leaves out what bytes not known yet lead to: walk on there."""

    token_ids: np.ndarray  # [num_tokens] int32: tokens that stay inside the terminal
    exit_nodes: np.ndarray  # [num_exits] int32: trie nodes where the terminal may end
    exit_states: np.ndarray  # [num_exits] int32: the dense state there
    missing_nodes: np.ndarray  # [num_missing] int32: trie nodes that were not walked
    missing_states: np.ndarray  # [num_missing] int32: the dense state above them


class Scratch(NamedTuple):
    """Room for a walk's results: fresh pages for each would take longer than many a walk."""

    found: np.ndarray  # [tokens] int32
    exits: np.ndarray  # [nodes, 2] int32: node, state
    missing: np.ndarray  # [nodes, 2] int32: node, state

    @classmethod
    def of(cls, num_nodes: int, num_tokens: int) -> "Scratch":
        """Large enough for so many trie nodes and tokens."""
        pairs = (num_nodes, 2)
        return cls(*(np.empty(shape, np.int32) for shape in (num_tokens, pairs, pairs)))


def inside_walk_ref(
    trie: Trie,
    states: DenseStates,
    start_nodes: np.ndarray,
    start_states: np.ndarray,
    is_above: bool,
) -> InsideWalk:
    """Depth first from each start: [num] int32 nodes, and the states in which what is below the
    node is read, or (`is_above`) the node's own byte."""
    token_ids: list[int] = []
    exits: list[tuple[int, int]] = []
    missing: list[tuple[int, int]] = []
    for node, state in zip(start_nodes.tolist(), start_states.tolist(), strict=True):
        path = [state]
        top = int(trie.depth[node]) - is_above
        at, end = node + 1 - is_above, int(trie.skip[node])
        while at < end:
            del path[trie.depth[at] - top :]
            here = path[-1]
            target = int(states.next[here, trie.byte[at]])
            if target <= DEAD:
                if target < DEAD:
                    missing.append((at, here))
                at = int(trie.skip[at])
                continue
            path.append(target)
            token_ids += trie.token_ids[trie.first[at] : trie.first[at + 1]].tolist()
            if states.accepting[target]:
                exits.append((at, target))
            at += 1
    columns = [token_ids, *_columns(exits), *_columns(missing)]
    return InsideWalk(*(np.array(column, np.int32) for column in columns))


def _columns(pairs: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [left for left, _ in pairs], [right for _, right in pairs]


def _walk_loop(  # compiled by numba
    byte: Any,
    depth: Any,
    skip: Any,
    first: Any,
    token_ids: Any,
    longest: int,
    following: Any,
    accepting: Any,
    start_nodes: Any,
    start_states: Any,
    is_above: int,
    found: Any,
    exits: Any,  # [num, 2] node, state
    missing: Any,  # [num, 2] node, state
) -> tuple[int, int, int]:
    path = np.empty(longest + 1, np.int32)  # [depth] state
    num_found = num_exits = num_missing = 0
    for index in range(len(start_nodes)):
        at = start_nodes[index]
        path[depth[at] - is_above] = start_states[index]
        end = skip[at]
        at += 1 - is_above
        while at < end:
            level = depth[at]
            here = path[level - 1]
            target = following[here, byte[at]]
            if target <= 0:
                if target < 0:
                    missing[num_missing, 0] = at
                    missing[num_missing, 1] = here
                    num_missing += 1
                at = skip[at]
                continue
            path[level] = target
            for token in range(first[at], first[at + 1]):
                found[num_found] = token_ids[token]
                num_found += 1
            if accepting[target]:
                exits[num_exits, 0] = at
                exits[num_exits, 1] = target
                num_exits += 1
            at += 1
    return num_found, num_exits, num_missing


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
    longest: int,
    following: Any,
    accepting: Any,
    start: int,
    body: int,
    chars: Any,
    nodes: Any,
    end_chars: Any,
) -> int:
    path = np.empty(longest + 1, np.int32)
    counts = np.empty(longest + 1, np.int32)
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


def set_bits_ref(row: np.ndarray, token_ids: np.ndarray) -> None:
    """Set the bits of some tokens in a [num_words] uint32 row: bit i % 32 of word i // 32."""
    np.bitwise_or.at(row, token_ids >> 5, np.uint32(1) << (token_ids & 31).astype(np.uint32))


def _set_loop(row: Any, token_ids: Any) -> None:  # compiled by numba
    for index in range(len(token_ids)):
        token_id = token_ids[index]
        row[token_id >> 5] |= np.uint32(1) << np.uint32(token_id & 31)


def clear_bits_ref(row: np.ndarray, token_ids: np.ndarray) -> None:
    """Clear the bits of some tokens in a [num_words] uint32 row."""
    np.bitwise_and.at(row, token_ids >> 5, ~(np.uint32(1) << (token_ids & 31).astype(np.uint32)))


def _clear_loop(row: Any, token_ids: Any) -> None:  # compiled by numba
    for index in range(len(token_ids)):
        token_id = token_ids[index]
        row[token_id >> 5] &= ~(np.uint32(1) << np.uint32(token_id & 31))


_TRIE = "uint8[::1],int32[::1],int32[::1],int32[::1],int32[::1],int64,int32[:,::1],uint8[::1]"
_KERNELS: dict[str, tuple[Callable[..., Any], str]] = {
    "inside": (
        _walk_loop,
        f"UniTuple(int64,3)({_TRIE},int32[::1],int32[::1],int64,int32[::1],int32[:,::1],"
        "int32[:,::1])",
    ),
    "chars": (
        char_loop,
        "UniTuple(int64,3)(uint8[::1],int32[::1],int32[::1],int32[::1],int32[::1],int64,"
        "int32[:,::1],uint8[::1],uint8[::1],int32[:,::1],uint8[::1],uint8[:,::1],int32[:,::1],"
        "int64,int32[::1],int32[:,::1],int32[:,::1])",
    ),
    "length": (
        _length_loop,
        f"int64({_TRIE},int64,int64,int32[::1],int32[::1],int32[::1])",
    ),
    "set": (_set_loop, "void(uint32[::1],int32[::1])"),
    "clear": (_clear_loop, "void(uint32[::1],int32[::1])"),
}


@cache
def _compiled(name: str) -> Callable[..., Any] | None:
    try:
        import numba
    except ImportError:
        return None
    loop, signature = _KERNELS[name]
    return numba.njit(signature, cache=True, nogil=True)(loop)  # type: ignore[no-any-return]  # numba has no types


def load() -> None:
    """Compile the kernels, or read them from numba's cache on disk: else their first use does."""
    for name in _KERNELS:
        _compiled(name)


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


def inside_walk(
    trie: Trie,
    states: DenseStates,
    start_nodes: np.ndarray,
    start_states: np.ndarray,
    is_above: bool,
    scratch: Scratch | None = None,
) -> InsideWalk:
    """As `inside_walk_ref`, by the kernel where numba is there."""
    kernel = _compiled("inside")
    if kernel is None:
        return inside_walk_ref(trie, states, start_nodes, start_states, is_above)
    ends = trie.skip[start_nodes]
    num_nodes = int((ends - start_nodes).sum())  # more than `trie` has where starts are nested
    num_tokens = int((trie.first[ends] - trie.first[start_nodes]).sum())
    if scratch is None or num_nodes > trie.num_nodes or num_tokens > len(trie.token_ids):
        scratch = Scratch.of(num_nodes, num_tokens)
    starts = start_nodes, start_states, int(is_above)
    counts = kernel(*trie, *states, *starts, *scratch)
    return InsideWalk(
        scratch.found[: counts[0]].copy(),
        *scratch.exits[: counts[1]].T.copy(),
        *scratch.missing[: counts[2]].T.copy(),
    )


class CharScratch(NamedTuple):
    """Room for the results of a walk by characters."""

    found: np.ndarray  # [tokens] int32
    ends: np.ndarray  # [nodes, 2] int32
    missing: np.ndarray  # [nodes, 3] int32

    @classmethod
    def of(cls, num_nodes: int, num_tokens: int) -> "CharScratch":
        """Large enough for so many trie nodes and tokens."""
        shapes = (num_tokens, (num_nodes, 2), (num_nodes, 3))
        return cls(*(np.empty(shape, np.int32) for shape in shapes))


def char_walk(
    trie: Trie,
    states: CharStates,
    starts: np.ndarray,
    *,
    ends_anywhere: bool,
    scratch: CharScratch | None = None,
) -> CharWalk:
    """As `char_walk_ref`, by the kernel where numba is there."""
    kernel = _compiled("chars")
    if kernel is None:
        return char_walk_ref(trie, states, starts, ends_anywhere=ends_anywhere)
    tops = starts[:, 0]
    ends = trie.skip[tops]
    num_nodes = int((ends - tops).sum())  # more than `trie` has where starts are nested
    num_tokens = int((trie.first[ends] - trie.first[tops]).sum())
    if scratch is None or num_nodes > trie.num_nodes or num_tokens > len(trie.token_ids):
        scratch = CharScratch.of(num_nodes, num_tokens)
    counts = kernel(*trie, *states, starts, int(ends_anywhere), *scratch)
    return CharWalk(*(part[:count].copy() for part, count in zip(scratch, counts, strict=True)))


def set_bits(row: np.ndarray, token_ids: np.ndarray) -> None:
    """As `set_bits_ref`, by the kernel where numba is there."""
    (_compiled("set") or set_bits_ref)(row, token_ids)


def clear_bits(row: np.ndarray, token_ids: np.ndarray) -> None:
    """As `clear_bits_ref`, by the kernel where numba is there."""
    (_compiled("clear") or clear_bits_ref)(row, token_ids)
