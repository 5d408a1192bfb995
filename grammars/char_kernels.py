"""The walk by characters: tokens that an automaton over classes of characters reads, over whole
subtrees of the trie.

A place in it is a state of the automaton and how far the next character has got: a part. Part 0 is
between characters. The class past the last is the quote that closes a text.
"""

from typing import Any, NamedTuple

import numpy as np

from ramify.grammars.vocabulary import Trie

DEAD = 0  # the state that nothing leads on from
NO_PART = -1  # bytes that spell nothing; below it: -2 - part


class CharStates(NamedTuple):
    """What is known of an automaton, and of the spelling of its characters."""

    following: np.ndarray  # [num_states, num_classes] int32: the state after a character
    is_known: np.ndarray  # [num_states] uint8: is the state's row filled?
    accepting: np.ndarray  # [num_states] uint8
    spelled: np.ndarray  # [num_parts, 256] int32: a class; else NO_PART, or -2 - the next part
    is_spelled: np.ndarray  # [num_parts] uint8: is the part's row filled?
    classes: np.ndarray  # [num_parts, num_classes] uint8: may such a character come of it?


class CharWalk(NamedTuple):
    """What a walk found. It leaves out what is below places that are not known yet."""

    token_ids: np.ndarray  # [num_tokens] int32
    ends: np.ndarray  # [num_ends, 2] int32: trie node where a text may end, and the state there
    missing: np.ndarray  # [num_missing, 3] int32: trie node, state and part: walk on below it


def char_walk_ref(
    trie: Trie, states: CharStates, starts: np.ndarray, *, ends_anywhere: bool
) -> CharWalk:
    """Depth first below each start: [num, 3] int32 trie node, state and part, both known.

    A text ends at a quote, or (`ends_anywhere`) after any character, where the state accepts.
    """
    token_ids: list[int] = []
    ends: list[tuple[int, int]] = []
    missing: list[tuple[int, int, int]] = []
    quote = states.following.shape[1]
    for top, state, part in starts.tolist():
        path = [(state, part)]
        above = int(trie.depth[top])
        at, end = top + 1, int(trie.skip[top])
        while at < end:
            del path[trie.depth[at] - above :]
            state, part = path[-1]
            below = int(trie.skip[at])
            what = int(states.spelled[part, trie.byte[at]])
            part = 0 if what >= NO_PART else -2 - what
            if what == quote:
                is_live = bool(states.accepting[state])
            elif what >= 0:
                state = int(states.following[state, what])
                is_live = state != DEAD
            else:
                is_live = bool((states.classes[part] & (states.following[state] != DEAD)).any())
                is_live &= part > 0
            if is_live:
                token_ids += trie.token_ids[trie.first[at] : trie.first[at + 1]].tolist()
                if what == quote or (ends_anywhere and not part and states.accepting[state]):
                    ends.append((at, state))
                if what != quote and below > at + 1:
                    if states.is_known[state] and states.is_spelled[part]:
                        path.append((state, part))
                        at += 1
                        continue
                    missing.append((at, state, part))
            at = below
    return CharWalk(
        np.array(token_ids, np.int32),
        np.array(ends, np.int32).reshape(-1, 2),
        np.array(missing, np.int32).reshape(-1, 3),
    )


def char_loop(
    byte: Any,
    depth: Any,
    skip: Any,
    first: Any,
    token_ids: Any,
    longest: int,
    following: Any,
    is_known: Any,
    accepting: Any,
    spelled: Any,
    is_spelled: Any,
    classes: Any,
    starts: Any,
    ends_anywhere: int,
    found: Any,
    ends: Any,  # [num, 2]
    missing: Any,  # [num, 3]
) -> tuple[int, int, int]:
    """The reference, as numba compiles it: how many tokens, ends and missing it wrote.

    Tokens that no dead node parts are next to one another in `token_ids`: they are copied as runs,
    since whether a node has a token is what a processor cannot foresee.
    """
    states = np.empty(longest + 1, np.int32)  # [depth]
    parts = np.empty(longest + 1, np.int32)
    quote = following.shape[1]
    num_found = num_ends = num_missing = 0
    for index in range(len(starts)):
        top = starts[index, 0]
        states[depth[top]] = starts[index, 1]
        parts[depth[top]] = starts[index, 2]
        at = top + 1
        end = skip[top]
        run = first[at]
        while at < end:
            level = depth[at]
            state = states[level - 1]
            what = spelled[parts[level - 1], byte[at]]
            part = np.int32(0)
            if what == quote:
                is_live = accepting[state] != 0
            elif what >= 0:
                state = following[state, what]
                is_live = state != 0
            else:
                is_live = False
                if what < -1:
                    part = -2 - what
                    for cls in range(quote):
                        if classes[part, cls] and following[state, cls]:
                            is_live = True
                            break
            if is_live:
                if what == quote or (ends_anywhere and part == 0 and accepting[state]):
                    ends[num_ends, 0] = at
                    ends[num_ends, 1] = state
                    num_ends += 1
                if what != quote:
                    if is_known[state] and is_spelled[part]:
                        states[level] = state
                        parts[level] = part
                        at += 1
                        continue
                    if skip[at] > at + 1:
                        missing[num_missing, 0] = at
                        missing[num_missing, 1] = state
                        missing[num_missing, 2] = part
                        num_missing += 1
            run_end = first[at + 1] if is_live else first[at]
            for token in range(run, run_end):
                found[num_found] = token_ids[token]
                num_found += 1
            at = skip[at]
            run = first[at]
        for token in range(run, first[end]):
            found[num_found] = token_ids[token]
            num_found += 1
    return num_found, num_ends, num_missing
