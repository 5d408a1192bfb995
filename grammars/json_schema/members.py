"""Objects of a case: which names their members have, and what each member has to be."""

from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from ramify.grammars.automata import CharAutomaton, Words
from ramify.grammars.json_schema import facts, strings
from ramify.grammars.json_schema.cases import Conjunction
from ramify.grammars.json_schema.context import Context, ValueNode, too_complex
from ramify.grammars.json_schema.facts import ANYTHING, NOTHING, Value
from ramify.grammars.json_schema.name_kinds import (
    Condition,
    Kind,
    NameKinds,
    conditions_of,
    is_among,
)
from ramify.grammars.json_schema.names import without
from ramify.grammars.json_schema.objects import ObjectNode, Wanted
from ramify.grammars.json_schema.scalars import Scalars
from ramify.grammars.machine import Node
from ramify.grammars.products import Product

MAX_WANTED = 4  # members of names that are not known, each wanted for something


class Listed(NamedTuple):
    """Names to declare, as they are few."""

    names: list[str]
    are_all: bool  # are there no others?


class Members:
    """Makes the objects of cases."""

    def __init__(self, context: Context, scalars: Scalars) -> None:
        self._context = context
        self._scalars = scalars

    def add(self, owner: ValueNode, conjunction: Conjunction) -> None:
        """Add the objects of a case to a value's alternatives."""
        names: dict[str, None] = {}
        more: dict[str, None] = {}  # names that come after those
        wanted: list[facts.SomeMember] = []
        for fact in conjunction:
            if isinstance(fact, facts.Member):
                names[fact.name] = None
            elif isinstance(fact, facts.Required):
                more[fact.name] = None
            elif isinstance(fact, facts.Members):
                more |= dict.fromkeys(sorted(fact.keys.outside_names))
            elif isinstance(fact, facts.SomeMember):
                more |= dict.fromkeys(sorted(fact.keys.outside_names))
                wanted.append(fact)
        case = _Case(self._context, self._scalars, owner)
        if not wanted:
            case.add_all(names | more, conjunction, wanted)
            return
        if len(wanted) > MAX_WANTED:
            too_complex(
                owner.value, f"more than {MAX_WANTED} members of unknown names are asked for"
            )
        rest = tuple(fact for fact in conjunction if not isinstance(fact, facts.SomeMember))
        case.add(rest, wanted, list(names | more))


class _Case:
    """One case of one value."""

    def __init__(self, context: Context, scalars: Scalars, owner: ValueNode) -> None:
        self._context = context
        self._scalars = scalars
        self._owner = owner

    def add(
        self,
        conjunction: Conjunction,
        wanted: list[facts.SomeMember],
        names: list[str],
        *,
        new_names: list[str] | None = None,
        must_be_new: bool = False,
    ) -> None:
        """Add objects with these names declared. A member that is wanted is one of the new names
        (all of them are new at first), or else, unless it must be, one of a name not declared."""
        candidates = names if new_names is None else new_names
        options: list[list[str | None]] = [
            [name for name in candidates if self._has(each.keys, name)] for each in wanted
        ]
        num = 1
        for option in options:
            if not must_be_new:
                option.append(None)
            num *= len(option)
        if num > self._context.budget.limits.cases:
            too_complex(
                self._owner.value, f"more than {num} ways for the members that are asked for"
            )
        for chosen in product(*options):
            asked = [
                fact
                for name, each in zip(chosen, wanted, strict=True)
                if name is not None
                for fact in (facts.Required(name), facts.Member(name, each.value))
            ]
            left = [each for name, each in zip(chosen, wanted, strict=True) if name is None]
            self.add_all(dict.fromkeys(names), (*conjunction, *asked), left)

    def add_all(
        self, names: dict[str, None], conjunction: Conjunction, wanted: list[facts.SomeMember]
    ) -> None:
        """Add the objects of these facts: what is wanted is of names that are not declared."""
        limit = self._context.budget.limits.members
        if len(names) > limit:
            too_complex(self._owner.value, f"{len(names)} members named in one object, of {limit}")
        low, high = 0, None  # type: tuple[int, int | None]
        asked: dict[str, Value] = dict.fromkeys(names, ANYTHING)
        required = set[str]()
        groups: list[facts.Members] = []
        for fact in conjunction:
            match fact:
                case facts.Member(name, value):
                    before = asked[name]  # a Value is best left the object that it is
                    asked[name] = before | value if before else value
                case facts.Required(name):
                    required.add(name)
                case facts.Size(least, most):
                    low = max(low, least)
                    high = most if high is None else high if most is None else min(high, most)
                case facts.Members():
                    groups.append(fact)
        if high is not None and low > high:
            return
        for group in groups:
            for name in names.keys() - group.keys.outside_names:
                if self._has(group.keys, name):
                    asked[name] |= group.value
        context = self._context
        values: list[Node] = [context.node(value) for value in asked.values()]
        made = ObjectNode(
            list(names), values, frozenset(required), low, high, context.order, context.layout
        )
        listed = self._set_other_names(made, groups, wanted)
        if listed is None:
            context.pending.append((self._owner, made))
            return
        all_names = [*names, *listed.names]
        if listed.are_all:
            conjunction = (
                *conjunction,
                facts.Members(facts.Keys(None, frozenset(all_names)), NOTHING),
            )
        self.add(conjunction, wanted, all_names, new_names=listed.names, must_be_new=listed.are_all)

    # -- names

    def _has(self, keys: facts.Keys, name: str) -> bool:
        pattern = self._scalars.pattern
        if keys.pattern is not None and not strings.matches(pattern(keys.pattern), name):
            return False
        if name in keys.outside_names:
            return False
        if any(strings.matches(pattern(outside), name) for outside in keys.outside_patterns):
            return False
        return keys.outside_value is None or not strings.matches(
            self._name_automaton(keys.outside_value), name
        )

    def _name_automaton(self, value: Value) -> CharAutomaton:
        """The strings that satisfy a Value, as an automaton over names."""
        return self._context.once(("automaton", value), lambda: self._strings_of(value))

    def _strings_of(self, value: Value) -> CharAutomaton:
        automata = [
            (found, False)
            for conjunction in self._context.cases(value, "string")
            if (found := self._names_of(conjunction)) is not None
        ]
        if len(automata) == 1:
            return automata[0][0]
        if not automata:
            return Words(())
        neither = Product(automata, self._context.budget, "propertyNames")
        return Product([(neither, False)], self._context.budget, "propertyNames")

    def _names_of(self, conjunction: Conjunction) -> CharAutomaton | None:
        listed = [
            fact.values for fact in conjunction if isinstance(fact, facts.Strings) and fact.holds
        ]
        rest = tuple(
            fact for fact in conjunction if not (isinstance(fact, facts.Strings) and fact.holds)
        )
        found = self._scalars.string(rest)
        if not isinstance(found, strings.Quoted):
            return None
        if not listed:
            return found.automaton
        kept = frozenset.intersection(*listed)
        return Words(sorted(text for text in kept if strings.matches(found.automaton, text)))

    def _set_other_names(
        self, node: ObjectNode, groups: list[facts.Members], wanted: list[facts.SomeMember]
    ) -> Listed | None:
        """Set the names that are not declared; or those to declare first."""
        keys = [group.keys for group in groups] + [each.keys for each in wanted]
        conditions = tuple(dict.fromkeys(part for key in keys for part in conditions_of(key)))
        if conditions:
            return self._classify(node, groups, wanted, conditions)
        context = self._context
        value = ANYTHING
        for group in groups:
            value = value | group.value if value else group.value
        if value >= NOTHING:
            node.wanted = self._wanted({}, {}, wanted)
            return None
        node.other_values = [context.node(value)]
        node.other_names = without(context.free_names, node.trie, context.budget)
        node.wanted = self._wanted({0: value}, {0: frozenset()}, wanted)
        return None

    def _classify(
        self,
        node: ObjectNode,
        groups: list[facts.Members],
        wanted: list[facts.SomeMember],
        conditions: "tuple[Condition, ...]",
    ) -> Listed | None:
        """Other names by which of the conditions they meet."""

        @cache
        def value_of(kind: Kind) -> Value:
            parts = [group.value for group in groups if is_among(group.keys, kind)]
            return frozenset[Any]().union(*parts)

        context = self._context
        names = context.once(("names", conditions), lambda: self._kinds_of_names(conditions))
        kinds = [kind for kind in names.all if not value_of(kind) >= NOTHING]
        listed = names.few(kinds, node.names)
        if listed is not None:
            if listed:
                return Listed(listed, are_all=True)
            node.wanted = self._wanted({}, {}, wanted)
            return None
        of_declared = {names.of_name(name) for name in node.names}
        for kind in [*kinds]:
            is_wanted = any(is_among(each.keys, kind) for each in wanted)
            if is_wanted or kind in of_declared:
                few = names.few((kind,), node.names)
                if few and is_wanted:  # there might be none left when they are wanted
                    return Listed(few, are_all=False)
                if few is not None and not few:
                    kinds.remove(kind)
        node.other_values = [context.node(value_of(kind)) for kind in kinds]
        node.wanted = self._wanted(
            {label: value_of(kind) for label, kind in enumerate(kinds)},
            dict(enumerate(kinds)),
            wanted,
        )
        terminal = names.terminal(kinds, context.layout.after_colon)
        node.other_names = without(terminal, node.trie, context.budget)
        return None

    def _kinds_of_names(self, conditions: "tuple[Condition, ...]") -> NameKinds:
        automata = {
            each: self._scalars.pattern(each)
            if isinstance(each, str)
            else self._name_automaton(each)
            for each in conditions
        }
        return NameKinds(automata, self._context.budget)

    def _wanted(
        self,
        values: Mapping[int, Value],
        kinds: Mapping[int, Kind],
        wanted: list[facts.SomeMember],
    ) -> Wanted | None:
        """The values of other members that are wanted for one or more things, by label."""
        if not wanted:
            return None
        found: dict[tuple[int, int], Node] = {}
        for label, value in values.items():
            may = [bit for bit, each in enumerate(wanted) if is_among(each.keys, kinds[label])]
            for picked in range(1, 1 << len(may)):
                chosen = [bit for at, bit in enumerate(may) if picked >> at & 1]
                asked = value.union(*(wanted[bit].value for bit in chosen))
                found[label, sum(1 << bit for bit in chosen)] = self._context.node(asked)
        return Wanted(found, len(wanted))
