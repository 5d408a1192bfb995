"""Tokens read from a state that reads some of the texts of a trie: members' names, choices."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ramify.grammars.remainder import Remainder
from ramify.grammars.terminals import Key, Selected, Terminal

if TYPE_CHECKING:
    from ramify.grammars.inside import Inside, InsideTables


class TextsTable(NamedTuple):
    """What is left of tokens, read from a node of a trie of texts, with the bit set of the texts
    that each may be of."""

    token_ids: list[tuple[int, Sequence[int]]]  # (texts, tokens)
    exits: list[tuple[int, int, Remainder]]  # (texts, label, what is left)


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
        token_ids: list[int] = []
        for some, of_some in table.token_ids:
            if some & texts:
                token_ids += of_some
        exits = [(label, rest) for some, label, rest in table.exits if some & texts]
        return self._tables.gathered(token_ids, exits)

    def _from_text(self, terminal: Terminal, selected: Selected, remainder: Remainder) -> "Inside":
        trie, node, texts, ends = selected
        index = texts.bit_length() - 1
        token_ids: list[int] = []
        text = trie.texts[index][trie.depth[node] :]
        left = self._past(text, remainder, token_ids)
        if left is None:
            return self._tables.gathered(token_ids, ())
        more, exits = self._past_text(terminal, ends(index), left)
        token_ids += more
        return self._tables.gathered(token_ids, exits)

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
        self, terminal: Terminal, key: Key, left: Remainder
    ) -> tuple[Sequence[int], list[tuple[int, Remainder]]]:
        """Tokens that may be read after a text's last byte; (label, what is left) of those that
        go on."""
        lexer = self._tables.lexer
        shadow = terminal.shadow(key)
        if shadow is not None and shadow.label is not None:  # one state for all texts
            after = self._tables.inside(lexer.state(shadow.terminal, shadow.key), left)
            exits = [(shadow.label, rest) for _, rest in after.exits]
        else:
            after = self._tables.inside(lexer.state(terminal, key), left)
            exits = [*after.exits]
        assert after.row is None, "blanks, and little else"
        label = terminal.label(key)
        return after.token_ids, exits if label is None else [(label, left), *exits]

    def _read_texts(
        self, terminal: Terminal, selected: Selected, remainder: Remainder
    ) -> TextsTable:
        trie, start, _, ends = selected
        following, text_at, texts_below = trie.next, trie.text_at, trie.below
        table = TextsTable([], [])
        todo = [(start, remainder)]
        num_tokens = 0
        while todo:
            node, left = todo.pop()
            children = following[node]
            for byte in left.common(children):
                child, step = children.get(byte), left.step(byte)
                if child is None or step is None:
                    continue
                if step.token_ids:
                    table.token_ids.append((texts_below[child], step.token_ids))
                    num_tokens += len(step.token_ids)
                if step.rest is None:
                    continue
                index = text_at.get(child)
                if index is None:
                    todo.append((child, step.rest))
                    continue
                token_ids, exits = self._past_text(terminal, ends(index), step.rest)
                table.token_ids.append((1 << index, token_ids))
                table.exits.extend((1 << index, *end) for end in exits)
                num_tokens += len(token_ids)
        self._tables.spend(num_tokens)
        return table
