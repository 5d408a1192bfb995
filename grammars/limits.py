"""What a grammar may cost, and the budget that is checked while it is being built."""

import time
from dataclasses import dataclass

from ramify.grammars.errors import GrammarError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one grammar. Past any of them: `grammar_too_complex`."""

    spec_bytes: int = 4 << 20  # size of the spec's text
    spec_depth: int = 256  # nesting of a schema, groups of a regex
    compile_seconds: float = 2.0
    regex_nodes: int = 20_000  # NFA states of one regex, bounded repeats written out
    explored_states: int = 10_000  # DFA states where a terminal must be explored whole
    cases: int = 512  # disjuncts of one schema once its combinators are multiplied out
    configurations: int = 2048  # places a machine may be in at once: ambiguity
    machine_states: int = 200_000  # interned states of one grammar's machine
    walk_steps: int = 400_000  # trie steps of one mask outside the shared tables


DEFAULT_LIMITS = Limits()


class Budget:
    """Limits with a deadline: asked while building, so that a refusal comes in time."""

    __slots__ = ("_calls", "_deadline", "limits")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._deadline = time.monotonic() + limits.compile_seconds
        self._calls = 0

    def tick(self) -> None:
        """Cheap; looks at the clock once in 256 calls."""
        self._calls += 1
        if self._calls & 255 == 0 and time.monotonic() > self._deadline:
            raise GrammarError(
                "grammar_too_complex",
                f"compiling took more than {self.limits.compile_seconds} s; simplify the grammar "
                "or raise Limits.compile_seconds",
            )
