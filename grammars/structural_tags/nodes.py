"""What follows what: the nodes of a structural tag."""

from collections.abc import Sequence

from ramify.grammars.machine import Machine, Node, Place
from ramify.grammars.structural_tags.free_text import ENDED, FreeText
from ramify.grammars.terminals import Terminal


class InOrder:
    """Parts one after the other; none: the empty text. Position: index of the next part."""

    def __init__(self, parts: Sequence[Node]) -> None:
        self._parts = parts

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """At the first part."""
        self.resume(machine, 0, parent, 0, out)

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """At the next part; the last one hands over to the parent itself."""
        assert isinstance(position, int)
        left = len(self._parts) - position
        if left:
            frame = machine.frame(self, position + 1, parent) if left > 1 else parent
            self._parts[position].enter(machine, frame, out)
        else:
            machine.resume(parent, 0, out)

    close = resume


class OneOf:
    """Any one of the options."""

    def __init__(self, options: Sequence[Node]) -> None:
        self._options = options

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """At each of them."""
        for option in self._options:
            option.enter(machine, parent, out)

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """It has no parts of its own."""
        raise AssertionError("no parts")

    close = resume


class Loop:
    """A body `low` to `high` times (None: no end), a separator between. The body is never empty.

    Position: (bodies so far as far as it matters, was it the separator that ended?).
    """

    def __init__(self, body: Node, low: int, high: int | None, separator: Terminal | None) -> None:
        self._body = body
        self._low = low
        self._high = high
        self._separator = separator

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """Before the first body."""
        if self._low == 0:
            machine.resume(parent, 0, out)
        if self._high != 0:
            self._once_more(machine, 0, parent, out)

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """After a body, or after a separator."""
        assert isinstance(position, tuple)
        count, is_separated = position
        if is_separated:
            self._once_more(machine, count, parent, out)
            return
        if count >= self._low:
            machine.resume(parent, 0, out)
        if self._high is None or count < self._high:
            if self._separator is None:
                self._once_more(machine, count, parent, out)
            else:
                frame = machine.frame(self, (count, True), parent)
                machine.begin(self._separator, frame, out)

    def close(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """No more bodies than it takes."""
        assert isinstance(position, tuple)
        if position[0] >= self._low and not position[1]:
            machine.resume(parent, 0, out)
        else:
            self.resume(machine, position, parent, label, out)

    def _once_more(self, machine: Machine, count: int, parent: int, out: set[Place]) -> None:
        count = min(count + 1, self._low) if self._high is None else count + 1
        self._body.enter(machine, machine.frame(self, (count, False), parent), out)


class Opening:
    """One of some begins, then what belongs to it."""

    def __init__(self, begins: Terminal, contents: Sequence[Node]) -> None:
        self._begins = begins
        self._contents = contents  # by the begin's label

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """Before the begin."""
        machine.begin(self._begins, machine.frame(self, 0, parent), out)

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """After it; the content hands over to the parent itself."""
        self._contents[label].enter(machine, parent, out)

    close = resume


class TextNode:
    """Free text; a trigger in it begins a section, after which the text goes on if it `loops`."""

    def __init__(self, text: FreeText, sections: Sequence[Node], *, loops: bool) -> None:
        self._text = text
        self._sections = sections  # by label, from 1
        self._loops = loops

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """In the text."""
        machine.begin(self._text, machine.frame(self, "text", parent), out)

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """After the text, or after a section."""
        if position == "section":
            self.enter(machine, parent, out)
        elif label == ENDED:
            machine.resume(parent, 0, out)
        else:
            frame = machine.frame(self, "section", parent) if self._loops else parent
            self._sections[label - 1].enter(machine, frame, out)

    close = resume
