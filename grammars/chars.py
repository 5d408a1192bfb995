"""Tokens read by an automaton over characters: walks by classes of characters, not by bytes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ramify.grammars import kernels
from ramify.grammars.automata import CharAutomaton, State
from ramify.grammars.char_kernels import DEAD, NO_PART, CharStates
from ramify.grammars.charsets import SpellingNode
from ramify.grammars.remainder import Remainder
from ramify.grammars.terminals import Chars, Terminal

if TYPE_CHECKING:
    from ramify.grammars.inside import Inside, InsideTables

AHEAD = 16  # rows that are filled before they are asked for: a round of the walk costs as much


class _Spelling:
    """How the characters of one alphabet are spelled, part by part as it is asked."""

    def __init__(self, root: SpellingNode, num_classes: int) -> None:
        self._nodes = [root]
        self._numbers = {root: 0}
        self._closes = 0x22 not in root.next  # in JSON a quote is no character
        self.rows = np.empty((16, 256), np.int32)
        self.is_filled = np.zeros(16, np.uint8)
        self.classes = np.zeros((16, num_classes), np.uint8)

    def part(self, node: SpellingNode) -> int:
        """The number of a node."""
        found = self._numbers.get(node)
        if found is None:
            found = self._numbers[node] = len(self._nodes)
            self._nodes.append(node)
            if found == len(self.is_filled):
                self.rows = _doubled(self.rows)
                self.is_filled, self.classes = _doubled(self.is_filled), _doubled(self.classes)
            for cls in range(self.classes.shape[1]):
                self.classes[found, cls] = node.classes >> cls & 1
        return found

    def fill(self, parts: Iterable[int]) -> None:
        """Make known where the bytes of some parts lead."""
        for part in parts:
            if self.is_filled[part]:
                continue
            row = [NO_PART] * 256
            for what, group in self._nodes[part].groups:
                value = -2 - self.part(what) if isinstance(what, SpellingNode) else what
                for byte in group:
                    row[byte] = value
            if part == 0 and self._closes:
                row[0x22] = self.classes.shape[1]
            self.rows[part] = row
            self.is_filled[part] = True


class _Table:
    """An automaton's states by number, and rows of them, as they are asked."""

    def __init__(self, automaton: CharAutomaton, spelling: _Spelling) -> None:
        self.spelling = spelling
        self._automaton = automaton
        self.states: list[State | None] = [None]  # DEAD
        self._numbers: dict[State, int] = {}
        self._following = np.zeros((32, automaton.alphabet.num_classes), np.int32)
        self._is_known = np.zeros(32, np.uint8)
        self._accepting = np.zeros(32, np.uint8)

    @property
    def num_bytes(self) -> int:
        """Of its rows, and those of the spelling."""
        return self._following.nbytes + self.spelling.rows.nbytes

    def number(self, state: State) -> int:
        """The number of a state."""
        found = self._numbers.get(state)
        if found is None:
            found = self._numbers[state] = len(self.states)
            self.states.append(state)
            if found == len(self._is_known):
                self._following = _doubled(self._following)
                self._is_known = _doubled(self._is_known)
                self._accepting = _doubled(self._accepting)
            self._accepting[found] = self._automaton.accepts(state)
        return found

    def fill(self, states: Iterable[int]) -> int:
        """Make known where characters lead from some states, and from a few that come next; how
        many rows that took."""
        is_known = self._is_known
        todo = [state for state in states if not is_known[state]]
        most = len(todo) + AHEAD
        for at in todo:  # which grow
            row = [
                DEAD if target is None else self.number(target)
                for target in self._automaton.row(self.states[at])
            ]
            self._following[at] = row
            self._is_known[at] = True
            if len(todo) < most:
                ahead = {*row}.difference(todo)
                todo += [to for to in ahead if to != DEAD and not self._is_known[to]]
        return len(todo)

    def known(self) -> CharStates:
        """All that is known."""
        spelling = self.spelling
        automaton = self._following, self._is_known, self._accepting
        return CharStates(*automaton, spelling.rows, spelling.is_filled, spelling.classes)


class CharTables:
    """The walks by characters of one lexer."""

    def __init__(self, tables: "InsideTables") -> None:
        self._tables = tables
        self._spellings: dict[SpellingNode, _Spelling] = {}
        self._by_automaton: dict[tuple[CharAutomaton, SpellingNode], _Table] = {}
        trie = tables.lexer.vocabulary.trie
        self._scratch = kernels.CharScratch.of(trie.num_nodes, len(trie.token_ids))

    def inside(self, terminal: Terminal, chars: Chars, remainder: Remainder) -> "Inside":
        """Tokens that stay inside, and what is left of those that do not."""
        table = self._table(chars)
        states, spelling, num_bytes = table.states, table.spelling, table.num_bytes
        start = table.number(chars.state), spelling.part(chars.node)
        missing = np.empty((len(remainder.nodes), 3), np.int32)
        missing[:, 0] = remainder.nodes
        missing[:, 1:] = start
        token_ids: list[np.ndarray] = []
        ends: dict[State, list[int]] = {}
        while len(missing):
            num_rows = table.fill({*missing[:, 1].tolist()})
            spelling.fill({*missing[:, 2].tolist()})
            walk = kernels.char_walk(
                self._tables.lexer.vocabulary.trie,
                table.known(),
                missing,
                ends_anywhere=chars.closed is None,
                scratch=self._scratch,
            )
            token_ids.append(walk.token_ids)
            for node, state in walk.ends.tolist():
                ends.setdefault(states[state], []).append(node)
            self._tables.spend(10 + len(walk.token_ids) // 100 + 20 * num_rows)
            missing = walk.missing
        self._tables.num_bytes += table.num_bytes - num_bytes
        exits: dict[int, list[int]] = {}
        for state, nodes in ends.items():
            if chars.closed is None:
                exits.setdefault(0, []).extend(nodes)
            else:
                token_ids.append(self._past(terminal, chars.closed(state), nodes, exits))
        found = np.concatenate(token_ids) if len(token_ids) > 1 else token_ids[0]
        return self._tables.collected(found, exits)

    def _past(
        self, terminal: Terminal, key: object, nodes: list[int], exits: dict[int, list[int]]
    ) -> np.ndarray:
        """Tokens that go on past the closing quote, and where they end the terminal."""
        tables = self._tables
        state = tables.lexer.state(terminal, key)
        label = tables.lexer.labels[state]
        if label is not None:
            exits.setdefault(label, []).extend(nodes)
        inner = tuple(node for node in sorted({*nodes}) if tables.lexer.vocabulary.is_inner(node))
        if not inner or tables.lexer.is_final(state):
            return np.empty(0, np.int32)
        after = tables.inside(state, tables.remainder(inner))
        assert after.row is None, "few tokens go on past a quote"
        for label, rest in after.exits:
            exits.setdefault(label, []).extend(rest.nodes)
        return np.array(after.token_ids, np.int32)

    def _table(self, chars: Chars) -> _Table:
        key = (chars.automaton, chars.root)
        table = self._by_automaton.get(key)
        if table is None:
            spelling = self._spellings.get(chars.root)
            if spelling is None:
                num_classes = chars.automaton.alphabet.num_classes
                spelling = self._spellings[chars.root] = _Spelling(chars.root, num_classes)
            table = self._by_automaton[key] = _Table(chars.automaton, spelling)
            self._tables.num_bytes += table.num_bytes
        return table


def _doubled(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows, np.zeros_like(rows)])
