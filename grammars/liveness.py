"""Which states of a regex's automaton can still reach its end."""

from collections.abc import Callable, Iterable, Mapping

from ramify.grammars import regex_tree as syntax
from ramify.grammars.nfa import ENDED, LOOKED, Ahead, Hit, Next, Nfa

_START, _END = syntax.Edge("start"), syntax.Edge("end")


def live_classes(
    nfa: Nfa, hits: Callable[[Iterable[int], int], Iterable[Hit]], group_bits: list[int]
) -> list[int]:
    """[state] bit set of the classes that may be read to arrive there, if the text is to be
    finished. Lookaheads of more than one character count as met.

    `hits(states, group)` is what empty moves reach after a class of the group; `group_bits` are the
    classes of each group.
    """
    every = sum(group_bits)
    if not nfa.guards and not nfa.has_dead_ends:
        return [every] * len(nfa.moves)
    optimistic = _reaching(nfa, free=False)
    live = [every if state in optimistic else 0 for state in range(len(nfa.moves))]
    in_doubt = optimistic - _reaching(nfa, free=True)
    states = dict.fromkeys(move[1] for move in nfa.moves if move and move[1] in in_doubt)
    for state in states:
        live[state] = 0
    users: dict[int, list[tuple[int, int, int]]] = {}  # state -> (user, group, classes)
    todo: list[tuple[int, int]] = []
    for state in states:
        for group in range(len(group_bits)):
            for classes, after, _ in hits((state,), group):
                end = every + 1  # its bit
                if after == LOOKED or classes & (end if after == ENDED else live[after]):
                    todo.append((state, group))
                elif after != ENDED:
                    users.setdefault(after, []).append((state, group, classes))
    while todo:
        state, group = todo.pop()
        bits = group_bits[group]
        if bits & ~live[state]:
            live[state] |= bits
            todo += [(user, at) for user, at, classes in users.get(state, ()) if classes & bits]
    return live


def _reaching(nfa: Nfa, *, free: bool) -> set[int]:
    """States from which an end is reached by empty moves and characters, but never past the
    start of the text, and past its end by empty moves only. `free`: without looking around."""
    passable = (syntax.Edge,) if free else (syntax.Edge, syntax.Previous, Next, Ahead)
    empty: dict[int, list[int]] = {}  # target -> sources
    at_end: dict[int, list[int]] = {}
    reading: dict[int, list[int]] = {}
    for state, edges in enumerate(nfa.edges):
        for guard, target in edges:
            if guard == _END:
                at_end.setdefault(target, []).append(state)
            elif guard is None or (guard != _START and isinstance(guard, passable)):
                empty.setdefault(target, []).append(state)
        move = nfa.moves[state]
        if move and move[0]:
            reading.setdefault(move[1], []).append(state)
    ended = _closure((nfa.final, *nfa.look_ends), empty, at_end)
    return _closure(ended, empty, reading)


def _closure(first: Iterable[int], *sources: Mapping[int, list[int]]) -> set[int]:
    found = set(first)
    todo = [*found]
    while todo:
        state = todo.pop()
        for each in sources:
            for source in each.get(state, ()):
                if source not in found:
                    found.add(source)
                    todo.append(source)
    return found
