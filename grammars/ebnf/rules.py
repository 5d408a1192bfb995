"""Rules of a grammar as nodes of a machine.

Parts that do not recurse become terminals. The rest is brought into a form that a machine can
enter without going round in circles: no rule is empty, and none begins with itself (Paull's
elimination). Alternatives that begin alike share their beginning.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ramify.grammars import regex_syntax as syntax
from ramify.grammars.charsets import spelling
from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Budget
from ramify.grammars.machine import Machine, Node, Place
from ramify.grammars.regex import regex_automaton
from ramify.grammars.regex_syntax import Char, Choice, Repeat, Sequence
from ramify.grammars.terminals import Key, Terminal, Text

MAX_EXPANSION = 20_000  # symbols of all alternatives, once written out


@dataclass(frozen=True, slots=True)
class Ref:
    """A rule by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Seq:
    """Parts one after the other."""

    parts: "tuple[Item, ...]"


@dataclass(frozen=True, slots=True)
class Alt:
    """Any one of the options."""

    options: "tuple[Item, ...]"


@dataclass(frozen=True, slots=True)
class Many:
    """`low` to `high` times; no end if `high` is None."""

    body: "Item"
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Leaf:
    """Text that matches a regex."""

    tree: syntax.Tree


Item = Ref | Seq | Alt | Many | Leaf
Symbol = Ref | Leaf
Alternative = tuple[Symbol, ...]
Rules = dict[str, list[Alternative]]


class NonEmpty(Terminal):
    """A regex's texts other than the empty one."""

    def __init__(self, inner: Text) -> None:
        self._inner = inner
        self.start: Key = "start"

    def transitions(self, key: Key) -> "Mapping[int, Key]":
        """As the regex's."""
        return self._inner.transitions(self._inner.start if key == "start" else key)

    def move(self, key: Key, byte: int) -> Key | None:
        """As the regex's."""
        return self._inner.move(self._inner.start if key == "start" else key, byte)

    def label(self, key: Key) -> int | None:
        """Not at the start."""
        return None if key == "start" else self._inner.label(key)


class RuleNode:
    """A rule as a trie of symbols; position 0 is its root."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.next: list[list[tuple[Terminal | RuleNode, int]]] = [[]]
        self.is_end = [False]

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """At the start of each alternative."""
        self._go_on(machine, 0, parent, out)

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """After a symbol."""
        assert isinstance(position, int)
        if self.is_end[position]:
            machine.resume(parent, 0, out)
        self._go_on(machine, position, parent, out)

    def close(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """After a symbol: the end, or else any symbol that may follow."""
        assert isinstance(position, int)
        if self.is_end[position]:
            machine.resume(parent, 0, out)
        else:
            self._go_on(machine, position, parent, out)

    def _go_on(self, machine: Machine, position: int, parent: int, out: set[Place]) -> None:
        for symbol, target in self.next[position]:
            # the last symbol hands over to the parent itself: loops do not pile up frames
            frame = machine.frame(self, target, parent) if self.next[target] else parent
            if isinstance(symbol, RuleNode):
                symbol.enter(machine, frame, out)
            else:
                machine.begin(symbol, frame, out)


class EmptyOr:
    """A node, or the empty text."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """Either."""
        machine.resume(parent, 0, out)
        self._node.enter(machine, parent, out)

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """It has no parts."""
        raise AssertionError("no parts")

    close = resume


def build(rules: dict[str, Item], start: str, budget: Budget) -> Node:
    """The node of a grammar's start rule."""
    return _Builder(rules, budget).build(start)


class _Builder:
    def __init__(self, rules: dict[str, Item], budget: Budget) -> None:
        self._bodies = rules
        self._budget = budget
        self._flat: Rules = {}
        self._trees: dict[str, syntax.Tree | None] = {}  # of rules that do not recurse
        self._terminals: dict[syntax.Tree, Text] = {}
        self._made_non_empty: dict[Text, NonEmpty] = {}
        self._recursive = set[str]()
        self._size = 0

    def build(self, start: str) -> Node:
        if start not in self._bodies:
            known = ", ".join(sorted(self._bodies)[:8])
            raise GrammarError(
                "invalid_grammar", f"grammar: there is no rule {start!r} (but {known})"
            )
        self._find_regular()
        self._flatten(start)
        self._check_productive(start)
        is_empty = self._remove_empty(start)
        self._remove_left_recursion()
        nodes = {name: RuleNode(name) for name in self._reachable(start)}
        for name, node in nodes.items():
            for alternative in self._flat[name]:
                self._add(node, alternative, nodes)
        return EmptyOr(nodes[start]) if is_empty else nodes[start]

    # -- regular parts

    def _find_regular(self) -> None:
        """Rules that do not recurse, as trees. Depth first with a stack of its own."""
        state: dict[str, int] = {}  # 1 = open, 2 = done
        recursive = set[str]()
        for first in self._bodies:
            stack = [first]
            while stack:
                name = stack[-1]
                if state.get(name):
                    stack.pop()
                    if state[name] == 1:
                        state[name] = 2
                    continue
                state[name] = 1
                for other in _refs(self._bodies[name]):
                    if other not in self._bodies:
                        raise GrammarError(
                            "invalid_grammar", f"grammar: rule {name!r} uses {other!r}, not defined"
                        )
                    if state.get(other) == 1:
                        recursive.add(other)
                    elif not state.get(other):
                        stack.append(other)
        changed = True
        while changed:  # whatever uses a recursive rule is not regular either
            changed = False
            for name, body in self._bodies.items():
                if name not in recursive and any(other in recursive for other in _refs(body)):
                    recursive.add(name)
                    changed = True
        self._recursive = recursive

    def _tree(self, item: Item) -> syntax.Tree | None:
        """The regex of an item; None where it uses a recursive rule."""
        self._budget.tick()
        match item:
            case Leaf(tree):
                return tree
            case Ref(name):
                if name in self._recursive:
                    return None
                if name not in self._trees:
                    self._trees[name] = self._tree(self._bodies[name])
                return self._trees[name]
            case Many(body, low, high):
                inner = self._tree(body)
                return None if inner is None else Repeat(inner, low, high)
            case Seq(items) | Alt(items):
                trees = [self._tree(part) for part in items]
                kept = tuple(tree for tree in trees if tree is not None)
                if len(kept) < len(trees):
                    return None
                return Sequence(kept) if isinstance(item, Seq) else Choice(kept)

    # -- alternatives of symbols

    def _flatten(self, start: str) -> None:
        self._flat[start] = self._alternatives(self._bodies[start])
        todo = [start]
        seen = {start}
        while todo:
            name = todo.pop()
            if name not in self._flat:  # not one of the helpers
                self._flat[name] = self._alternatives(self._bodies[name])
            for alternative in self._flat[name]:
                for symbol in alternative:
                    if isinstance(symbol, Ref) and symbol.name not in seen:
                        seen.add(symbol.name)
                        todo.append(symbol.name)

    def _alternatives(self, item: Item) -> list[Alternative]:
        tree = self._tree(item)
        if tree is not None:
            return self._leaf(tree)
        match item:
            case Ref():
                return [(item,)]
            case Alt(options):
                return _distinct([way for option in options for way in self._alternatives(option)])
            case Seq(parts):
                out: list[Alternative] = [()]
                for part in _merge_leaves(parts, self):
                    ways = self._alternatives(part)
                    if len(ways) > 1 and len(parts) > 1:
                        ways = [(self._helper(ways),)]
                    out = [before + after for before in out for after in ways]
                return out
            case Many(body, low, high):
                return self._many(body, low, high)
        raise AssertionError(item)

    def _leaf(self, tree: syntax.Tree) -> list[Alternative]:
        """A terminal; beside it the empty alternative where it matches that."""
        terminal = self._terminal(tree)
        ways: list[Alternative] = []
        if terminal is not None:
            if terminal.transitions(terminal.start):
                ways.append((Leaf(tree),))
            if terminal.label(terminal.start) is not None:
                ways.append(())
        return ways

    def _many(self, body: Item, low: int, high: int | None) -> list[Alternative]:
        once = self._helper(self._alternatives(body))
        self._count((low + (high or 0)) or 1)
        if high is None:
            loop = self._new_rule()
            self._flat[loop.name] = [(), (once, loop)]
            return [(once,) * low + (loop,)]
        return [(once,) * num for num in range(low, high + 1)]

    def _helper(self, ways: list[Alternative]) -> Ref:
        if len(ways) == 1 and len(ways[0]) == 1 and isinstance(ways[0][0], Ref):
            return ways[0][0]
        made = self._new_rule()
        self._flat[made.name] = ways
        return made

    def _new_rule(self) -> Ref:
        return Ref(f"({len(self._flat)})")  # no grammar can write such a name

    def _count(self, symbols: int) -> None:
        self._budget.tick()
        self._size += symbols
        if self._size > MAX_EXPANSION:
            raise GrammarError(
                "grammar_too_complex",
                f"grammar: more than {MAX_EXPANSION} symbols once written out; use smaller repeats",
            )

    # -- no dead ends, no empty rules, no left recursion

    def _check_productive(self, start: str) -> None:
        productive = set[str]()
        changed = True
        while changed:
            changed = False
            for name, ways in self._flat.items():
                if name not in productive and any(_all_in(way, productive) for way in ways):
                    productive.add(name)
                    changed = True
        if start not in productive:
            raise GrammarError(
                "invalid_grammar", f"grammar: rule {start!r} can never end: no text is finite"
            )
        for name, ways in self._flat.items():
            self._flat[name] = [way for way in ways if _all_in(way, productive)]

    def _remove_empty(self, start: str) -> bool:
        """Write out alternatives without their empty symbols; may the start be empty?"""
        empty = set[str]()
        changed = True
        while changed:
            changed = False
            for name, ways in self._flat.items():
                if name not in empty and any(
                    all(isinstance(symbol, Ref) and symbol.name in empty for symbol in way)
                    for way in ways
                ):
                    empty.add(name)
                    changed = True
        for name, ways in self._flat.items():
            out: list[Alternative] = []
            for way in ways:
                variants: list[Alternative] = [()]
                for symbol in way:
                    without = variants if isinstance(symbol, Ref) and symbol.name in empty else []
                    variants = [(*before, symbol) for before in variants] + without
                    self._count(len(variants))
                out += variants
            self._flat[name] = _distinct(way for way in out if way and way != (Ref(name),))
        self._drop_hollow()
        return start in empty

    def _drop_hollow(self) -> None:
        """Rules that could only be empty have no alternatives left: take their users out."""
        changed = True
        while changed:
            hollow = {name for name, ways in self._flat.items() if not ways}
            changed = False
            for name, ways in self._flat.items():
                kept = [
                    way
                    for way in ways
                    if not any(isinstance(symbol, Ref) and symbol.name in hollow for symbol in way)
                ]
                if len(kept) < len(ways):
                    self._flat[name] = kept
                    changed = True

    def _remove_left_recursion(self) -> None:
        """Paull: with the rules in order, none begins with an earlier one of its own circle."""
        for circle in self._left_circles():
            for at, name in enumerate(circle):
                for earlier in circle[:at]:
                    self._substitute(name, earlier)
                self._remove_direct(name)

    def _left_circles(self) -> list[list[str]]:
        """Groups of rules that reach one another through first symbols."""
        first = {
            name: {way[0].name for way in ways if isinstance(way[0], Ref)}
            for name, ways in self._flat.items()
        }
        reach: dict[str, set[str]] = {}
        for name in first:
            seen = set[str]()
            todo = list(first[name])
            while todo:
                self._budget.tick()
                other = todo.pop()
                if other not in seen:
                    seen.add(other)
                    todo += first[other]
            reach[name] = seen
        circles: list[list[str]] = []
        done = set[str]()
        for name in first:
            if name in reach[name] and name not in done:
                circle = [other for other in first if other in reach[name] and name in reach[other]]
                done.update(circle)
                circles.append(circle)
        return circles

    def _substitute(self, name: str, earlier: str) -> None:
        out: list[Alternative] = []
        for way in self._flat[name]:
            if way[0] == Ref(earlier):
                out += [start + way[1:] for start in self._flat[earlier]]
            else:
                out.append(way)
            self._count(len(out))
        self._flat[name] = _distinct(way for way in out if way != (Ref(name),))

    def _remove_direct(self, name: str) -> None:
        """A -> A x | y  becomes  A -> y | y R,  R -> x | x R."""
        again = [way[1:] for way in self._flat[name] if way[0] == Ref(name)]
        if not again:
            return
        others = [way for way in self._flat[name] if way[0] != Ref(name)]
        rest = self._new_rule()
        self._flat[rest.name] = _distinct([*again, *((*way, rest) for way in again)])
        self._flat[name] = _distinct([*others, *((*way, rest) for way in others)])

    # -- nodes

    def _reachable(self, start: str) -> list[str]:
        seen: dict[str, None] = {start: None}
        todo = [start]
        while todo:
            for way in self._flat[todo.pop()]:
                for symbol in way:
                    if isinstance(symbol, Ref) and symbol.name not in seen:
                        seen[symbol.name] = None
                        todo.append(symbol.name)
        return list(seen)

    def _add(self, node: RuleNode, way: Alternative, nodes: dict[str, RuleNode]) -> None:
        at = 0
        for symbol in way:
            part: Terminal | RuleNode
            if isinstance(symbol, Ref):
                part = nodes[symbol.name]
            else:
                found = self._terminal(symbol.tree)
                assert found is not None
                part = self._non_empty(found)
            target = next((to for known, to in node.next[at] if known is part), None)
            if target is None:
                target = len(node.next)
                node.next.append([])
                node.is_end.append(False)
                node.next[at].append((part, target))
            at = target
        node.is_end[at] = True

    def _terminal(self, tree: syntax.Tree) -> Text | None:
        found = self._terminals.get(tree)
        if found is None:
            automaton = regex_automaton(tree, self._budget, "grammar")
            if automaton.start is None:
                return None
            found = Text(automaton, spelling(automaton.alphabet, json=False))
            self._terminals[tree] = found
        return found

    def _non_empty(self, terminal: Text) -> Terminal:
        if terminal.label(terminal.start) is None:
            return terminal
        made = self._made_non_empty.get(terminal)
        if made is None:
            made = self._made_non_empty[terminal] = NonEmpty(terminal)
        return made


def _refs(item: Item) -> list[str]:
    out: list[str] = []
    todo: list[Item] = [item]
    while todo:
        match todo.pop():
            case Ref(name):
                out.append(name)
            case Seq(parts) | Alt(parts):
                todo += parts
            case Many(body):
                todo.append(body)
    return out


def _merge_leaves(parts: tuple[Item, ...], builder: _Builder) -> list[Item]:
    """Neighbours that are regular become one leaf."""
    out: list[Item] = []
    run: list[syntax.Tree] = []
    for part in (*parts, None):
        tree = builder._tree(part) if part is not None else None
        if tree is not None:
            run.append(tree)
            continue
        if run:
            out.append(Leaf(run[0] if len(run) == 1 else Sequence(tuple(run))))
            run = []
        if part is not None:
            out.append(part)
    return out


def _all_in(way: Alternative, names: set[str]) -> bool:
    return all(not isinstance(symbol, Ref) or symbol.name in names for symbol in way)


def _distinct(ways: Iterable[Alternative]) -> list[Alternative]:
    return list(dict.fromkeys(ways))


def text_leaf(text: str) -> Leaf:
    """A literal text."""
    return Leaf(Sequence(tuple(Char(((ord(char), ord(char)),)) for char in text)))
