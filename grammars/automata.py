"""Automata over characters: the regex's, word lists, and their boolean combinations.

An automaton steps over the classes of its `alphabet`. Invariant: from every state that `step`
returns an accepting state can be reached; None stands for all the others. So a text that is part
of the way through can always be finished.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Protocol

from ramify.grammars import regex_syntax as syntax
from ramify.grammars.charsets import ANY, Alphabet, CharSet, contains
from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Budget

State = Any  # hashable, opaque to all but the automaton


class CharAutomaton(Protocol):
    """Deterministic, made state by state as it is asked."""

    alphabet: Alphabet
    start: State | None  # None: the empty language

    def step(self, state: State, cls: int) -> State | None:
        """The state after a character of this class."""

    def accepts(self, state: State) -> bool:
        """Is what was read so far in the language?"""


class AnyText:
    """Every text. One alphabet for all uses, so that its spelling is shared."""

    alphabet = Alphabet(())
    start: State | None = 0

    def step(self, state: State, cls: int) -> State | None:
        """Always the one state."""
        return state

    def accepts(self, state: State) -> bool:
        """Always."""
        return True


class Words:
    """A finite list of texts, as a trie."""

    def __init__(self, words: Iterable[str]) -> None:
        words = list(words)
        self.alphabet = Alphabet(((ord(char), ord(char)),) for char in sorted({*"".join(words)}))
        self._next: list[dict[int, int]] = [{}]
        self._final = set[int]()
        self.start: State | None = 0 if words else None
        for word in words:
            node = 0
            for char in word:
                following = self._next[node]
                cls = self.alphabet.class_of(ord(char))
                if cls not in following:
                    following[cls] = len(self._next)
                    self._next.append({})
                node = following[cls]
            self._final.add(node)

    def step(self, state: State, cls: int) -> State | None:
        """Down the trie."""
        return self._next[state].get(cls)

    def accepts(self, state: State) -> bool:
        """Is this the end of a word?"""
        return state in self._final


class Table:
    """An automaton explored whole: states are row numbers, dead ones are gone."""

    def __init__(
        self,
        alphabet: Alphabet,
        rows: list[list[int | None]],
        final: list[bool],
        start: int | None,
        keys: list[Any],
    ) -> None:
        self.alphabet = alphabet
        self.rows = rows  # [state][class] -> state or None
        self.final = final
        self.start: State | None = start
        self.keys = keys  # the state of what was explored, of each row

    def step(self, state: State, cls: int) -> State | None:
        """Look it up."""
        return self.rows[state][cls]

    def accepts(self, state: State) -> bool:
        """Look it up."""
        return self.final[state]


def explore(
    alphabet: Alphabet,
    start: Hashable,
    step: Callable[[Any, int], Any],
    accepts: Callable[[Any], bool],
    budget: Budget,
    what: str,
) -> Table:
    """The reachable part of a deterministic automaton, less the states that cannot accept."""
    number: dict[Hashable, int] = {start: 0}
    keys: list[Hashable] = [start]
    rows: list[list[int | None]] = []
    while len(rows) < len(keys):
        budget.tick()
        row: list[int | None] = []
        for cls in range(alphabet.num_classes):
            target = step(keys[len(rows)], cls)
            if target is not None and target not in number:
                number[target] = len(keys)
                keys.append(target)
            row.append(None if target is None else number[target])
        rows.append(row)
        if len(keys) > budget.limits.explored_states:
            raise GrammarError(
                "grammar_too_complex",
                f"{what}: more than {budget.limits.explored_states} automaton states; simplify it",
            )
    final = [bool(accepts(key)) for key in keys]
    live = _reaching(rows, final)
    for row in rows:
        row[:] = [target if target is not None and live[target] else None for target in row]
    return Table(alphabet, rows, final, 0 if live[0] else None, keys)


def _reaching(rows: Sequence[Sequence[int | None]], final: Sequence[bool]) -> list[bool]:
    sources: list[list[int]] = [[] for _ in rows]
    for index, row in enumerate(rows):
        for target in {*row}:
            if target is not None:
                sources[target].append(index)
    live = list(final)
    todo = [index for index, is_final in enumerate(final) if is_final]
    while todo:
        for source in sources[todo.pop()]:
            if not live[source]:
                live[source] = True
                todo.append(source)
    return live


def combine(parts: Sequence[tuple[CharAutomaton, bool]], budget: Budget, what: str) -> Table:
    """The texts that every (automaton, True) accepts and no (automaton, False) does."""
    wanted_at = [wanted for _, wanted in parts]

    def ends(states: tuple[Any, ...]) -> bool:
        return any(
            state is None and wanted for state, wanted in zip(states, wanted_at, strict=True)
        )

    def accepts(states: tuple[Any, ...]) -> bool:
        return all(
            (state is not None and part.accepts(state)) == wanted
            for (part, wanted), state in zip(parts, states, strict=True)
        )

    return side_by_side([part for part, _ in parts], ends, accepts, budget, what)


def side_by_side(
    parts: Sequence[CharAutomaton],
    ends: Callable[[tuple[Any, ...]], bool],
    accepts: Callable[[tuple[Any, ...]], bool],
    budget: Budget,
    what: str,
) -> Table:
    """The automata run together, explored. A state is theirs (None: that one has failed); texts are
    given up where `ends` says that nothing can be accepted any more."""
    alphabet = Alphabet(charset for part in parts for charset in _class_sets(part.alphabet))
    classes = [[part.alphabet.class_of(code) for code in alphabet.samples] for part in parts]

    def step(states: tuple[Any, ...], cls: int) -> tuple[Any, ...] | None:
        out = tuple(
            None if state is None else part.step(state, mapped[cls])
            for part, mapped, state in zip(parts, classes, states, strict=True)
        )
        return None if ends(out) else out

    start = tuple(part.start for part in parts)
    if ends(start):
        return Table(alphabet, [], [], None, [])
    return explore(alphabet, start, step, accepts, budget, what)


def few_texts(table: Table, limit: int) -> list[str] | None:
    """All texts of a table; None where there are more than `limit`."""
    texts: list[str] = []
    chars = [
        [code for low, high in charset for code in range(low, min(high, low + limit) + 1)]
        for charset in _class_sets(table.alphabet)
    ]
    todo: list[tuple[int, str]] = [] if table.start is None else [(table.start, "")]
    while todo:
        state, text = todo.pop()
        if table.final[state]:
            texts.append(text)
        for cls, target in enumerate(table.rows[state]):
            if target is not None:
                todo += [(target, text + chr(code)) for code in chars[cls]]
        if len(texts) + len(todo) > limit or len(text) > 4 * limit:
            return None
    return sorted(texts)


def _class_sets(alphabet: Alphabet) -> list[CharSet]:
    sets: list[list[tuple[int, int]]] = [[] for _ in range(alphabet.num_classes)]
    for low, high, cls in alphabet.intervals:
        sets[cls].append((low, high))
    return [tuple(charset) for charset in sets]


# A thread of a regex: an NFA state, and the lookaheads still to be decided: (negated, states).
_Obligation = tuple[bool, frozenset[int]]
_Thread = tuple[int, frozenset[_Obligation]]
_NONE: frozenset[_Obligation] = frozenset()
_Guard = syntax.Edge | syntax.Previous | tuple[bool, int]  # the last: a lookahead's start state


class Regex:
    """Thompson's NFA of a tree, run as sets of threads.

    A lookahead becomes an obligation of the thread that passed it: a set of states run beside the
    thread, which must (must not) reach the lookahead's end before the text ends.
    """

    def __init__(self, tree: syntax.Tree, budget: Budget, *, search: bool = False) -> None:
        self._budget = budget
        self._moves: list[tuple[CharSet, int] | None] = []
        self._eps: list[list[tuple[_Guard | None, int]]] = []
        self._lookahead_ends = set[int]()
        self._universal: _Thread | None = None
        self._final = self._new()
        entry = self._final
        if search:
            entry = self._loop(ANY, entry)
            self._universal = (entry + 1, _NONE)
            self._accept_all = frozenset((self._universal, (self._final, _NONE)))
        entry = self._build(tree, entry)
        if search:
            entry = self._loop(ANY, entry)
        self.alphabet = Alphabet(self._charsets())
        self._bits = [self.alphabet.classes(move[0]) if move else 0 for move in self._moves]
        self._live = self._find_live()
        self._rows: dict[frozenset[_Thread], list[frozenset[_Thread] | None]] = {}
        self._accepting: dict[frozenset[_Thread], bool] = {}
        self.start: State | None = self._close([(entry, _NONE)], None) or None

    @property
    def is_guarded(self) -> bool:
        """Does it look around? Then only exploring it all tells which states are live."""
        return any(
            guard is not None and not isinstance(guard, syntax.Edge)
            for edges in self._eps
            for guard, _ in edges
        )

    def step(self, state: State, cls: int) -> State | None:
        """All threads over one character."""
        row = self._rows.get(state)
        if row is None:
            row = self._rows[state] = [
                self._step(state, at) for at in range(self.alphabet.num_classes)
            ]
        return row[cls]

    def accepts(self, state: State) -> bool:
        """Does a thread reach the end here, its obligations met?"""
        found = self._accepting.get(state)
        if found is None:
            found = self._accepting[state] = any(self._ends(thread) for thread in state)
        return found

    # -- building: each _build returns the entry of a piece that goes on to `after`

    def _new(self) -> int:
        if len(self._eps) >= self._budget.limits.regex_nodes:
            raise GrammarError(
                "grammar_too_complex",
                f"regex: more than {self._budget.limits.regex_nodes} states once its repeats are "
                "written out; use smaller repeat counts",
            )
        self._budget.tick()
        self._moves.append(None)
        self._eps.append([])
        return len(self._eps) - 1

    def _char(self, charset: CharSet, after: int) -> int:
        state = self._new()
        self._moves[state] = (charset, after)
        return state

    def _loop(self, charset: CharSet, after: int) -> int:
        entry = self._new()
        self._eps[entry] += [(None, self._char(charset, entry)), (None, after)]
        return entry

    def _build(self, tree: syntax.Tree, after: int) -> int:
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
                self._eps[entry] += [(None, option) for option in entries]
                return entry
            case syntax.Repeat(body, low, high):
                return self._repeat(body, low, high, after)
            case syntax.Look(body, negated):
                end = self._new()
                self._lookahead_ends.add(end)
                guard: _Guard = (negated, self._build(body, end))
            case _:
                guard = tree
        entry = self._new()
        self._eps[entry].append((guard, after))
        return entry

    def _repeat(self, body: syntax.Tree, low: int, high: int | None, after: int) -> int:
        if high is None:
            loop = self._new()
            self._eps[loop] += [(None, self._build(body, loop)), (None, after)]
            entry = loop
        else:
            entry = after
            for _ in range(high - low):
                optional = self._new()
                self._eps[optional] += [(None, self._build(body, entry)), (None, after)]
                entry = optional
        for _ in range(low):
            entry = self._build(body, entry)
        return entry

    def _charsets(self) -> list[CharSet]:
        sets = [move[0] for move in self._moves if move]
        guards = [guard for edges in self._eps for guard, _ in edges]
        return sets + [guard.charset for guard in guards if isinstance(guard, syntax.Previous)]

    def _find_live(self) -> list[bool]:
        """States that reach an end. No start edge is passable once a character was read."""
        sources: list[list[int]] = [[] for _ in self._eps]
        for state, edges in enumerate(self._eps):
            for guard, target in edges:
                if not (isinstance(guard, syntax.Edge) and guard.where == "start"):
                    sources[target].append(state)
            move = self._moves[state]
            if move and move[0]:
                sources[move[1]].append(state)
        live = [False] * len(self._eps)
        todo = [self._final, *self._lookahead_ends]
        while todo:
            state = todo.pop()
            if not live[state]:
                live[state] = True
                todo += sources[state]
        return live

    # -- running

    def _step(self, state: frozenset[_Thread], cls: int) -> frozenset[_Thread] | None:
        moved: list[_Thread] = []
        for at, obligations in state:
            if self._bits[at] >> cls & 1:
                move = self._moves[at]
                assert move is not None
                kept = self._step_obligations(obligations, cls) if obligations else _NONE
                if kept is not None:
                    moved.append((move[1], kept))
        return (self._close(moved, cls) or None) if moved else None

    def _step_obligations(
        self, obligations: frozenset[_Obligation], cls: int
    ) -> frozenset[_Obligation] | None:
        kept = set[_Obligation]()
        for negated, states in obligations:
            moved = [
                move[1] for at in states if self._bits[at] >> cls & 1 and (move := self._moves[at])
            ]
            if not self._oblige(kept, negated, moved, cls):
                return None
        return frozenset(kept)

    def _oblige(
        self, kept: set[_Obligation], negated: bool, states: list[int], cls: int | None
    ) -> bool:
        """Add what is left of a lookahead; False if it has failed."""
        closed = frozenset(at for at, _ in self._close([(at, _NONE) for at in states], cls))
        if closed & self._lookahead_ends:
            return not negated
        if closed:
            kept.add((negated, closed))
        return bool(closed) or negated

    def _close(self, seeds: Iterable[_Thread], cls: int | None) -> frozenset[_Thread]:
        """Threads after all empty moves; `cls` is the class just read, None at the start."""
        found = set(seeds)
        todo = list(found)
        while todo:
            at, obligations = todo.pop()
            for guard, target in self._eps[at]:
                passed = self._pass(guard, obligations, cls)
                if passed is not None and (target, passed) not in found:
                    found.add((target, passed))
                    todo.append((target, passed))
        if self._universal in found:
            return self._accept_all
        return frozenset(thread for thread in found if self._matters(thread[0]))

    def _matters(self, at: int) -> bool:
        move = self._moves[at]
        if move:
            return bool(move[0]) and self._live[move[1]]
        if at == self._final or at in self._lookahead_ends:
            return True
        return any(
            isinstance(guard, syntax.Edge) and guard.where == "end" for guard, _ in self._eps[at]
        )

    def _pass(
        self, guard: _Guard | None, obligations: frozenset[_Obligation], cls: int | None
    ) -> frozenset[_Obligation] | None:
        """The obligations past this guard; None where it holds the thread back."""
        if guard is None:
            return obligations
        if isinstance(guard, syntax.Edge):
            return obligations if guard.where == "start" and cls is None else None
        if isinstance(guard, syntax.Previous):
            inside = cls is not None and contains(guard.charset, self.alphabet.samples[cls])
            return obligations if inside != guard.negated else None
        kept = set(obligations)
        return frozenset(kept) if self._oblige(kept, guard[0], [guard[1]], cls) else None

    def _ends(self, thread: _Thread) -> bool:
        at, obligations = thread
        return self._final in self._past_end([at]) and all(
            bool(self._past_end(states) & self._lookahead_ends) != negated
            for negated, states in obligations
        )

    def _past_end(self, states: Iterable[int]) -> set[int]:
        """States reached by empty moves at the end of the text."""
        found = set(states)
        todo = list(found)
        while todo:
            for guard, target in self._eps[todo.pop()]:
                at_end = guard is None or (isinstance(guard, syntax.Edge) and guard.where == "end")
                if at_end and target not in found:
                    found.add(target)
                    todo.append(target)
        return found


def regex_automaton(
    tree: syntax.Tree, budget: Budget, what: str, *, search: bool = False
) -> CharAutomaton:
    """The automaton of a whole-text match, or of a match anywhere in the text."""
    regex = Regex(tree, budget, search=search)
    if not regex.is_guarded or regex.start is None:
        return regex
    return explore(regex.alphabet, regex.start, regex.step, regex.accepts, budget, what)
