"""A compiled grammar, and a request's place in it."""

from functools import cached_property
from typing import Final

import numpy as np

from ramify.grammars.errors import GrammarError, Relaxed
from ramify.grammars.kernels import set_bits
from ramify.grammars.lexer import Lexer
from ramify.grammars.limits import Limits
from ramify.grammars.machine import DEAD, Machine, Node
from ramify.grammars.tight import Tight
from ramify.grammars.vocabulary import Vocabulary
from ramify.grammars.ways import NEVER

MIN_STEPS = 150_000  # to find how short a text of a grammar can be
_FINISHED: Final = -1  # the state after an end-of-sequence token


class TokenGrammar:
    """A grammar over a vocabulary. Its tables grow with use and are shared by all its matchers."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        root: Node,
        limits: Limits,
        relaxed: tuple[Relaxed, ...] = (),
    ) -> None:
        self.vocabulary = vocabulary
        self.relaxed = relaxed  # what of the spec is not enforced
        self._root = root
        self._limits = limits
        self._tight: Tight | None = None

    @cached_property
    def min_tokens(self) -> int | None:
        """Tokens that certainly suffice for a whole text; None: no such number was found.

        It takes a while, but uses tables of its own: on any thread, once at a time.
        """
        tight = Tight(Machine(Lexer(self.vocabulary), self._root, self._limits))
        try:
            count = tight.count(tight.machine.start, MIN_STEPS)
        except GrammarError:  # too much to look at
            count = NEVER
        return count if count < NEVER else None

    @property
    def num_bytes(self) -> int:
        """What its tables hold now, about; they grow with use."""
        return 0 if self._tight is None else self._tight.machine.num_bytes

    def tight(self) -> Tight:
        """For a new matcher: a fresh machine where the tables are past half the limit."""
        tight = self._tight
        if tight is None or tight.machine.num_states > self._limits.machine_states // 2:
            lexer: Lexer = self.vocabulary.tables["lexer"]
            tight = self._tight = Tight(Machine(lexer, self._root, self._limits))
        return tight


class Matcher:
    """Where one sequence is in a grammar: fill a bitmask row, accept the token that was chosen."""

    __slots__ = ("_history", "_machine", "_state", "_tight", "grammar")

    def __init__(self, grammar: TokenGrammar) -> None:
        self.grammar = grammar
        self._tight = grammar.tight()
        self._machine = self._tight.machine
        self._state = self._machine.start
        self._history: list[int] = []  # the state before each accepted token or text

    @property
    def is_complete(self) -> bool:
        """Is the text so far a whole text of the grammar? Then, and only then, it may end."""
        return self._state == _FINISHED or self._machine.is_complete(self._state)

    @property
    def is_finished(self) -> bool:
        """Was an end-of-sequence token accepted?"""
        return self._state == _FINISHED

    @property
    def min_remaining(self) -> int | None:
        """Tokens that are certainly enough to complete the text; fewer may do. None: not known."""
        count = 0 if self._state == _FINISHED else self._tight.count(self._state)
        return count if count < NEVER else None

    def fill(self, row: np.ndarray, remaining: int | None = None) -> None:
        """Write the allowed tokens into a [>= num_words] int32 row: token i is bit i % 32 of word
        i // 32. Once finished, only the end-of-sequence tokens.

        With `remaining` tokens left, this one included, only those after which the text can still
        be completed. If `remaining` is at least `min_remaining` it will be so after each of them;
        if it is less it is not looked at.
        """
        mask = self.mask(remaining)
        row[: len(mask)] = mask
        row[len(mask) :] = 0

    def mask(self, remaining: int | None = None) -> np.ndarray:
        """The row that `fill` writes, [num_words] int32: shared and read-only."""
        if self._state == _FINISHED:
            row = self.grammar.vocabulary.new_row()
            ends = np.array(self.grammar.vocabulary.eos_token_ids, np.int32)
            set_bits(row.view(np.uint32), ends)
            return row
        if remaining is None or self.grammar.min_tokens is None:
            return self._machine.mask(self._state)
        if self._tight.is_ample(self._state, remaining):
            return self._machine.mask(self._state)
        if remaining < self._tight.count(self._state):
            return self._machine.mask(self._state)
        return self._tight.mask(self._state, remaining)

    def accept(self, token_id: int) -> bool:
        """Go on by one token. False, and nothing changed, where it is not allowed."""
        if self._state == _FINISHED:
            return False
        if token_id in self.grammar.vocabulary.eos_token_ids:
            target = _FINISHED if self._machine.is_complete(self._state) else DEAD
        else:
            target = self._machine.step_token(self._state, token_id)
        return self._go(target)

    def accept_text(self, text: bytes) -> bool:
        """Go on by some bytes, as one step for `rollback`. False, and nothing changed, where they
        are not allowed."""
        if self._state == _FINISHED:
            return not text
        return self._go(self._machine.step_text(self._state, text))

    def _go(self, target: int) -> bool:
        if target == DEAD:
            return False
        self._history.append(self._state)
        self._state = target
        return True

    def forced(self) -> bytes:
        """Bytes that must come next, as far as there is no choice; the text is not moved on."""
        return b"" if self._state == _FINISHED else self._machine.forced_text(self._state)

    def rollback(self, count: int) -> None:
        """Undo the last `count` accepted tokens or texts."""
        if not 0 <= count <= len(self._history):
            raise ValueError(f"rollback({count}): {len(self._history)} steps were accepted")
        if count:
            self._state = self._history[-count]
            del self._history[-count:]

    def clone(self) -> "Matcher":
        """A matcher at the same place, independent from here on: for forks."""
        other = Matcher.__new__(Matcher)
        other.grammar = self.grammar
        other._tight = self._tight
        other._machine = self._machine
        other._state = self._state
        other._history = self._history.copy()
        return other
