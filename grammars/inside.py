"""Tokens, or what is left of them, read from a lexer state: which stay inside its terminal, and
what is then left of those that run past its end.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from weakref import proxy, ref

import numpy as np

from ramify.grammars import kernels
from ramify.grammars.chars import CharTables
from ramify.grammars.errors import GrammarError
from ramify.grammars.lengths import LengthTables
from ramify.grammars.remainder import Remainder
from ramify.grammars.terminals import Shadow
from ramify.grammars.texts import TextTables

if TYPE_CHECKING:
    from ramify.grammars.lexer import Lexer

SMALL = 150  # trie nodes: what is left of few tokens is always walked step by step
WIDE = 40  # else from a state with more live bytes than this the kernel walks
PLAIN_STEPS = 300  # and where a plain walk would take more steps than this,
NARROW_STEPS = 5000  # or this, in a terminal that has no state with many live bytes
MANY_FAR = 300  # trie nodes past which no shadow is true
MANY_TOKENS = 500  # more tokens than this are kept as a row


class Inside(NamedTuple):
    """What is left of tokens, read from a state on."""

    row: np.ndarray | None  # [num_words] uint32: tokens that stay inside the terminal
    token_ids: Sequence[int]  # or, where they are few, a list of them
    exits: tuple[tuple[int, Remainder], ...]  # (label, what is left) where the terminal may end
    without: np.ndarray | None = None  # [num] int32: tokens of the row that do not
    to_try: tuple[int, ...] = ()  # tokens that only stepping can tell of
    is_exact: bool = True  # else tokens past an end are not all allowed: step them too
    is_last: bool = False  # if not exact: but for those that go on to where texts are kept apart


NOTHING = 0  # the state of no terminal: it reads nothing


class InsideTables:
    """The walks of one lexer, kept."""

    def __init__(self, lexer: "Lexer") -> None:
        # Weak, here and in the parts below: a lexer is freed with the last machine that uses it,
        # not by a garbage collection.
        self._lexer = ref(lexer)
        self._vocabulary = lexer.vocabulary
        self._inside: dict[tuple[int, int], Inside] = {}  # by state, id of the remainder
        self._lengths = LengthTables(proxy(self))
        self._texts = TextTables(proxy(self))
        self._chars = CharTables(proxy(self))
        trie = self._vocabulary.trie
        self._scratch = kernels.Scratch.of(trie.num_nodes, len(trie.token_ids))
        self._remainders: dict[tuple[int, ...], Remainder] = {}  # those of exits: kept for good
        self.steps_left = 0  # of the mask being made; see `spend`
        self.num_bytes = 0  # of rows

    @property
    def lexer(self) -> "Lexer":
        """The lexer."""
        lexer = self._lexer()
        assert lexer is not None, "its tables are only reached through it"
        return lexer

    def spend(self, steps: int) -> None:
        """Count steps (about a microsecond each) of the mask being made."""
        self.steps_left -= steps
        if self.steps_left < 0:
            raise GrammarError(
                "grammar_too_complex",
                "finding the tokens that may come next takes too many steps; make the grammar "
                "less ambiguous, or its regexes smaller",
            )

    def inside(self, state: int, remainder: Remainder) -> Inside:
        """Tokens that stay inside, and what is left of those that do not."""
        key = (state, id(remainder))
        found = self._inside.get(key)
        if found is None:
            found = self._inside[key] = self._find(state, remainder)
        return found

    def _find(self, state: int, remainder: Remainder) -> Inside:
        lexer = self.lexer
        if state == NOTHING:
            return Inside(None, (), ())
        terminal, key = lexer.key(state)
        selected = terminal.selected(key)
        if selected is not None:
            return self._texts.inside(terminal, selected, remainder)
        shadow = terminal.shadow(key)
        found = None if shadow is None else self._from_shadow(state, shadow, remainder)
        if remainder is not lexer.root:
            return found or self._walk(state, remainder)
        if found is None:
            found = terminal.inside(lexer, key) or self._walk(state, remainder)
        special = lexer.special(state)
        return found._replace(token_ids=[*found.token_ids, *special]) if special else found

    # -- walks

    def _walk(self, state: int, remainder: Remainder) -> Inside:
        found = None
        is_small = remainder.num_below <= SMALL
        terminal, key = self.lexer.key(state)
        chars = None if is_small else terminal.chars(key)
        if chars is not None:
            return self._chars.inside(terminal, chars, remainder)
        if is_small or len(self.lexer.moves(state)) <= WIDE:
            found = self._walk_plain(state, remainder)
        return found or self.walk_wide(state, remainder)

    def _walk_plain(self, state: int, remainder: Remainder) -> Inside | None:
        """Step by step; None where that takes long."""
        lexer = self.lexer
        labels = lexer.labels
        token_ids: list[int] = []
        exits: dict[int, list[int]] = {}
        steps = 0
        most = PLAIN_STEPS if lexer.key(state)[0].is_wide else NARROW_STEPS
        todo = [(remainder, state)]
        while todo:
            left, at = todo.pop()
            for byte in left.common(lexer.cheap_moves(at)):
                steps += 1
                step = left.step(byte)
                target = 0 if step is None else lexer.next(at, byte)
                if target:
                    assert step is not None
                    token_ids += step.token_ids
                    if step.rest is not None:
                        label = labels[target]
                        if label is not None:
                            exits.setdefault(label, []).extend(step.rest.nodes)
                        todo.append((step.rest, target))
            if steps > most and remainder.num_below > SMALL:
                return None
        self.spend(2 * steps)
        return self.collected(token_ids, exits)

    def walk_wide(self, state: int, remainder: Remainder) -> Inside:
        """By the kernel; the dense table has all rows that it needed."""
        lexer, trie, scratch = self.lexer, self._vocabulary.trie, self._scratch
        start = lexer.dense_of(state)
        nodes = np.array(remainder.nodes, np.int32)
        states = np.full_like(nodes, start)
        token_ids: list[np.ndarray] = []
        exits: dict[int, list[int]] = {}
        is_above = False
        while len(nodes):
            walk = kernels.inside_walk(trie, lexer.dense, nodes, states, is_above, scratch)
            token_ids.append(walk.token_ids)
            ends = zip(walk.exit_nodes.tolist(), walk.exit_states.tolist(), strict=True)
            for node, dense in ends:
                exits.setdefault(lexer.dense_label(dense), []).append(node)
            nodes, states, is_above = walk.missing_nodes, walk.missing_states, True
            missing = {*states.tolist()}
            self.spend(10 + len(walk.token_ids) // 100 + 20 * len(missing))
            for dense in missing:
                lexer.fill_dense(dense)
        return self.collected(np.concatenate(token_ids), exits)

    def collected(
        self, token_ids: "np.ndarray | list[int]", exits: Mapping[int, list[int]]
    ) -> Inside:
        """Of tokens, and by label the trie nodes where the terminal may end."""
        is_inner = self._vocabulary.is_inner
        kept = []
        for label, nodes in exits.items():
            inner = tuple(sorted({node for node in nodes if is_inner(node)}))
            if inner:
                kept.append((label, self.remainder(inner)))
        return self._of(token_ids, tuple(kept))

    def gathered(self, token_ids: list[int], exits: Sequence[tuple[int, Remainder]]) -> Inside:
        """Of tokens, and (label, what is left) where the terminal may end, perhaps some with the
        same label."""
        if len(exits) > 1:
            rests: dict[int, list[Remainder]] = {}
            for label, rest in exits:
                rests.setdefault(label, []).append(rest)
            exits = [(label, self._merged(parts)) for label, parts in rests.items()]
        return self._of(token_ids, tuple(exits))

    def _merged(self, parts: list[Remainder]) -> Remainder:
        if len(parts) == 1:
            return parts[0]
        return self.remainder(tuple(sorted({node for part in parts for node in part.nodes})))

    def _of(
        self, token_ids: "np.ndarray | list[int]", exits: tuple[tuple[int, Remainder], ...]
    ) -> Inside:
        if len(token_ids) > MANY_TOKENS:
            return Inside(self._row(token_ids), (), exits)
        return Inside(None, _listed(token_ids), exits)

    def made(
        self,
        row: np.ndarray | None,
        token_ids: Sequence[int],
        ends: Sequence[int],
        labels: Sequence[int | None],
    ) -> Inside:
        """Of a row, or a list, and the trie nodes where the terminal may end."""
        exits: dict[int, list[int]] = {}
        for node, label in zip(ends, labels, strict=True):
            assert label is not None
            exits.setdefault(label, []).append(node)
        found = self.collected(list(token_ids), exits)
        if row is None:
            return found
        if row.flags.writeable:  # else it is another's
            self.keep(row)
        return found._replace(row=row)

    def keep(self, row: np.ndarray) -> None:
        """From now on it is not written to."""
        row.flags.writeable = False
        self.num_bytes += row.nbytes

    def _row(self, token_ids: "np.ndarray | list[int]") -> np.ndarray:
        row = np.zeros(self._vocabulary.num_words, np.uint32)
        kernels.set_bits(row, np.asarray(token_ids, np.int32))
        self.keep(row)
        return row

    def remainder(self, nodes: tuple[int, ...]) -> Remainder:
        """What is left of the tokens that pass some trie nodes."""
        found = self._remainders.get(nodes)
        if found is None:
            found = self._remainders[nodes] = Remainder(self._vocabulary, nodes)
        return found

    # -- states that read less than another

    def _from_shadow(self, state: int, shadow: Shadow, remainder: Remainder) -> Inside | None:
        """By the other state's tokens; None where that would not be right."""
        if shadow.reach is not None and shadow.reach < remainder.longest:
            is_all = remainder is self.lexer.root
            return self._within_reach(state, shadow) if is_all else None
        if shadow.lengths is not None:
            return self._lengths.inside(shadow, remainder)
        if shadow.label is not None:
            base = self.inside(self.lexer.state(shadow.terminal, shadow.key), remainder)
            exits = tuple((shadow.label, rest) for _, rest in base.exits)
            return Inside(base.row, base.token_ids, exits, base.without)
        if shadow.texts is None:
            is_all = remainder is self.lexer.root
            return self._captured(state, shadow) if is_all else None
        base = self.inside(self.lexer.state(shadow.terminal, shadow.key), remainder)
        banned = self._ends_below(shadow.texts, shadow.node, remainder)
        return self._less(base, banned) if banned else base

    def _within_reach(self, state: int, shadow: Shadow) -> Inside | None:
        """By the other state's tokens, but for those that are longer than the shadow is true for;
        None where they are many."""
        assert shadow.reach is not None
        far = self._vocabulary.nodes_at(shadow.reach + 1)
        if len(far) > MANY_FAR:
            return None
        self.spend(2 * len(far))
        bound = self.lexer.state(shadow.terminal, shadow.key)
        base = self._less(self.inside(bound, self.lexer.root), far)
        token_ids = list(base.token_ids)
        exits = {label: list(rest.nodes) for label, rest in base.exits}
        for node in far:
            self._add_far(state, node, token_ids, exits)
        added = self.collected([], exits)
        return base._replace(token_ids=token_ids, exits=added.exits)

    def _add_far(
        self, state: int, node: int, token_ids: list[int], exits: dict[int, list[int]]
    ) -> None:
        """Add the tokens that pass a trie node, and where the terminal may end at or below it."""
        lexer, vocabulary = self.lexer, self._vocabulary
        for byte in vocabulary.path(node):
            state = lexer.next(state, byte)
            if state == NOTHING:
                return
        todo = [(node, state)]
        while todo:
            node, state = todo.pop()
            token_ids += vocabulary.tokens_at(node)
            label = lexer.labels[state]
            if label is not None:
                exits.setdefault(label, []).append(node)
            for byte, child in vocabulary.children(node).items():
                target = lexer.next(state, byte)
                if target != NOTHING:
                    todo.append((child, target))

    def _less(self, base: Inside, banned: list[int]) -> Inside:
        """Without the tokens that pass, or end at, some trie nodes."""
        gone = {token_id for node in banned for token_id in self._tokens_below(node)}
        return Inside(
            base.row,
            [at for at in base.token_ids if at not in gone],
            tuple((label, rest) for label, rest in self._not_below(base.exits, banned) if rest),
            self._without(base, gone),
        )

    def _not_below(
        self, exits: tuple[tuple[int, Remainder], ...], banned: list[int]
    ) -> "Iterator[tuple[int, Remainder | None]]":
        skips = self._vocabulary.skips
        for label, rest in exits:
            nodes = rest.nodes  # sorted: those below a node are a slice
            for node in banned:
                low, high = bisect_left(nodes, node), bisect_left(nodes, skips[node])
                nodes = nodes[:low] + nodes[high:] if low < high else nodes
            yield label, self.remainder(nodes) if nodes else None

    def _captured(self, state: int, shadow: Shadow) -> Inside:
        """As the base; but tokens near a seen text, and those past an end, have to be tried."""
        lexer = self.lexer
        base = self.inside(lexer.state(shadow.terminal, shadow.key), lexer.root)
        terminal, _ = lexer.key(state)
        near = set[int]()
        for text in shadow.near:
            nodes = self._along(text)
            near.update(token for node in nodes for token in self._vocabulary.tokens_at(node))
            if len(nodes) == len(text):
                near.update(self._tokens_below(nodes[-1] if nodes else 0))
        return Inside(
            base.row,
            [token_id for token_id in base.token_ids if token_id not in near],
            tuple((terminal.unknown_label(label), rest) for label, rest in base.exits),
            self._without(base, near),
            to_try=tuple(near),
            is_exact=False,
            is_last=shadow.is_last,
        )

    def _without(self, base: Inside, token_ids: "set[int]") -> np.ndarray | None:
        """Of a row that is shared: what is not of it."""
        if base.row is None or not token_ids:
            return base.without
        gone = np.fromiter(token_ids, np.int32, len(token_ids))
        return gone if base.without is None else np.concatenate([base.without, gone])

    def _tokens_below(self, node: int) -> list[int]:
        vocabulary = self._vocabulary
        return vocabulary.tokens_in(node, vocabulary.skips[node])

    def _along(self, text: bytes) -> list[int]:
        """Trie nodes on the way of a text."""
        found: list[int] = []
        node: int | None = 0
        for byte in text:
            node = self._vocabulary.children(node or 0).get(byte)
            if node is None:
                break
            found.append(node)
        return found

    def _ends_below(
        self, texts: Sequence[Mapping[int, int]], start: int, remainder: Remainder
    ) -> list[int]:
        """Trie nodes that spell a text, from a node of it to a leaf."""
        found: list[int] = []
        children_of = self._vocabulary.children
        todo = [(start, node) for node in remainder.nodes]
        while todo:
            at, node = todo.pop()
            following, children = texts[at], children_of(node)
            for byte in following if len(following) <= len(children) else children:
                target, child = following.get(byte), children.get(byte)
                if target is None or child is None:
                    continue
                if texts[target]:
                    todo.append((target, child))
                else:
                    found.append(child)
        return found


def _listed(token_ids: "np.ndarray | list[int]") -> list[int]:
    return token_ids if isinstance(token_ids, list) else token_ids.tolist()
