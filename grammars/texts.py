"""Tokens read from a state that reads some of the texts of a trie: members' names, choices."""

from typing import TYPE_CHECKING, NamedTuple

from ramify.grammars.remainder import Remainder
from ramify.grammars.terminals import Key, Selected, Terminal

if TYPE_CHECKING:
    from ramify.grammars.inside import Inside, InsideTables


class TextsTable(NamedTuple):
    """What is left of tokens, read from a node of a trie of texts, with the bit set of the texts
    that each may be of."""

    token_ids: list[tuple[int, int]]  # (texts, token)
    exits: list[tuple[int, int, tuple[int, ...]]]  # (texts, label, trie nodes)


class TextTables:
    """The walks of one lexer along tries of texts, kept."""

    def __init__(self, tables: "InsideTables") -> None:
        self._tables = tables
        self._kept: dict[tuple[int, int, int], TextsTable] = {}  # ids of terminal, remainder

    def inside(self, terminal: Terminal, selected: Selected, remainder: Remainder) -> "Inside":
        """Of one text, byte by byte; of more, those among what is kept for all of the trie's."""
        _, node, texts, _ = selected
        if texts & texts - 1 == 0:
            return self._from_text(terminal, selected, remainder)
        key = (id(terminal), node, id(remainder))  # which lives as long as a state of it
        table = self._kept.get(key)
        if table is None:
            table = self._kept[key] = self._read_texts(terminal, selected, remainder)
        exits: dict[int, list[int]] = {}
        for some, label, nodes in table.exits:
            if some & texts:
                exits.setdefault(label, []).extend(nodes)
        return self._tables.collected(
            [token_id for some, token_id in table.token_ids if some & texts], exits
        )

    def _from_text(self, terminal: Terminal, selected: Selected, remainder: Remainder) -> "Inside":
        trie, node, texts, ends = selected
        index = texts.bit_length() - 1
        token_ids: list[int] = []
        exits: dict[int, list[int]] = {}
        text = trie.texts[index][trie.depth[node] :]
        left = self._past(text, remainder, token_ids)
        if left is not None:
            self._past_text(terminal, ends(index), left, token_ids, exits)
        return self._tables.collected(token_ids, exits)

    def _past(self, text: bytes, remainder: Remainder, token_ids: list[int]) -> Remainder | None:
        """Add the tokens along a text; what is left of those that go on after it."""
        if len(remainder.nodes) > 1:
            left: Remainder | None = remainder
            for byte in text:
                step = left.step(byte) if left is not None else None
                if step is None:
                    return None
                token_ids += step.token_ids
                left = step.rest
            return left
        vocabulary = self._tables.lexer.vocabulary
        children, tokens_at = vocabulary.children, vocabulary.tokens_at
        node = remainder.nodes[0]
        for byte in text:
            child = children(node).get(byte)
            if child is None:
                return None
            token_ids += tokens_at(child)
            node = child
        return self._tables.remainder((node,)) if vocabulary.is_inner(node) else None

    def _past_text(
        self,
        terminal: Terminal,
        key: Key,
        left: Remainder,
        token_ids: list[int],
        exits: dict[int, list[int]],
    ) -> None:
        """Add what may be read after a text's last byte."""
        lexer = self._tables.lexer
        state = lexer.state(terminal, key)
        label = lexer.labels[state]
        if label is not None:
            exits.setdefault(label, []).extend(left.nodes)
        after = self._tables.inside(state, left)
        token_ids += after.token_ids
        for label, rest in after.exits:
            exits.setdefault(label, []).extend(rest.nodes)

    def _read_texts(
        self, terminal: Terminal, selected: Selected, remainder: Remainder
    ) -> TextsTable:
        trie, start, _, ends = selected
        table = TextsTable([], [])
        todo = [(start, remainder)]
        while todo:
            node, left = todo.pop()
            children = trie.next[node]
            for byte in left.common(children):
                child, step = children.get(byte), left.step(byte)
                if child is None or step is None:
                    continue
                below = trie.below[child]
                table.token_ids.extend((below, token_id) for token_id in step.token_ids)
                if step.rest is None:
                    continue
                index = trie.text_at.get(child)
                if index is None:
                    todo.append((child, step.rest))
                    continue
                token_ids: list[int] = []
                exits: dict[int, list[int]] = {}
                self._past_text(terminal, ends(index), step.rest, token_ids, exits)
                table.token_ids.extend((1 << index, token_id) for token_id in token_ids)
                table.exits.extend((1 << index, label, tuple(exits[label])) for label in exits)
        self._tables.spend(len(table.token_ids))
        return table
