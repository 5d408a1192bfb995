"""Tokens in a text of any characters of which so many are left: by a count for each token."""

from typing import TYPE_CHECKING

import numpy as np

from ramify.grammars import kernels
from ramify.grammars.remainder import Remainder
from ramify.grammars.terminals import Shadow

if TYPE_CHECKING:
    from ramify.grammars.inside import Inside, InsideTables

FAR = np.iinfo(np.int16).max  # more characters than any token has


class LengthTable:
    """How many characters tokens add to a text, from one of its states."""

    def __init__(self, tables: "InsideTables", walk: kernels.LengthWalk) -> None:
        vocabulary = tables.lexer.vocabulary
        self.longest = walk.longest
        self.made: dict[tuple[int, int], Inside] = {}  # by (least, most), no larger than matters
        self._tables = tables
        self._num_words = vocabulary.num_words
        self._chars = np.minimum(walk.chars, FAR).astype(np.int16)  # [vocabulary]
        self._closing: dict[int, list[int]] = {}  # tokens that end the text, by its characters
        self._ends: dict[int, list[int]] = {}  # trie nodes where it may end and tokens go on
        for node, count in zip(walk.ends.tolist(), walk.end_chars.tolist(), strict=True):
            self._closing.setdefault(count, []).extend(vocabulary.tokens_at(node))
            if vocabulary.is_inner(node):
                self._ends.setdefault(count, []).append(node)
        tables.num_bytes += self._chars.nbytes

    def limited(self, least: int, most: int) -> "Inside":
        """Of a text that ends after `least` to `most` characters."""
        bits = np.packbits(self._chars <= most, bitorder="little")
        row = np.zeros(self._num_words, np.uint32)
        row.view(np.uint8)[: len(bits)] = bits
        counts = [count for count in self._closing if least <= count <= most]
        closing = [token_id for count in counts for token_id in self._closing[count]]
        kernels.set_bits(row, np.array(closing, np.int32))
        self._tables.keep(row)
        ends = [node for count in counts for node in self._ends.get(count, ())]
        return self._tables.collected([], {0: ends})._replace(row=row)


class LengthTables:
    """Those of one lexer."""

    def __init__(self, tables: "InsideTables") -> None:
        self._tables = tables
        self._made: dict[int, LengthTable] = {}  # by the state without a bound

    def inside(self, shadow: Shadow, remainder: Remainder) -> "Inside | None":
        """By the counts, where all tokens are asked for; None where the bound matters to a part
        of them."""
        assert shadow.lengths is not None
        least, most = shadow.lengths
        tables, lexer = self._tables, self._tables.lexer
        state = lexer.state(shadow.terminal, shadow.key)
        if remainder is not lexer.root:
            is_free = least == 0 and (most is None or most >= remainder.longest)
            return tables.inside(state, remainder) if is_free else None
        table = self._made.get(state)
        if table is None:
            table = self._made[state] = self._make(state, shadow)
        longest = table.longest
        key = (min(least, longest + 1), longest if most is None else min(most, longest))
        found = table.made.get(key)
        if found is None:
            found = table.made[key] = table.limited(*key)
        return found

    def _make(self, state: int, shadow: Shadow) -> LengthTable:
        lexer = self._tables.lexer
        vocabulary = lexer.vocabulary
        body = lexer.next(lexer.start(shadow.terminal), 0x22)
        self._tables.walk_wide(state, lexer.root)  # fills the dense rows
        dense = lexer.dense_of(state), lexer.dense_of(body)
        walk = kernels.length_walk(vocabulary.trie, lexer.dense, *dense, len(vocabulary))
        return LengthTable(self._tables, walk)
