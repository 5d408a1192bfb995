"""Objects: members in the schema's order or in any, with required, counted and other names."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from ramify.grammars.json_schema.captured import Captured
from ramify.grammars.json_schema.keys import declared_names, name_trie
from ramify.grammars.json_schema.layout import Layout
from ramify.grammars.json_schema.names import AnyNames
from ramify.grammars.json_schema.recorder import Noted
from ramify.grammars.limits import Budget
from ramify.grammars.machine import Machine, Node, Place
from ramify.grammars.terminals import Terminal

Order = Literal["schema", "any"]


class MemberPlace(NamedTuple):
    """How far an object has got."""

    # "{" opened, "," after a comma, "name", "other" name or "urgent" (another that is wanted),
    # "value" after a member, "}" closed
    at: str
    seen: int  # order "schema": index of the next name; "any": bit set of the names that were
    num: int  # members so far, as far as it still matters
    others: frozenset[str] = frozenset()  # other names so far, where they have to be told apart
    met: int = 0  # bit set of what is wanted, and was there
    noted: Noted | None = None  # in a twin that records
    number: int = 0  # of the whole value, once closed

    def to(self, at: str, seen: int, num: int) -> "MemberPlace":
        """Further on; three times as fast as `_replace`."""
        return MemberPlace(at, seen, num, self.others, self.met, self.noted)


class Wanted(NamedTuple):
    """Members, not of the declared names, that have to satisfy more than the others do."""

    # what a member may be, by the label of its name and the bit set of what it is wanted for
    values: dict[tuple[int, int], Node]
    num: int  # things that are wanted

    def fewest(self) -> list[int | None]:
        """By bit set of what is not met yet: the members that it takes. None: it cannot be."""
        out: list[int | None] = [0] * (1 << self.num)
        for unmet in range(1, len(out)):
            ways = [
                1 + after
                for _, bits in self.values
                if bits & unmet and (after := out[unmet & ~bits]) is not None
            ]
            out[unmet] = min(ways, default=None)
        return out


class ObjectNode:
    """One case of an object schema. Complete once `finish` has seen which values can be written."""

    _is_recorded = False

    def __init__(
        self,
        names: list[str],
        values: list[Node],
        required: frozenset[str],
        low: int,
        high: int | None,
        order: Order,
        layout: Layout,
    ) -> None:
        self.names = names
        self.values = values
        self.required = _bits(name in required for name in names)
        self.low = low
        self.high = high
        self.order = order
        self.layout = layout
        self.other_names: AnyNames | None = None  # None: no other names
        self.other_values: list[Node] = []  # by label
        self.wanted: Wanted | None = None
        self.usable = 0  # bit set of the names that may be written
        self.trie = name_trie(names)
        self._declared = declared_names(self.trie, self.required, layout.after_colon)
        self._captured: dict[tuple[Terminal, frozenset[str]], Captured] = {}
        self._fewest: list[int | None] = [0]
        self._urgent: list[Terminal] = []  # by what is not met: names that bring the end nearer
        self._tracks = False

    def least(self) -> int | None:
        """The fewest members; None if no object can be."""
        num_wanted = 0 if self.wanted is None else self.wanted.fewest()[-1]
        if num_wanted is None:
            return None
        least = self.required.bit_count() + num_wanted
        return None if self.high is not None and least > self.high else max(least, self.low)

    def finish(self, usable: int, budget: Budget) -> bool:
        """Fix the names whose values can be written; False if no object can be."""
        self.usable = usable
        num_required = self.required.bit_count()
        if self.required & ~usable or self.least() is None:
            return False
        if self.wanted is not None:
            self._plan(self.wanted, budget)
        elif self.high is not None and self.high <= num_required:
            self.usable = self.required
            self.other_names = None
        if self.low <= num_required:
            self.low = 0
        if self.other_names is None and self.low > self.usable.bit_count():
            return False
        if self.high is not None and self.low > self.high:
            return False
        self._tracks = self.other_names is not None and (self.low > 0 or self.wanted is not None)
        return True

    def _plan(self, wanted: Wanted, budget: Budget) -> None:
        self._fewest = fewest = wanted.fewest()
        assert self.other_names is not None
        for unmet, num in enumerate(fewest):
            useful = frozenset(
                label
                for label, bits in wanted.values
                if num and bits & unmet == bits and fewest[unmet & ~bits] == num - 1
            )
            names = self.other_names.restricted(useful, budget) if useful else self.other_names
            assert names is not None
            self._urgent.append(names)

    # -- grammar node

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """At the brace."""
        machine.begin(
            self.layout.open_object, machine.frame(self, MemberPlace("{", 0, 0), parent), out
        )

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """After a brace, a comma, a name or a value."""
        assert isinstance(position, MemberPlace)
        if position.at == "}":
            machine.resume(parent, position.number, out)
            return
        position = self.noticed(position, label)
        at = position.at
        if at == "{":
            if self._may_close(position):
                self._bracket(machine, position, parent, out)
            self._names(machine, position, parent, out)
        elif at == ",":
            self._names(machine, position, parent, out)
        elif at == "value":
            if self._may_close(position):
                self._bracket(machine, position, parent, out)
            if self._selected(position) or self._may_take_other(position):
                self._comma(machine, position, parent, out)
        elif at == "name":
            seen = label + 1 if self.order == "schema" else position.seen | 1 << label
            after = position.to("value", seen, self._counted(position.num))
            self.values[label].enter(machine, machine.frame(self, after, parent), out)
        else:
            self._other_value(machine, position, parent, label, out)

    def close(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """The closing brace, or else one member that is still needed."""
        assert isinstance(position, MemberPlace)
        if position.at in ("}", "name"):
            self.resume(machine, position, parent, label, out)
            return
        position = self.noticed(position, label)
        at = position.at
        if at in ("{", "value") and self._may_close(position):
            self._bracket(machine, position, parent, out)
        elif at in ("{", ","):
            self._needed_name(machine, position, parent, out)
        elif at == "value":
            self._comma(machine, position, parent, out)
        else:
            self._other_value(machine, position, parent, label, out, soonest=True)

    def noticed(self, position: MemberPlace, label: int) -> MemberPlace:
        """The place once a name or value was read: more is kept of it in a twin."""
        return position

    def number(self, position: MemberPlace) -> int:
        """The number of the object as it is: twins have them."""
        return 0

    def _bracket(
        self, machine: Machine, position: MemberPlace, parent: int, out: set[Place]
    ) -> None:
        layout = self.layout
        brace = layout.close_empty_object if position.at == "{" else layout.close_object
        closed = MemberPlace("}", 0, 0, number=self.number(position))
        machine.begin(brace, machine.frame(self, closed, parent), out)

    def _comma(self, machine: Machine, position: MemberPlace, parent: int, out: set[Place]) -> None:
        after = position.to(",", position.seen, position.num)
        machine.begin(self.layout.comma, machine.frame(self, after, parent), out)

    def _counted(self, count: int) -> int:
        return count + 1 if self.high is not None else min(count + 1, self.low)

    def _unseen(self, position: MemberPlace) -> int:
        if self.order == "schema":
            return self.usable >> position.seen << position.seen
        return self.usable & ~position.seen

    def _may_close(self, position: MemberPlace) -> bool:
        return (
            not self._unseen(position) & self.required
            and position.num >= self.low
            and not self._unmet(position)
        )

    def _unmet(self, position: MemberPlace) -> int:
        return len(self._fewest) - 1 & ~position.met

    def _fits(self, position: MemberPlace, met: int) -> bool:
        """May a member come that is not required, and meets these things?"""
        if self.high is None:
            return True
        left = (self._unseen(position) & self.required).bit_count()
        wanted = self._fewest[self._unmet(position) & ~met]
        return wanted is not None and position.num + 1 + left + wanted <= self.high

    def _selected(self, position: MemberPlace) -> int:
        """Bit set of the declared names that may come next."""
        unseen = self._unseen(position)
        needed = unseen & self.required
        allowed = unseen if self._fits(position, 0) else needed
        if self.order == "any":
            return allowed
        if needed:  # none may be skipped
            allowed &= (needed & -needed) * 2 - 1
        if self.low and self.other_names is None:  # enough have to be left
            spare = position.num + unseen.bit_count() - self.low
            allowed &= _lowest(unseen, spare + 1)
        return allowed

    def _may_take_other(self, position: MemberPlace) -> bool:
        if self.other_names is None:
            return False
        if self.order == "schema" and self._unseen(position) & self.required:
            return False
        return self._fits(position, 0) or self._unmet(position) > 0

    def _names(self, machine: Machine, position: MemberPlace, parent: int, out: set[Place]) -> None:
        selected = self._selected(position)
        if selected:
            self._declared_name(machine, position, selected, parent, out)
        if self._may_take_other(position):
            if self._fits(position, 0):
                self._other_name(machine, position, "other", parent, out)
            if self._unmet(position):
                self._other_name(machine, position, "urgent", parent, out)

    def _needed_name(
        self, machine: Machine, position: MemberPlace, parent: int, out: set[Place]
    ) -> None:
        """One name that is required, wanted or at least counted."""
        selected = self._selected(position)
        is_urgent = self._unmet(position) > 0
        if is_urgent and not selected & self.required and self._may_take_other(position):
            selected = 0
        if selected:  # the terminal knows which of them is needed
            self._declared_name(machine, position, selected, parent, out)
        else:
            at = "urgent" if is_urgent else "other"
            self._other_name(machine, position, at, parent, out)

    def _declared_name(
        self, machine: Machine, position: MemberPlace, selected: int, parent: int, out: set[Place]
    ) -> None:
        place = position.to("name", position.seen, position.num)
        frame = machine.frame(self, place, parent)
        machine.begin_at(self._declared, self._declared.selecting(selected), frame, out)

    def _other_name(
        self, machine: Machine, position: MemberPlace, at: str, parent: int, out: set[Place]
    ) -> None:
        seen = len(self.names) if self.order == "schema" else position.seen
        place = position.to(at, seen, position.num)
        machine.begin(self._other_terminal(place), machine.frame(self, place, parent), out)

    def _other_terminal(self, position: MemberPlace) -> Terminal:
        names: Terminal | None = self.other_names
        if position.at == "urgent":
            names = self._urgent[self._unmet(position)]
        assert names is not None
        return self._capture(names, position.others) if self._tracks else names

    def _capture(self, names: Terminal, others: frozenset[str]) -> Captured:
        found = self._captured.get((names, others))
        if found is None:
            found = self._captured[names, others] = Captured(
                names, others, is_name=True, is_last=not self._is_recorded
            )
        return found

    def _other_value(
        self,
        machine: Machine,
        position: MemberPlace,
        parent: int,
        label: int,
        out: set[Place],
        *,
        soonest: bool = False,
    ) -> None:
        after = position.to("value", position.seen, self._counted(position.num))
        if self._tracks:
            names = self._other_terminal(position)
            assert isinstance(names, Captured)
            name, label = names.texts[label]
            after = after._replace(others=position.others | ({name} if name is not None else set()))
        unmet = self._unmet(position)
        used = False
        for (wanted_label, bits), value in self.wanted.values.items() if self.wanted else ():
            if wanted_label == label and bits & unmet == bits and self._fits(position, bits):
                met = after._replace(met=position.met | bits)
                value.enter(machine, machine.frame(self, met, parent), out)
                used = True
        if self._fits(position, 0) and not (used and soonest):
            self.other_values[label].enter(machine, machine.frame(self, after, parent), out)


def _bits(flags: Iterable[bool]) -> int:
    """A bit set, in time that grows with its length only."""
    return int("0" + "".join("01"[flag] for flag in flags)[::-1], 2)


def _lowest(bits: int, num: int) -> int:
    """So many of the set bits, the lowest."""
    if num >= bits.bit_count():
        return bits
    low, high = 0, bits.bit_length()  # the width that holds them is between
    while low < high:
        width = (low + high) // 2
        if (bits & (1 << width) - 1).bit_count() < num:
            low = width + 1
        else:
            high = width
    return bits & (1 << low) - 1
