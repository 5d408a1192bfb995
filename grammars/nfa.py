"""Thompson's automaton of a regex's tree: characters to move by, guarded empty moves."""

from dataclasses import dataclass
from typing import NamedTuple

from ramify.grammars import regex_tree as syntax
from ramify.grammars.automata import FAR
from ramify.grammars.charsets import ANY, CharSet
from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Budget


@dataclass(frozen=True, slots=True)
class Next:
    """What comes after this point is (not) a character of the set, or the end if `at_end`."""

    charset: CharSet
    at_end: bool
    negated: bool


@dataclass(frozen=True, slots=True)
class Ahead:
    """From here on the text begins (does not begin) with what leads from `entry` to an end."""

    entry: int
    negated: bool


LOOKED, ENDED = -2, -1
Guard = syntax.Edge | syntax.Previous | Next | Ahead


class Hit(NamedTuple):
    """What empty moves reach: a move, an end of a lookahead (`after` LOOKED), the end (ENDED)."""

    classes: int  # bit set of the classes that may come next, END among them
    after: int
    aheads: frozenset[Ahead]


class Nfa:
    """States 0..num_states-1. A state has one move by a character, or empty moves, or neither."""

    def __init__(
        self,
        tree: syntax.Tree,
        budget: Budget,
        *,
        any_before: bool = False,
        any_after: bool = False,
    ) -> None:
        """Of the tree's texts; with any text before them, and after them."""
        self._budget = budget
        self.moves: list[tuple[CharSet, int] | None] = []
        self.edges: list[list[tuple[Guard | None, int]]] = []
        self.look_ends = set[int]()  # where lookaheads have matched
        self.guards = set[Guard]()  # of all empty moves
        self.has_dead_ends = False  # moves by a character that there is not
        self.final = self._new()
        self.rest = self._loop(ANY, self.final) if any_after else None  # reads the rest of a text
        entry = self._build(tree, self.final if self.rest is None else self.rest)
        self.entry = self._loop(ANY, entry) if any_before else entry

    @property
    def has_exact_distances(self) -> bool:
        """Is there a text as short as each of the `distances` says?"""
        return not self.has_dead_ends and all(isinstance(at, syntax.Edge) for at in self.guards)

    def distances(self) -> list[int]:
        """[state] characters to the end on the shortest way, once one was read; FAR if there is
        none. Guards are passed over, but for those of the text's own start and end."""
        empty: list[list[int]] = [[] for _ in self.edges]  # target -> sources
        at_end: list[list[int]] = [[] for _ in self.edges]
        reading: list[list[int]] = [[] for _ in self.edges]
        for state, edges in enumerate(self.edges):
            for guard, target in edges:
                if not isinstance(guard, syntax.Edge):
                    empty[target].append(state)
                elif guard.where == "end":
                    at_end[target].append(state)
            move = self.moves[state]
            if move:
                reading[move[1]].append(state)
        out = [FAR] * len(self.edges)
        ring, count = [self.final], 0
        while ring:
            farther: list[int] = []
            while ring:
                state = ring.pop()
                if out[state] == FAR:
                    out[state] = count
                    ring += empty[state]
                    farther += reading[state]
                    if count == 0:
                        ring += at_end[state]
            ring, count = farther, count + 1
        return out

    # -- building: each _build returns the entry of a piece that goes on to `after`

    def _new(self) -> int:
        if len(self.edges) >= self._budget.limits.regex_nodes:
            raise GrammarError(
                "grammar_too_complex",
                f"regex: more than {self._budget.limits.regex_nodes} states once its repeats are "
                "written out; use smaller repeat counts",
            )
        self._budget.tick()
        self.moves.append(None)
        self.edges.append([])
        return len(self.edges) - 1

    def _char(self, charset: CharSet, after: int) -> int:
        state = self._new()
        self.moves[state] = (charset, after)
        self.has_dead_ends = self.has_dead_ends or not charset
        return state

    def _loop(self, charset: CharSet, after: int) -> int:
        entry = self._new()
        self.edges[entry] += [(None, self._char(charset, entry)), (None, after)]
        return entry

    def _build(self, tree: syntax.Tree, after: int) -> int:
        self._budget.tick()  # empty parts make no states
        match tree:
            case syntax.Char(charset):
                return self._char(charset, after)
            case syntax.Sequence(parts):
                for part in reversed(parts):
                    after = self._build(part, after)
                return after
            case syntax.Choice(options):
                entries = [self._build(option, after) for option in options]
                entry = self._new()
                self.edges[entry] += [(None, option) for option in entries]
                return entry
            case syntax.Repeat(body, low, high):
                return self._repeat(body, low, high, after)
            case syntax.Look(body, negated):
                guard: Guard = self._lookahead(body, negated)
            case _:
                guard = tree
        entry = self._new()
        self.guards.add(guard)
        self.edges[entry].append((guard, after))
        return entry

    def _lookahead(self, body: syntax.Tree, negated: bool) -> Guard:
        following = syntax.next_chars(body)
        if following is not None:
            return Next(*following, negated)
        end = self._new()
        self.look_ends.add(end)
        return Ahead(self._build(body, end), negated)

    def _repeat(self, body: syntax.Tree, low: int, high: int | None, after: int) -> int:
        if high is None:
            loop = self._new()
            self.edges[loop] += [(None, self._build(body, loop)), (None, after)]
            entry = loop
        else:
            entry = after
            for _ in range(high - low):
                optional = self._new()
                self.edges[optional] += [(None, self._build(body, entry)), (None, after)]
                entry = optional
        for _ in range(low):
            entry = self._build(body, entry)
        return entry
