"""What a grammar may cost, and the budget that is checked while it is being built."""

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ramify.grammars.errors import GrammarError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one grammar. Past any of them: `grammar_too_complex`.

    Steps are counted alike on any machine under any load; the clock, the compiling thread's own, is
    the last guard only.
    """

    spec_bytes: int = 4 << 20  # size of the spec's text
    spec_depth: int = 256  # nesting of a schema, groups of a regex
    compile_steps: int = 1_000_000  # of building: a state, an edge, a case ... is about one
    compile_seconds: float = 2.0  # of processor time
    regex_nodes: int = 20_000  # NFA states of one regex, bounded repeats written out
    explored_states: int = 10_000  # DFA states where a terminal must be explored whole
    members: int = 20_000  # names that one object declares: the cost is as their square
    cases: int = 512  # disjuncts of one schema once its combinators are multiplied out
    configurations: int = 2048  # places a machine may be in at once: ambiguity
    machine_states: int = 200_000  # interned states of one grammar's machine
    walk_steps: int = 80_000  # of making one mask: about a microsecond each


DEFAULT_LIMITS = Limits()
_STEPS_PER_LOOK = 256  # at the clock


class Budget:
    """Limits with a deadline: asked while building, so that a refusal comes in time."""

    __slots__ = ("_deadline", "_next_look", "limits", "steps")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.steps = 0
        self._next_look = _STEPS_PER_LOOK
        self._deadline = time.thread_time() + limits.compile_seconds

    def tick(self, steps: int = 1) -> None:
        """Cheap; looks at the limits once in 256 steps."""
        self.steps += steps
        if self.steps >= self._next_look:
            self._look()

    def _look(self) -> None:
        self._next_look = self.steps + _STEPS_PER_LOOK
        if self.steps > self.limits.compile_steps:
            raise GrammarError(
                "grammar_too_complex",
                f"compiling took more than {self.limits.compile_steps} steps; simplify the grammar "
                "or raise Limits.compile_steps",
            )
        if time.thread_time() > self._deadline:
            raise GrammarError(
                "grammar_too_complex",
                f"compiling took more than {self.limits.compile_seconds} s; simplify the grammar "
                "or raise Limits.compile_seconds",
            )


Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


class Remembered(Generic[Key, Made]):
    """What a maker made, by key, the latest used; refusals are not kept.

    A later use is charged the steps that the first one took, so that no verdict depends on what
    was compiled before. Safe on any thread.
    """

    def __init__(self, make: Callable[[Key, Budget], Made], *, most: int, steps: int) -> None:
        self._make = make
        self._most = most  # entries
        self._most_steps = steps  # of all entries together: they are about their memory
        self._steps = 0
        self._kept: dict[tuple[Key, Limits], tuple[Made, int]] = {}
        self._lock = threading.Lock()

    def __call__(self, key: Key, budget: Budget) -> Made:
        """What the maker makes of the key."""
        full_key = (key, budget.limits)
        with self._lock:
            found = self._kept.pop(full_key, None)
            if found is not None:
                self._kept[full_key] = found  # now the latest
        if found is not None:
            budget.tick(found[1])
            return found[0]
        before = budget.steps
        made = self._make(key, budget)
        return self._keep(full_key, made, budget.steps - before)

    def _keep(self, key: tuple[Key, Limits], made: Made, steps: int) -> Made:
        with self._lock:
            if key in self._kept:  # another thread was faster
                return self._kept[key][0]
            self._kept[key] = (made, steps)
            self._steps += steps
            while len(self._kept) > self._most or self._steps > self._most_steps:
                oldest = next(iter(self._kept))
                self._steps -= self._kept.pop(oldest)[1]
        return made
