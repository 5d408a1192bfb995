"""Twins of nodes that record what is written: the items of an array that have to differ.

A twin resumes its parent with the number of the value that was written. Where a value may not be
one of some others, scalars leave their texts out; an object or array does not close as long as it
equals one of them, which it need not stay: only those that can always go on are allowed there.
"""

from functools import lru_cache
from typing import cast
from weakref import WeakKeyDictionary

from ramify.grammars.json_schema.arrays import ArrayNode, ItemPlace, Way
from ramify.grammars.json_schema.captured import Captured
from ramify.grammars.json_schema.context import ValueNode
from ramify.grammars.json_schema.numbers import Number
from ramify.grammars.json_schema.objects import MemberPlace, ObjectNode, Wanted
from ramify.grammars.json_schema.recorded_texts import (
    RecordedText,
    RecordedWords,
    are_words,
    plain_terminal,
)
from ramify.grammars.json_schema.recorder import Noted, Recorder, can_differ
from ramify.grammars.machine import Machine, Node, Place
from ramify.grammars.terminals import Elsewhere, Key, Literals, Terminal

NONE = frozenset[int]()
MAX_FEW = 256  # of a value of more scalars than this there is always one left


class Recording:
    """The twins of one machine's nodes."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self._twins: dict[Node, RecordedValue | RecordedObject | RecordedArray] = {}
        self._texts: dict[tuple[Terminal, frozenset[int], bool], RecordedText] = {}
        self._words: dict[Terminal, RecordedWords] = {}

    def value(self, node: Node) -> "RecordedValue":
        """The twin of a value."""
        found = self._twins.get(node)
        if found is None:
            found = self._twins[node] = RecordedValue(cast(ValueNode, node), self)
        return cast(RecordedValue, found)

    def composite(self, node: Node) -> "RecordedObject | RecordedArray":
        """The twin of an object or array."""
        if isinstance(node, UniqueArray):
            node = node.array
        found = self._twins.get(node)
        if found is None:
            if isinstance(node, ObjectNode):
                found = RecordedObject(node, self)
            else:
                found = RecordedArray(cast(ArrayNode, node), self)
            self._twins[node] = found
        return cast("RecordedObject | RecordedArray", found)

    def begin(
        self,
        machine: Machine,
        terminal: Terminal,
        unlike: frozenset[int],
        frame: int,
        out: set[Place],
        *,
        is_last: bool = False,
    ) -> None:
        """Add the place before a terminal's texts without those of some values, if any is left.
        `is_last`: see `Captured`."""
        if isinstance(terminal, Literals) and are_words(terminal):
            words = self._words.get(terminal)
            if words is None:
                words = self._words[terminal] = RecordedWords(terminal, self.recorder)
            start = words.unlike(unlike)
            if start is not None:
                machine.begin_at(words, start, frame, out)
            return
        key = (terminal, unlike, is_last)
        text = self._texts.get(key)
        if text is None:
            text = RecordedText(terminal, self.recorder, unlike, is_last=is_last)
            self._texts[key] = text
        if text.is_live:
            machine.begin(text, frame, out)


class RecordedValue:
    """A place's values."""

    def __init__(self, node: ValueNode, recording: Recording) -> None:
        self._node = node
        self._recording = recording

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """At the start of each alternative."""
        for terminal in self._node.terminals:
            self._recording.begin(machine, terminal, NONE, parent, out)
        for node in self._node.nodes:
            self._recording.composite(node).enter_unlike(machine, parent, out, NONE)

    def enter_unlike(
        self,
        machine: Machine,
        parent: int,
        out: set[Place],
        unlike: frozenset[int],
        *,
        is_last: bool,
    ) -> None:
        """As `enter`; but the value is none of some others. `is_last`: of scalars, see
        `Captured`."""
        for terminal in self._node.terminals:
            plain = plain_terminal(terminal)
            self._recording.begin(machine, plain, unlike, parent, out, is_last=is_last)
        for node in self._node.nodes:
            self._recording.composite(node).enter_unlike(machine, parent, out, unlike)

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """Alternatives go on with the parent themselves."""
        raise AssertionError("a value has no parts of its own")

    close = resume


class RecordedObject(ObjectNode):
    """An object's members by their names. Each name is written once."""

    _is_recorded = True

    def __init__(self, node: ObjectNode, recording: Recording) -> None:
        self.__dict__.update(node.__dict__)  # finished
        self._recorder = recording.recorder
        self.values = list(map(recording.value, node.values))
        self.other_values = list(map(recording.value, node.other_values))
        if node.wanted is not None:
            values = {key: recording.value(value) for key, value in node.wanted.values.items()}
            self.wanted = Wanted(cast(dict[tuple[int, int], Node], values), node.wanted.num)
        self._captured = {}
        self._tracks = self.other_names is not None

    def enter_unlike(
        self, machine: Machine, parent: int, out: set[Place], unlike: frozenset[int]
    ) -> None:
        """At the brace of an object that is none of some values."""
        place = MemberPlace("{", 0, 0, noted=Noted(frozenset(), unlike))
        machine.begin(self.layout.open_object, machine.frame(self, place, parent), out)

    def noticed(self, position: MemberPlace, label: int) -> MemberPlace:
        """Keep the name, then the value, of a member."""
        noted = position.noted
        assert noted is not None
        if position.at == "name":
            return position._replace(noted=noted._replace(name=self.names[label]))
        if position.at in ("other", "urgent"):
            names = self._other_terminal(position)
            assert isinstance(names, Captured)
            return position._replace(noted=noted._replace(name=names.texts[label][0]))
        if position.at == "value":
            members = cast(frozenset[tuple[str | None, int]], noted.value)
            value = members | {(noted.name, label)}
            return position._replace(noted=noted._replace(value=value, name=None))
        return position

    def _may_close(self, position: MemberPlace) -> bool:
        assert position.noted is not None
        return super()._may_close(position) and self.number(position) not in position.noted.unlike

    def number(self, position: MemberPlace) -> int:
        """The number of the object as it is."""
        assert position.noted is not None
        return self._recorder.number(("object", position.noted.value))


class RecordedArray(ArrayNode):
    """An array's items; they differ from one another where they have to."""

    def __init__(self, node: ArrayNode, recording: Recording) -> None:
        self.__dict__.update(node.__dict__)  # finished
        self._recorder = recording.recorder
        self._recording = recording
        self._allowed: dict[tuple[int, frozenset[str]], tuple[bool, frozenset[str]]] = {}
        self._is_endless = all(texts is None for texts in self.texts)

    def enter_unlike(
        self, machine: Machine, parent: int, out: set[Place], unlike: frozenset[int]
    ) -> None:
        """At the bracket of an array that is none of some values."""
        place = ItemPlace("[", 0, (0,) * len(self.counters), Noted((), unlike))
        machine.begin(self.layout.open_array, machine.frame(self, place, parent), out)

    def noticed(self, position: ItemPlace, label: int) -> ItemPlace:
        """Keep an item's value."""
        noted = position.noted
        assert noted is not None
        items = cast(tuple[int, ...], noted.value)
        return position._replace(noted=noted._replace(value=(*items, label)))

    def number(self, position: ItemPlace) -> int:
        """The number of the array as it is."""
        assert position.noted is not None
        return self._recorder.number(("array", position.noted.value))

    def _may_close(self, position: ItemPlace) -> bool:
        assert position.noted is not None
        return super()._may_close(position) and self.number(position) not in position.noted.unlike

    def _following(self, position: ItemPlace) -> list[tuple[Way, int, tuple[int, ...]]]:
        following = super()._following(position)
        if following and self.unique and not self._left(position)[0]:
            return []
        return following

    def _begin_item(
        self, machine: Machine, position: ItemPlace, way: Way, frame: int, out: set[Place]
    ) -> None:
        value = self._recording.value(way.value)
        if not self.unique:
            value.enter(machine, frame, out)
            return
        assert position.noted is not None
        unlike = frozenset(cast(tuple[int, ...], position.noted.value))
        texts = self._left(position)[1]
        if texts:
            unlike |= {self._recorder.scalar(text.encode()) for text in texts}
        is_last = self._is_endless and self._is_outermost(machine, frame)
        value.enter_unlike(machine, frame, out, unlike, is_last=is_last)

    def _is_outermost(self, machine: Machine, frame: int) -> bool:
        """Is the array of a frame not a part of another value that is recorded?"""
        parent = machine.frame_at(machine.frame_at(frame).parent).node
        return not isinstance(parent, RecordedObject | RecordedArray)

    def _left(self, position: ItemPlace) -> tuple[bool, frozenset[str]]:
        """Is there an item left for this place? And the scalars that it may not be beside those
        seen: those without which the items to come could not all differ."""
        assert position.noted is not None
        if self._is_endless:
            return True, frozenset()
        numbers = frozenset(cast(tuple[int, ...], position.noted.value))
        key = (position.num, self._recorder.texts(numbers))
        found = self._allowed.get(key)
        if found is None:
            found = self._allowed[key] = items_left(self, *key)
        return found


def items_left(node: ArrayNode, index: int, seen: frozenset[str]) -> tuple[bool, frozenset[str]]:
    """Of an array whose items differ: see `RecordedArray._left`."""
    num_first = len(node.first)
    own = node.texts[min(index, num_first)]
    later = [texts for texts in node.texts[index + 1 : min(node.low, num_first)] if texts]
    rest = node.texts[-1]
    if rest is not None:
        num_rest = node.low - max(index + 1, num_first)
        if num_rest > len(rest):
            return False, seen
        later += [rest] * num_rest
    at_stake = frozenset[str]().union(*later) if own is None else own
    kept = {text for text in at_stake - seen if can_differ(later, seen | {text})}
    is_left = bool(kept) if own is not None else can_differ(later, seen)
    return is_left, seen | (at_stake - kept)


def few_scalars(node: ValueNode) -> frozenset[str] | None:
    """The JSON of all values, if they are scalars and few; None if not, or if there is no end."""
    if node.nodes:
        return None
    found = set[str]()
    for terminal in node.terminals:
        if isinstance(terminal, Number) and terminal.is_surely_large(MAX_FEW):
            return None
        texts = _few_texts(plain_terminal(terminal))
        if texts is None:
            return None
        found |= texts
    return frozenset(found) if len(found) <= MAX_FEW else None


@lru_cache(maxsize=256)
def _few_texts(terminal: Terminal) -> frozenset[str] | None:
    """All that a terminal reads; None if that is not little."""
    if isinstance(terminal, Literals):
        is_little = max(len(terminal.texts), *map(len, terminal.texts)) <= 4 * MAX_FEW
        return frozenset(text.decode() for text in terminal.texts) if is_little else None
    found = set[str]()
    todo: list[tuple[Terminal, Key, bytes]] = [(terminal, terminal.start, b"")]
    while todo:
        at, key, text = todo.pop()
        if at.label(key) is not None:
            found.add(text.decode())
        for byte, target in at.transitions(key).items():
            to = target if isinstance(target, Elsewhere) else Elsewhere(at, target)
            todo.append((*to, text + bytes((byte,))))
        if len(found) + len(todo) > 4 * MAX_FEW or len(text) > 4 * MAX_FEW:
            return None
    return frozenset(found)


class UniqueArray:
    """An array whose items all differ. Its twins belong to the machine that they run in."""

    def __init__(self, array: ArrayNode) -> None:
        self.array = array
        self._twins: WeakKeyDictionary[Machine, RecordedArray] = WeakKeyDictionary()

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """At the bracket."""
        twin = self._twins.get(machine)
        if twin is None:
            twin = self._twins[machine] = RecordedArray(self.array, Recording())
        twin.enter_unlike(machine, parent, out, NONE)

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """Its twin goes on with the parent."""
        raise AssertionError("an array's twin has the parts")

    close = resume
