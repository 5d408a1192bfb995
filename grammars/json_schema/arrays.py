"""Arrays: first items, the rest, length, and items that must be among them."""

from typing import NamedTuple

from ramify.grammars.json_schema.layout import Layout
from ramify.grammars.json_schema.recorder import Noted
from ramify.grammars.json_schema.schema import Schema
from ramify.grammars.machine import Machine, Node, Place


class ItemPlace(NamedTuple):
    """How far an array has got."""

    at: str  # "[" opened, "," after a comma, "item" after one, "]" closed
    num: int  # items so far, as far as it still matters
    counts: tuple[int, ...] = ()  # of each counter, as far as it still matters
    noted: Noted | None = None  # in a twin that records
    number: int = 0  # of the whole value, once closed


class Counter(NamedTuple):
    """Low to high items from `start` on are of a kind. `high` None: no most."""

    start: int
    low: int
    high: int | None


class Way(NamedTuple):
    """One way for an item to be: which counters it counts for, and its value."""

    counts_for: int  # bit set of counters
    value: Node


class ArrayNode:
    """One case of an array schema. Complete once `finish` has seen which values can be written."""

    def __init__(
        self,
        first: list[list[Way]],
        rest: list[Way],
        low: int,
        high: int | None,
        counters: tuple[Counter, ...],
        layout: Layout,
    ) -> None:
        self.first = first  # ways of the first items
        self.rest = rest  # and of all others
        self.low = low
        self.high = high
        self.counters = counters
        self.layout = layout
        self.unique: Schema | None = None  # which asks that all items differ
        # then, of the first items and of the rest: all their texts, None if they are not few
        self.texts: list[frozenset[str] | None] = []
        self._finishable: set[tuple[int, tuple[int, ...]]] | None = None

    def finish(self, writable: "dict[int, bool]", max_places: int) -> bool | None:
        """Drop ways whose values cannot be written (by id); False if no array can be, None where
        there are too many places to tell."""
        self.first = [[way for way in ways if writable[id(way.value)]] for ways in self.first]
        self.rest = [way for way in self.rest if writable[id(way.value)]]
        for index, ways in enumerate(self.first):
            if not ways:
                self.high = index if self.high is None else min(self.high, index)
                break
        if not self.rest:
            most = len(self.first)
            self.high = most if self.high is None else min(self.high, most)
        if self.high is not None and self.low > self.high:
            return False
        return self._explore(max_places) if self.counters else True

    def _ways(self, index: int) -> list[Way]:
        return self.first[index] if index < len(self.first) else self.rest

    def _after(self, index: int) -> int:
        """The index after an item, no larger than matters."""
        if self.high is not None:
            return index + 1
        starts = (counter.start for counter in self.counters)
        return min(index + 1, max(len(self.first), self.low, *starts, 0))

    def _count(self, index: int, counts: tuple[int, ...], way: Way) -> tuple[int, ...] | None:
        """Counters after an item; None where one is exceeded."""
        out = []
        for number, (counter, count) in enumerate(zip(self.counters, counts, strict=True)):
            if way.counts_for >> number & 1 and index >= counter.start:
                count += 1
                if counter.high is None:
                    count = min(count, counter.low)
                elif count > counter.high:
                    return None
            out.append(count)
        return tuple(out)

    def _is_enough(self, index: int, counts: tuple[int, ...]) -> bool:
        return index >= self.low and all(
            count >= counter.low for counter, count in zip(self.counters, counts, strict=True)
        )

    def _next(self, index: int, counts: tuple[int, ...]) -> list[tuple[Way, int, tuple[int, ...]]]:
        """Ways for one more item from which the array can be finished."""
        if self.high is not None and index >= self.high:
            return []
        out = []
        for way in self._ways(index):
            counted = self._count(index, counts, way)
            after = self._after(index)
            if counted is not None and (
                self._finishable is None or (after, counted) in self._finishable
            ):
                out.append((way, after, counted))
        return out

    def _explore(self, max_places: int) -> bool | None:
        """Find the places from which an array with counters can be finished."""
        start = (0, (0,) * len(self.counters))
        sources: dict[tuple[int, tuple[int, ...]], list[tuple[int, tuple[int, ...]]]] = {start: []}
        todo = [start]
        while todo:
            place = todo.pop()
            for _, index, counts in self._next(*place):
                target = (index, counts)
                if target not in sources:
                    sources[target] = []
                    todo.append(target)
                    if len(sources) > max_places:
                        return None
                sources[target].append(place)
        finishable = {place for place in sources if self._is_enough(*place)}
        todo = list(finishable)
        while todo:
            for place in sources[todo.pop()]:
                if place not in finishable:
                    finishable.add(place)
                    todo.append(place)
        self._finishable = finishable
        return start in finishable

    # -- grammar node

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """At the bracket."""
        place = ItemPlace("[", 0, (0,) * len(self.counters))
        machine.begin(self.layout.open_array, machine.frame(self, place, parent), out)

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """After a bracket, a comma or an item."""
        assert isinstance(position, ItemPlace)
        if position.at == "]":
            machine.resume(parent, position.number, out)
            return
        if position.at == "item":
            position = self.noticed(position, label)
        if position.at != "," and self._may_close(position):
            self._bracket(machine, position, parent, out)
        self._go_on(machine, position, parent, out)

    def close(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """The closing bracket, or else one item more."""
        assert isinstance(position, ItemPlace)
        if position.at == "]":
            machine.resume(parent, position.number, out)
            return
        if position.at == "item":
            position = self.noticed(position, label)
        if position.at != "," and self._may_close(position):
            self._bracket(machine, position, parent, out)
        else:
            self._go_on(machine, position, parent, out)

    def noticed(self, position: ItemPlace, label: int) -> ItemPlace:
        """The place after an item: more is kept of it in a twin."""
        return position

    def number(self, position: ItemPlace) -> int:
        """The number of the array as it is: twins have them."""
        return 0

    def _may_close(self, position: ItemPlace) -> bool:
        return self._is_enough(position.num, position.counts)

    def _bracket(self, machine: Machine, position: ItemPlace, parent: int, out: set[Place]) -> None:
        layout = self.layout
        bracket = layout.close_empty_array if position.at == "[" else layout.close_array
        closed = ItemPlace("]", 0, number=self.number(position))
        machine.begin(bracket, machine.frame(self, closed, parent), out)

    def _following(self, position: ItemPlace) -> list[tuple[Way, int, tuple[int, ...]]]:
        return self._next(position.num, position.counts)

    def _go_on(self, machine: Machine, position: ItemPlace, parent: int, out: set[Place]) -> None:
        following = self._following(position)
        if position.at == "item":
            if following:
                place = ItemPlace(",", position.num, position.counts, position.noted)
                machine.begin(self.layout.comma, machine.frame(self, place, parent), out)
            return
        for way, index, counts in following:
            place = ItemPlace("item", index, counts, position.noted)
            self._begin_item(machine, position, way, machine.frame(self, place, parent), out)

    def _begin_item(
        self, machine: Machine, position: ItemPlace, way: Way, frame: int, out: set[Place]
    ) -> None:
        way.value.enter(machine, frame, out)
