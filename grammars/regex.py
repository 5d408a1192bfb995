"""Regular expressions run as sets of threads, deterministic and made state by state.

A thread waits for one of a set of character classes, to go on at an NFA state. What a regex asks of
the neighbouring characters is in the classes that its threads wait for. A longer lookahead becomes
an obligation of the threads that passed it: a set of threads beside them, which must (must not)
reach the lookahead's end.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from threading import Lock

from ramify.grammars import regex_tree as syntax
from ramify.grammars.automata import FAR, CharAutomaton, State, explore
from ramify.grammars.charsets import alphabet_of, contains
from ramify.grammars.limits import Budget
from ramify.grammars.liveness import live_classes
from ramify.grammars.nfa import ENDED, LOOKED, Ahead, Guard, Hit, Next, Nfa

Threads = frozenset[int]
Obligation = tuple[bool, Threads]  # negated; threads of the lookahead
Obligations = frozenset[Obligation]
NONE: Obligations = frozenset()
ACCEPT = 0  # the thread that is at the end of the regex
AT_START = -1  # the group of the start: no character was read
SMALL = 64  # closures of more states are not kept
MAX_ROWS = 1024  # kept of one regex


class Regex:
    """The texts that a tree matches as a whole; or, searching, those in which it matches."""

    def __init__(self, tree: syntax.Tree, budget: Budget, *, search: bool = False) -> None:
        begun = syntax.without_edge(tree, "start")
        tree = begun or tree
        ended = syntax.without_edge(tree, "end")
        self._nfa = nfa = Nfa(
            ended or tree,
            budget,
            any_before=search and begun is None,
            any_after=search and ended is None,
        )
        previous = [guard for guard in nfa.guards if isinstance(guard, syntax.Previous)]
        following = [guard for guard in nfa.guards if isinstance(guard, Next)]
        sets = [move[0] for move in nfa.moves if move]
        sets += [guard.charset for guard in previous] + [guard.charset for guard in following]
        self.alphabet = alphabet_of(frozenset(sets))
        self._every = (1 << self.alphabet.num_classes) - 1
        self._end = self._every + 1  # the bit of the end of the text
        self._bits = [self.alphabet.classes(move[0]) if move else 0 for move in nfa.moves]
        self._next_bits = {guard: self._allowed(guard) for guard in following}
        self._groups = self._group_classes(previous)
        self._group_bits = [
            sum(1 << cls for cls, group in enumerate(self._groups) if group == each)
            for each in range(max(self._groups) + 1)
        ]
        self.looks_ahead = any(isinstance(guard, Ahead) for guard in nfa.guards)
        self._lock = Lock()  # of the numbers of threads
        self._thread_ids: dict[tuple[int, int, Obligations], int] = {(0, ENDED, NONE): ACCEPT}
        self._threads: list[tuple[int, int, Obligations]] = [(0, ENDED, NONE)]
        self._live_classes = live_classes(nfa, self.hits, self._group_bits)
        self._closures: dict[tuple[int, int], Threads | None] = {}
        self._rows: dict[Threads, list[Threads | None]] = {}
        self._all: Threads = frozenset()
        self._universal = -1  # the thread from which every text is matched
        if nfa.rest is not None:
            self._universal = self._thread(self._every, nfa.rest, NONE)
            self._all = frozenset((ACCEPT, self._universal))
        self.start: State | None = self._arrive({NONE: (nfa.entry,)}, AT_START)

    def row(self, state: State) -> Sequence[State | None]:
        """All threads over one character."""
        row = self._rows.get(state)
        if row is None:
            if len(self._rows) >= MAX_ROWS:
                self._rows.clear()
            row = self._rows[state] = self._row(state)
        return row

    def step(self, state: State, cls: int) -> State | None:
        """As the row has it."""
        return self.row(state)[cls]

    def accepts(self, state: State) -> bool:
        """Does a thread reach the end here, its obligations met?"""
        return ACCEPT in state

    def distance(self, state: State) -> int:
        """Of the thread that is nearest to the end, if nothing held it back."""
        if ACCEPT in state:
            return 0
        threads: Threads = state
        return 1 + min(self._distances[self._threads[thread][1]] for thread in threads)

    @cached_property
    def farthest(self) -> int | None:
        """No distance is larger; None where a text may end no sooner than some distances say."""
        if not self._nfa.has_exact_distances:
            return None
        return 1 + max(far for far in self._distances if far < FAR)

    @cached_property
    def _distances(self) -> list[int]:
        return self._nfa.distances()

    # -- classes

    def _allowed(self, guard: Next) -> int:
        inside = self.alphabet.classes(guard.charset) | (self._end if guard.at_end else 0)
        return (self._every | self._end) & ~inside if guard.negated else inside

    def _group_classes(self, guards: list[syntax.Previous]) -> list[int]:
        """Of each class: which group it is in, of those that `Previous` guards tell apart."""
        numbers: dict[tuple[bool, ...], int] = {}
        out: list[int] = []
        for code in self.alphabet.samples:
            inside = tuple(contains(guard.charset, code) for guard in guards)
            out.append(numbers.setdefault(inside, len(numbers)))
        return out

    def _is_past(self, guard: syntax.Previous, group: int) -> bool:
        if group == AT_START:
            return guard.negated
        sample = self.alphabet.samples[self._groups.index(group)]
        return contains(guard.charset, sample) != guard.negated

    # -- empty moves

    def hits(self, states: Iterable[int], group: int) -> set[Hit]:
        """All that empty moves from the states reach; `group` is that of the class just read."""
        out = set[Hit]()
        nfa = self._nfa
        todo = [Hit(self._every | self._end, state, frozenset()) for state in states]
        seen = set(todo)
        while todo:
            classes, state, aheads = todo.pop()
            move = nfa.moves[state]
            if move:
                classes &= self._bits[state]
                if classes:
                    out.add(Hit(classes, move[1], aheads))
            elif state == nfa.final or state in nfa.look_ends:
                out.add(Hit(classes, ENDED if state == nfa.final else LOOKED, aheads))
            for guard, target in nfa.edges[state]:
                hit = Hit(classes, target, aheads)
                if guard is not None:
                    passed = self._pass(guard, hit, group)
                    if passed is None:
                        continue
                    hit = passed
                if hit not in seen:
                    seen.add(hit)
                    todo.append(hit)
        return out

    def _pass(self, guard: Guard, hit: Hit, group: int) -> Hit | None:
        """The hit past a guard; None where it holds the thread back."""
        match guard:
            case syntax.Edge(where):
                if where == "start":
                    return hit if group == AT_START else None
                classes = hit.classes & self._end
            case syntax.Previous():
                return hit if self._is_past(guard, group) else None
            case Ahead():
                return hit._replace(aheads=hit.aheads | {guard})
            case Next():
                classes = hit.classes & self._next_bits[guard]
        return hit._replace(classes=classes) if classes else None

    # -- running

    def _thread(self, classes: int, after: int, obligations: Obligations) -> int:
        key = (classes, after, obligations)
        found = self._thread_ids.get(key)
        if found is None:
            with self._lock:  # grammars that are compiled and used at once share patterns
                found = self._thread_ids.get(key)
                if found is None:
                    found = len(self._threads)
                    self._threads.append(key)  # before others can learn its number
                    self._thread_ids[key] = found
        return found

    def _row(self, state: Threads) -> list[Threads | None]:
        """The states after each class. Threads that wait for the same are taken together."""
        waiting: dict[tuple[int, Obligations], set[int]] = {}
        for thread in state:
            classes, after, obligations = self._threads[thread]
            waiting.setdefault((classes, obligations), set()).add(after)
        same = self._group_bits  # sets of classes over which all threads go the same way
        for classes, obligations in waiting:
            if obligations:
                same = [1 << cls for cls in range(self.alphabet.num_classes)]
                break
            same = [part for each in same for part in (each & classes, each & ~classes) if part]
        row: list[Threads | None] = [None] * self.alphabet.num_classes
        for each in same:
            cls = each.bit_length() - 1
            moving = [key for key in waiting if key[0] >> cls & 1]
            target = self._move(moving, waiting, cls) if moving else None
            while target is not None and each:
                cls = each.bit_length() - 1
                row[cls] = target
                each ^= 1 << cls
        return row

    def _move(
        self,
        moving: Iterable[tuple[int, Obligations]],
        waiting: Mapping[tuple[int, Obligations], set[int]],
        cls: int,
    ) -> Threads | None:
        moved: dict[Obligations, set[int]] = {}
        for key in moving:
            kept = self._step_obligations(key[1], cls) if key[1] else NONE
            if kept is not None:
                moved.setdefault(kept, set()).update(waiting[key])
        return self._arrive(moved, self._groups[cls])

    def _arrive(self, moved: Mapping[Obligations, Iterable[int]], group: int) -> Threads | None:
        """The state after moves to NFA states; None if it is dead."""
        found = set[int]()
        for obligations, states in moved.items():
            if obligations or self.looks_ahead:
                found |= self._obliged(self.hits(states, group), obligations, group)
            else:
                found |= self._close(states, group)
        if self._universal in found:
            return self._all
        return frozenset(found) or None

    def _close(self, states: Iterable[int], group: int) -> set[int]:
        out = set[int]()
        large: list[int] = []
        for state in states:
            key = (state, group)
            if key not in self._closures:
                closure = self._threads_after((state,), group)
                self._closures[key] = closure if len(closure) <= SMALL else None
            found = self._closures[key]
            if found is None:
                large.append(state)
            else:
                out |= found
        return out | self._threads_after(large, group) if large else out

    def _threads_after(self, states: Iterable[int], group: int) -> Threads:
        if self._nfa.guards:
            return self._from_hits(self.hits(states, group))
        nfa = self._nfa
        out = set[int]()
        todo = [*states]
        seen = {*todo}
        for state in todo:  # which grows meanwhile
            move = nfa.moves[state]
            if move:
                kept = self._bits[state] & self._live_classes[move[1]]
                if kept:
                    out.add(self._thread(kept, move[1], NONE))
            elif state == nfa.final:
                out.add(ACCEPT)
            for _, target in nfa.edges[state]:
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        return frozenset(out)

    def _from_hits(self, hits: Iterable[Hit]) -> Threads:
        """Threads without obligations."""
        out = set[int]()
        for classes, after, _ in hits:
            if after == ENDED:
                if classes & self._end:
                    out.add(ACCEPT)
            else:
                kept = classes & self._live_classes[after]
                if kept:
                    out.add(self._thread(kept, after, NONE))
        return frozenset(out)

    # -- obligations

    def _obliged(self, hits: Iterable[Hit], obligations: Obligations, group: int) -> set[int]:
        out = set[int]()
        for classes, after, aheads in hits:
            met = self._start_obligations(aheads, obligations, group)
            if met is None:
                continue
            if after == ENDED:
                if classes & self._end and all(
                    (ACCEPT in threads) != negated for negated, threads in met
                ):
                    out.add(ACCEPT)
            else:
                kept = classes & self._live_classes[after]
                if kept:
                    out.add(self._thread(kept, after, met))
        return out

    def _start_obligations(
        self, aheads: Iterable[Ahead], obligations: Obligations, group: int
    ) -> Obligations | None:
        kept = set(obligations)
        for ahead in aheads:
            if not self._oblige(kept, ahead.negated, (ahead.entry,), group):
                return None
        return frozenset(kept) if kept else NONE

    def _step_obligations(self, obligations: Obligations, cls: int) -> Obligations | None:
        """What is left of lookaheads after a character; None if one has failed."""
        kept = set[Obligation]()
        for negated, threads in obligations:
            moved = [
                self._threads[thread][1]
                for thread in threads
                if self._threads[thread][0] >> cls & 1
            ]
            if not self._oblige(kept, negated, moved, self._groups[cls]):
                return None
        return frozenset(kept) if kept else NONE

    def _oblige(
        self, kept: set[Obligation], negated: bool, states: Iterable[int], group: int
    ) -> bool:
        """Add what is left of a lookahead; False if it has failed."""
        states = [*states]
        if LOOKED in states:
            return not negated
        threads = set[int]()
        for classes, after, _ in self.hits(states, group):
            if after != LOOKED:
                kept_classes = classes & self._live_classes[after]
                if kept_classes:
                    threads.add(self._thread(kept_classes, after, NONE))
                continue
            if classes == self._every | self._end:
                return not negated
            if classes & self._end:
                threads.add(ACCEPT)
            if classes & self._every:
                threads.add(self._thread(classes & self._every, LOOKED, NONE))
        if threads:
            kept.add((negated, frozenset(threads)))
        return bool(threads) or negated


def regex_automaton(
    tree: syntax.Tree, budget: Budget, what: str, *, search: bool = False
) -> CharAutomaton:
    """The automaton of a whole-text match, or of a match anywhere in the text."""
    regex = Regex(tree, budget, search=search)
    if not regex.looks_ahead or regex.start is None:
        return regex
    # only exploring it all tells which of its states can still meet their obligations
    return explore(regex, budget, what).table
