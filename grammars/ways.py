"""The way from a lexer state to a near end of its terminal: a text, chosen once and kept."""

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from ramify.grammars.inside import NOTHING
from ramify.grammars.lexer import Lexer
from ramify.grammars.vocabulary import Vocabulary

NEVER = 1 << 30  # tokens to close what no closing text was found for
MAX_ENDS = 4  # ends of a terminal that are compared,
FEW_STEPS = 40  # as long as the search for them is this short
MANY_STEPS = 50_000  # to the first end; as many again in vain, and no more is looked for
TOKEN_STEPS = 300  # of the search, token by token, for a text of fewer of them,
ALL_TOKEN_STEPS = 6_000  # and of all such searches
APART_COST = 4  # steps for a move where texts are kept apart
TOKEN_COST = 256  # texts of fewer tokens are better, then shorter ones

SPECIAL = 256  # in a text, on top of a special token's id; what is below is a byte

Symbols = tuple[int, ...]  # a text: bytes and special tokens
_Move = tuple[int, int, int]  # from a state, by a symbol, to a state


class Tail(NamedTuple):
    """The beginning of a text, as far as one token may reach into it."""

    text: Symbols
    counts: tuple[int, ...]  # [len(text) + 1]: fewest tokens from each byte on, and past the last


END = Tail((), (0,))


def before(vocabulary: Vocabulary, text: Symbols, tail: Tail) -> Tail:
    """A tail with a text before it."""
    if not text:
        return tail
    children, tokens_at = vocabulary.children, vocabulary.tokens_at
    whole = text + tail.text
    counts = [NEVER] * len(text) + list(tail.counts)
    for at in range(len(text) - 1, -1, -1):
        best = counts[at + 1] if whole[at] >= SPECIAL else NEVER
        node: int | None = 0
        for end in range(at, len(whole)):
            node = children(node or 0).get(whole[end])
            if node is None:
                break
            if counts[end + 1] < best and tokens_at(node):
                best = counts[end + 1]
        counts[at] = min(best + 1, NEVER)
    longest = vocabulary.trie.longest
    return Tail(whole[:longest], tuple(counts[: longest + 1]))


class Steps:
    """What searches may take, counted alike on any machine under any load: a step is about five
    microseconds. Once they took too many, nothing new is found any more."""

    def __init__(self) -> None:
        self._left = 0
        self.has_given_up = False

    def allow(self, steps: int) -> None:
        """From now on."""
        self._left = steps

    def spend(self, steps: int) -> bool:
        """May the search go on?"""
        self._left -= steps
        self.has_given_up |= self._left < 0
        return not self.has_given_up


class Ways:
    """Of the terminals of one lexer."""

    def __init__(self, lexer: Lexer, steps: Steps) -> None:
        self._lexer = lexer
        self._vocabulary = lexer.vocabulary
        self._steps = steps
        self._known: dict[int, tuple[int, int]] = {}  # lexer state -> (symbol, next state)
        self._lengths: dict[int, int] = {}  # symbols from states of known ways
        self._in_vain = 0  # steps of searches that found no end
        self._by_token = 0  # steps of searches token by token

    def way(self, lexed: int) -> tuple[Symbols, int]:
        """The text to a near end, and the state there; a state with no label if none was found."""
        labels, known = self._lexer.labels, self._known
        lexed = self._chosen(lexed)
        out: list[int] = []
        while labels[lexed] is None and lexed in known:
            symbol, lexed = known[lexed]
            out.append(symbol)
        return tuple(out), lexed

    def length(self, lexed: int) -> int:
        """Symbols of the way; to ask along one long way takes no square of steps."""
        labels, known, lengths = self._lexer.labels, self._known, self._lengths
        lexed = self._chosen(lexed)
        path: list[int] = []
        while lexed not in lengths and labels[lexed] is None and lexed in known:
            path.append(lexed)
            lexed = known[lexed][1]
        length = lengths.get(lexed, 0)
        for state in reversed(path):
            length += 1
            lengths[state] = length
        return length

    def _chosen(self, lexed: int) -> int:
        """The state to go from, its way found if there is one."""
        terminal, key = self._lexer.key(self.alike(lexed))
        soonest = terminal.soonest(key)
        lexed = self._lexer.state(terminal, soonest)
        is_open = self._lexer.labels[lexed] is None and lexed not in self._known
        if is_open and not self._follow_shadow(lexed):
            self._find_way(lexed, is_start=soonest == terminal.start)
        return lexed

    def alike(self, lexed: int) -> int:
        """A state with the same way to an end: of a text that is long enough, one of any length."""
        shadow = self._lexer.shadow(lexed)
        if shadow is None or shadow.lengths is None or shadow.lengths[0]:
            return lexed
        return self._lexer.state(shadow.terminal, shadow.key)

    def inner(self, lexed: int) -> int | None:
        """Of a terminal that keeps its texts apart: the state of the one that does not."""
        shadow = self._lexer.shadow(lexed)
        if shadow is None or shadow.lengths or shadow.texts is not None or shadow.label is not None:
            return None
        return self._lexer.state(shadow.terminal, shadow.key)

    def moves(self, state: int) -> list[tuple[int, int]]:
        """(symbol, target): one byte, the most usual, for each target; and special tokens."""
        best: dict[object, int] = {}
        inner = self.inner(state)
        for byte, key in self._lexer.moves(state if inner is None else inner).items():
            other = best.get(key)
            if other is None or _RANK[byte] < _RANK[other]:
                best[key] = byte
        special = [(SPECIAL + token, to) for token, to in self._lexer.special(state).items()]
        targets = [(byte, self._lexer.next(state, byte)) for byte in best.values()]
        return [(byte, target) for byte, target in targets if target != NOTHING] + special

    def cost(self, text: Symbols) -> int:
        """Of a text on its own."""
        self._steps.spend(len(text))
        return before(self._vocabulary, text, END).counts[0] * TOKEN_COST + len(text)

    def _follow_shadow(self, start: int) -> bool:
        """Go the way of the state that reads almost the same, if it is allowed here."""
        shadow = self._lexer.shadow(start)
        if shadow is None:
            return False
        path = [start]
        text, _ = self.way(self._lexer.state(shadow.terminal, shadow.key))
        for symbol in text:
            path.append(self._lexer.next(path[-1], symbol))
        if self._lexer.labels[path[-1]] is None:
            return False
        for at, symbol in enumerate(text):
            self._known.setdefault(path[at], (symbol, path[at + 1]))
        return True

    def _find_way(self, start: int, *, is_start: bool) -> None:
        best: list[_Move] | None = None
        cost = 0
        for path in self._near_ends(start):
            found = self.cost(_text(path) + self.way(path[-1][2])[0])
            if best is None or found < cost:
                best, cost = path, found
        if best is None:
            return
        if is_start and cost >= 2 * TOKEN_COST:
            fewer = self._by_tokens(start, cost // TOKEN_COST - 1)
            best = best if fewer is None else fewer
        for state, symbol, target in best:
            self._known[state] = (symbol, target)

    def _near_ends(self, start: int) -> list[list[_Move]]:
        """Ways byte by byte: to ends, or to states whose way is known."""
        labels = self._lexer.labels
        came: dict[int, _Move | None] = {start: None}
        todo = [(0, 0, 0, start)]  # heap: nearest to an end first; then what was read so far
        ends: list[int] = []
        detours: list[int] = []
        steps = 0
        most = MANY_STEPS - self._in_vain
        each = 1 if self.inner(start) is None else APART_COST
        while todo and len(ends) < MAX_ENDS and steps < (FEW_STEPS if ends else most):
            _, _, depth, state = heapq.heappop(todo)
            moves = self.moves(state)
            steps += len(moves)
            if not self._steps.spend(each * len(moves)):
                break
            for symbol, target in moves:
                if target in came:
                    continue
                came[target] = (state, symbol, target)
                if labels[target] is not None and self._is_detour(target):
                    detours.append(target)
                elif labels[target] is not None or target in self._known:
                    ends.append(target)
                else:
                    left = self._distance(target)
                    heapq.heappush(todo, (depth + 1 + left, left, depth + 1, target))
        if not ends and not detours:
            self._in_vain += steps
        return [_path(came, end) for end in ends or detours]

    def _by_tokens(self, start: int, most: int) -> list[_Move] | None:
        """A way that so many tokens can write, if one is found soon: of the fewest first."""
        lexer, vocabulary = self._lexer, self._vocabulary
        came: dict[tuple[int, int], tuple[tuple[int, int], _Move]] = {}
        todo = [(1, 0, start, 0)]  # heap: tokens begun, minus bytes read, state, node of the trie
        left = min(TOKEN_STEPS, ALL_TOKEN_STEPS - self._by_token)
        while todo and left > 0:
            num_tokens, depth, state, node = heapq.heappop(todo)
            children, inner = vocabulary.children(node), self.inner(state)
            moves = lexer.moves(state if inner is None else inner)
            common = [byte for byte in sorted(children, key=_RANK.__getitem__) if byte in moves]
            spent = 1 + len(common)
            left -= spent
            self._by_token += spent
            if not self._steps.spend(spent):
                return None
            for byte in common:
                child, target = children[byte], lexer.next(state, byte)
                place = (target, child)
                if target == NOTHING or place in came or target in self._known:
                    continue
                came[place] = ((state, node), (state, byte, target))
                if vocabulary.tokens_at(child):
                    path = _simple_path(came, place, start)
                    if path is None:
                        continue
                    if lexer.labels[target] is not None:
                        if not self._is_detour(target):
                            return path
                    elif num_tokens < most and (target, 0) not in came:
                        came[target, 0] = came[place]
                        heapq.heappush(todo, (num_tokens + 1, depth - 1, target, 0))
                if vocabulary.is_inner(child) and lexer.labels[target] is None:
                    heapq.heappush(todo, (num_tokens, depth - 1, target, child))
        return None

    def _distance(self, state: int) -> int:
        terminal, key = self._lexer.key(state)
        return terminal.distance(key)

    def _is_detour(self, state: int) -> bool:
        terminal, key = self._lexer.key(state)
        return terminal.is_detour(key)


def _text(path: Sequence[_Move]) -> Symbols:
    return tuple(symbol for _, symbol, _ in path)


def _path(came: dict[int, _Move | None], end: int) -> list[_Move]:
    out = []
    move = came[end]
    while move is not None:
        out.append(move)
        move = came[move[0]]
    return out[::-1]


def _simple_path(
    came: dict[tuple[int, int], tuple[tuple[int, int], _Move]], end: tuple[int, int], start: int
) -> list[_Move] | None:
    """None where it comes through a state twice: each has one way on."""
    out: list[_Move] = []
    at, seen = end, {end[0]}
    while at != (start, 0):
        at, move = came[at]
        out.append(move)
        if move[0] in seen:
            return None
        seen.add(move[0])
    return out[::-1]


def _rank(byte: int) -> tuple[bool, ...]:
    """Letters first, then what can be printed."""
    char = chr(byte)
    return (not char.islower(), not char.isalnum(), not char.isprintable(), not char.isascii())


_RANK = [0] * 256
for _place, _byte in enumerate(sorted(range(256), key=_rank)):
    _RANK[_byte] = _place
