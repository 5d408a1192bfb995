"""Automata run side by side: what all of some accept and none of others does."""

import heapq
from collections.abc import Sequence
from typing import Any

from ramify.grammars.automata import FAR, CharAutomaton, SideBySide, State
from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Budget, Limits

MAX_ROWS = 1024  # kept of one product
States = tuple[Any, ...]  # of the parts; None: that part has failed


class Product:
    """The texts that every (automaton, True) accepts and no (automaton, False) does.

    Made state by state. Whether a state is live is found by a search for an accepting state that
    goes first where the parts are nearest to their ends; what it finds out is kept.
    """

    def __init__(
        self, parts: Sequence[tuple[CharAutomaton, bool]], budget: Budget, what: str
    ) -> None:
        self._parts = [part for part, _ in parts]
        self._wanted = [wanted for _, wanted in parts]
        self._run = SideBySide(self._parts, self.accepts)
        self.alphabet = self._run.alphabet
        self._limits: Limits = budget.limits
        self._what = what
        self._is_live: dict[States, bool] = {}
        self._made: dict[States, list[States | None]] = {}
        start = tuple(part.start for part in self._parts)
        self.start: State | None = start if self._check(start, budget) else None

    def row(self, state: State) -> Sequence[State | None]:
        """The parts' steps, where they lead to a text."""
        row = self._made.get(state)
        if row is None:
            if len(self._made) >= MAX_ROWS:
                self._made.clear()
            row = self._made[state] = [
                target if target is not None and self._check(target, None) else None
                for target in self._row(state)
            ]
        return row

    def step(self, state: State, cls: int) -> State | None:
        """As the row has it."""
        return self.row(state)[cls]

    def accepts(self, state: State) -> bool:
        """Do all parts say as is wanted?"""
        return all(
            (each is not None and part.accepts(each)) == wanted
            for part, each, wanted in zip(self._parts, state, self._wanted, strict=True)
        )

    def distance(self, state: State) -> int:
        """That of the part that is farthest from its end."""
        return max(
            (
                FAR if each is None else part.distance(each)
                for part, each, wanted in zip(self._parts, state, self._wanted, strict=True)
                if wanted
            ),
            default=0,
        )

    def _row(self, state: States) -> list[States | None]:
        """The parts' states after each class; None where one that is wanted has failed."""
        rows = self._run.rows(state)
        wanted = [row for row, is_wanted in zip(rows, self._wanted, strict=True) if is_wanted]
        return [
            None if any(row[cls] is None for row in wanted) else target
            for cls, target in enumerate(zip(*rows, strict=True))
        ]

    def _check(self, state: States, budget: Budget | None) -> bool:
        """Can a text be finished from here?"""
        found = self._is_live.get(state)
        if found is None:
            found = self._is_live[state] = self._search(state, budget)
        return found

    def _search(self, first: States, budget: Budget | None) -> bool:
        nearest = self.distance(first)
        if nearest >= FAR:
            return False
        came_from: dict[States, States | None] = {first: None}
        todo: list[tuple[int, int, States]] = [(nearest, 0, first)]
        while todo:
            _, _, state = heapq.heappop(todo)
            if self._is_live.get(state) or self.accepts(state):
                at: States | None = state
                while at is not None:
                    self._is_live[at] = True
                    at = came_from[at]
                return True
            if budget is not None:
                budget.tick(self.alphabet.num_classes)
            for target in self._row(state):
                if target is None or target in came_from or self._is_live.get(target) is False:
                    continue
                came_from[target] = state
                far = self.distance(target)
                if far < FAR:
                    heapq.heappush(todo, (far, len(came_from), target))
            if len(came_from) > self._limits.explored_states:
                raise GrammarError(
                    "grammar_too_complex",
                    f"{self._what}: whether its text can be finished takes more than "
                    f"{self._limits.explored_states} automaton states to tell; simplify it",
                )
        for state in came_from:
            self._is_live[state] = False
        return False
