"""Objects: members in the schema's order or in any, with required, counted and other names."""

from typing import Literal, NamedTuple

from ramify.grammars.json_schema.keys import Captured, DeclaredNames, NameTrie
from ramify.grammars.json_schema.layout import Layout
from ramify.grammars.machine import Machine, Node, Place
from ramify.grammars.terminals import Terminal

Order = Literal["schema", "any"]


class MemberPlace(NamedTuple):
    """How far an object has got."""

    at: str  # "{" opened, "," after a comma, "name", "other", "value" after a member, "}" closed
    seen: int  # order "schema": index of the next name; "any": bit set of the names that were
    num: int  # members so far, as far as it still matters
    others: frozenset[str] = frozenset()  # other names so far, where they have to be told apart
    met: bool = False  # was there a member as wanted?


class Wanted(NamedTuple):
    """One member, not of the declared names, has to satisfy a value as well."""

    values: dict[int, Node]  # by label of its name: the other's value and what is wanted of it


class ObjectNode:
    """One case of an object schema. Complete once `finish` has seen which values can be written."""

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
        self.required = sum(1 << names.index(name) for name in required)
        self.low = low
        self.high = high
        self.order = order
        self.layout = layout
        self.other_names: Terminal | None = None  # None: no other names
        self.other_values: list[Node] = []  # by label
        self.wanted: Wanted | None = None
        self.usable = 0  # bit set of the names that may be written
        self.trie = NameTrie(names)
        self._declared = DeclaredNames(self.trie, layout.after_colon)
        self._captured: dict[frozenset[str], Captured] = {}
        self._tracks = False

    def finish(self, usable: int) -> bool:
        """Fix the names whose values can be written; False if no object can be."""
        self.usable = usable
        num_required = self.required.bit_count()
        if self.required & ~usable or (self.high is not None and num_required > self.high):
            return False
        if self.high is not None and self.high <= num_required and self.wanted is None:
            self.usable = self.required
            self.other_names = None
        if self.low <= num_required:
            self.low = 0
        if self.other_names is None and self.low > self.usable.bit_count():
            return False
        if self.high is not None and self.low > self.high:
            return False
        if self.wanted is not None and self.high is not None and num_required >= self.high:
            return False
        self._tracks = self.other_names is not None and (self.low > 0 or self.wanted is not None)
        return True

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
        at = position.at
        if at == "}":
            machine.resume(parent, 0, out)
        elif at == "{":
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
            after = position._replace(at="value", seen=seen, num=self._counted(position.num))
            self.values[label].enter(machine, machine.frame(self, after, parent), out)
        else:
            self._other_value(machine, position, parent, label, out)

    def close(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """The closing brace, or else one member that is still needed."""
        assert isinstance(position, MemberPlace)
        at = position.at
        if at in ("{", "value") and self._may_close(position):
            self._bracket(machine, position, parent, out)
        elif at in ("{", ","):
            self._needed_name(machine, position, parent, out)
        elif at == "value":
            self._comma(machine, position, parent, out)
        elif at == "other":
            self._other_value(machine, position, parent, label, out, soonest=True)
        else:
            self.resume(machine, position, parent, label, out)

    def _bracket(
        self, machine: Machine, position: MemberPlace, parent: int, out: set[Place]
    ) -> None:
        layout = self.layout
        brace = layout.close_empty_object if position.at == "{" else layout.close_object
        machine.begin(brace, machine.frame(self, MemberPlace("}", 0, 0), parent), out)

    def _comma(self, machine: Machine, position: MemberPlace, parent: int, out: set[Place]) -> None:
        machine.begin(
            self.layout.comma, machine.frame(self, position._replace(at=","), parent), out
        )

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
            and (self.wanted is None or position.met)
        )

    def _room(self, position: MemberPlace) -> bool:
        """May a member come that is not required?"""
        if self.high is None:
            return True
        left = (self._unseen(position) & self.required).bit_count()
        left += self.wanted is not None and not position.met
        return position.num + 1 + left <= self.high

    def _selected(self, position: MemberPlace) -> int:
        """Bit set of the declared names that may come next."""
        unseen = self._unseen(position)
        needed = unseen & self.required
        allowed = unseen if self._room(position) else needed
        if self.order == "any":
            return allowed
        if needed:  # none may be skipped
            allowed &= (needed & -needed) * 2 - 1
        if self.low and self.other_names is None:  # enough have to be left
            spare = position.num + unseen.bit_count() - self.low
            kept = 0
            rest = allowed
            while rest:
                lowest = rest & -rest
                if (unseen & lowest - 1).bit_count() <= spare:
                    kept |= lowest
                rest &= rest - 1
            allowed = kept
        return allowed

    def _may_take_other(self, position: MemberPlace) -> bool:
        if self.other_names is None:
            return False
        if self.order == "schema" and self._unseen(position) & self.required:
            return False
        return self._room(position) or (self.wanted is not None and not position.met)

    def _names(self, machine: Machine, position: MemberPlace, parent: int, out: set[Place]) -> None:
        selected = self._selected(position)
        if selected:
            self._declared_name(machine, position, selected, parent, out)
        if self._may_take_other(position):
            self._other_name(machine, position, parent, out)

    def _needed_name(
        self, machine: Machine, position: MemberPlace, parent: int, out: set[Place]
    ) -> None:
        """One name that is required, wanted or at least counted."""
        selected = self._selected(position)
        if self.wanted is None or position.met or selected & self.required:
            selected = selected & self.required or selected
        elif self._may_take_other(position):
            selected = 0
        if selected:
            self._declared_name(machine, position, selected & -selected, parent, out)
        else:
            self._other_name(machine, position, parent, out)

    def _declared_name(
        self, machine: Machine, position: MemberPlace, selected: int, parent: int, out: set[Place]
    ) -> None:
        frame = machine.frame(self, position._replace(at="name"), parent)
        machine.begin_at(self._declared, self._declared.selecting(selected), frame, out)

    def _other_name(
        self, machine: Machine, position: MemberPlace, parent: int, out: set[Place]
    ) -> None:
        seen = len(self.names) if self.order == "schema" else position.seen
        frame = machine.frame(self, position._replace(at="other", seen=seen), parent)
        machine.begin(self._other_terminal(position), frame, out)

    def _other_terminal(self, position: MemberPlace) -> Terminal:
        assert self.other_names is not None
        if not self._tracks:
            return self.other_names
        found = self._captured.get(position.others)
        if found is None:
            found = Captured(self.other_names, position.others, is_name=True)
            self._captured[position.others] = found
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
        after = position._replace(at="value", num=self._counted(position.num))
        if self._tracks:
            name, label = self._captured[position.others].texts[label]
            after = after._replace(others=position.others | ({name} if name is not None else set()))
        wanted = None if self.wanted is None or position.met else self.wanted.values.get(label)
        if self._room(position) and not (wanted and soonest):
            self.other_values[label].enter(machine, machine.frame(self, after, parent), out)
        if wanted is not None:
            wanted.enter(machine, machine.frame(self, after._replace(met=True), parent), out)
