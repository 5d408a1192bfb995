"""Rules as nodes of a machine."""

from collections.abc import Mapping

from ramify.grammars.machine import Machine, Node, Place
from ramify.grammars.terminals import Chars, Key, Terminal, Text


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

    def chars(self, key: Key) -> Chars:
        """As the regex's."""
        return self._inner.chars(self._inner.start if key == "start" else key)

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
