"""Rules of a grammar as nodes of a machine.

Parts that do not recurse become terminals. The rest is brought into normal form. Alternatives that
begin alike share their beginning.
"""

from ramify.grammars import regex_tree as syntax
from ramify.grammars.charsets import spelling
from ramify.grammars.ebnf.items import (
    Alt,
    Alternative,
    Item,
    Leaf,
    Many,
    Ref,
    Seq,
    distinct,
    refs,
)
from ramify.grammars.ebnf.nodes import EmptyOr, NonEmpty, RuleNode
from ramify.grammars.ebnf.normal_form import NormalForm
from ramify.grammars.errors import GrammarError
from ramify.grammars.limits import Budget
from ramify.grammars.machine import Node
from ramify.grammars.regex import regex_automaton
from ramify.grammars.regex_tree import Choice, Repeat, Sequence
from ramify.grammars.terminals import Terminal, Text


def build(rules: dict[str, Item], start: str, budget: Budget) -> Node:
    """The node of a grammar's start rule."""
    try:
        return _Builder(rules, budget).build(start)
    except RecursionError as error:
        raise GrammarError(
            "grammar_too_complex", "grammar: rules too deep inside one another"
        ) from error


class _Builder:
    def __init__(self, rules: dict[str, Item], budget: Budget) -> None:
        self._bodies = rules
        self._budget = budget
        self._form = NormalForm(budget)
        self._trees: dict[str, syntax.Tree | None] = {}  # of rules that do not recurse
        self._terminals: dict[syntax.Tree, Text] = {}
        self._made_non_empty: dict[Text, NonEmpty] = {}
        self._recursive = set[str]()

    def build(self, start: str) -> Node:
        if start not in self._bodies:
            known = ", ".join(sorted(self._bodies)[:8])
            raise GrammarError(
                "invalid_grammar", f"grammar: there is no rule {start!r} (but {known})"
            )
        self._find_regular()
        self._flatten(start)
        self._form.check_productive(start)
        is_empty = self._form.remove_empty(start)
        self._form.remove_left_recursion()
        nodes = {name: RuleNode(name) for name in self._reachable(start)}
        for name, node in nodes.items():
            for alternative in self._form.flat[name]:
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
                for other in refs(self._bodies[name]):
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
                if name not in recursive and any(other in recursive for other in refs(body)):
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
        self._form.flat[start] = self._alternatives(self._bodies[start])
        todo = [start]
        seen = {start}
        while todo:
            name = todo.pop()
            if name not in self._form.flat:  # not one of the helpers
                self._form.flat[name] = self._alternatives(self._bodies[name])
            for alternative in self._form.flat[name]:
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
                return distinct([way for option in options for way in self._alternatives(option)])
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
        self._form.count((low + (high or 0)) or 1)
        if high is None:
            loop = self._form.new_rule()
            self._form.flat[loop.name] = [(), (once, loop)]
            return [(once,) * low + (loop,)]
        return [(once,) * num for num in range(low, high + 1)]

    def _helper(self, ways: list[Alternative]) -> Ref:
        if len(ways) == 1 and len(ways[0]) == 1 and isinstance(ways[0][0], Ref):
            return ways[0][0]
        made = self._form.new_rule()
        self._form.flat[made.name] = ways
        return made

    # -- nodes

    def _reachable(self, start: str) -> list[str]:
        seen: dict[str, None] = {start: None}
        todo = [start]
        while todo:
            for way in self._form.flat[todo.pop()]:
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
        self._charge(tree)
        found = self._terminals.get(tree)
        if found is None:
            automaton = regex_automaton(tree, self._budget, "grammar")
            if automaton.start is None:
                return None
            found = Text(automaton, spelling(automaton.alphabet, json=False))
            self._terminals[tree] = found
        return found

    def _charge(self, tree: syntax.Tree) -> None:
        """A step for each part, written out: rules share them, but whatever reads a tree, its hash
        too, does not know that."""
        todo = [tree]
        while todo:
            self._budget.tick()
            todo += syntax.parts_of(todo.pop())

    def _non_empty(self, terminal: Text) -> Terminal:
        if terminal.label(terminal.start) is None:
            return terminal
        made = self._made_non_empty.get(terminal)
        if made is None:
            made = self._made_non_empty[terminal] = NonEmpty(terminal)
        return made


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
