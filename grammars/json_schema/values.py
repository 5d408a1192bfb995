"""The nodes of a schema: each Value that occurs, its alternatives, and if it can be written."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache, lru_cache
from typing import Any, NoReturn, TypeVar

from ramify.grammars.automata import CharAutomaton, Words, few_texts, side_by_side
from ramify.grammars.errors import GrammarError
from ramify.grammars.json_schema import facts, strings
from ramify.grammars.json_schema.arrays import ArrayNode, Counter, Way
from ramify.grammars.json_schema.cases import Conjunction, booleans, cases, numbers
from ramify.grammars.json_schema.document import Document, Schema
from ramify.grammars.json_schema.facts import NOTHING, Formula, Literal, Value, negate_value
from ramify.grammars.json_schema.formula import Formulas, Options
from ramify.grammars.json_schema.json_values import TYPES
from ramify.grammars.json_schema.keys import FREE_NAMES, ClassifiedNames, OtherNames
from ramify.grammars.json_schema.layout import BOOLEANS, LAYOUTS, NULL, Whitespace
from ramify.grammars.json_schema.numbers import NumberSet, number, plain_integer
from ramify.grammars.json_schema.objects import ObjectNode, Order, Wanted
from ramify.grammars.limits import Budget
from ramify.grammars.machine import Machine, Node, Place
from ramify.grammars.products import Product
from ramify.grammars.terminals import Literals, Terminal

Made = TypeVar("Made")
MAX_LISTED_NAMES = 64  # a finite set of other names up to this size is written out


class ValueNode:
    """A place's values: any of the alternatives."""

    def __init__(self, value: Value) -> None:
        self.value = value
        self.terminals: list[Terminal] = []
        self.nodes: list[Node] = []  # objects and arrays
        self.is_writable = False

    def enter(self, machine: Machine, parent: int, out: set[Place]) -> None:
        """At the start of each alternative."""
        for terminal in self.terminals:
            machine.begin(terminal, parent, out)
        for node in self.nodes:
            node.enter(machine, parent, out)

    def resume(
        self, machine: Machine, position: object, parent: int, label: int, out: set[Place]
    ) -> None:
        """Alternatives go on with the parent themselves."""
        raise AssertionError("a value has no parts of its own")

    close = resume


@dataclass(slots=True, eq=False)
class _Pending:
    """An object or array until it is known which values can be written."""

    owner: ValueNode
    node: ObjectNode | ArrayNode


@lru_cache(maxsize=4096)
def string_list(texts: frozenset[str]) -> Literals:
    """An enum of strings: one terminal for each."""
    return Literals(sorted(map(strings.quote, texts)))


@lru_cache(maxsize=4096)
def number_list(values: frozenset[Fraction], plain: bool) -> Literals:
    """An enum of numbers: each as written shortest, and integers (unless `plain`) with `.0` too."""
    texts = {text for value in values for text in _spellings(value)}
    kept = [text.encode() for text in texts if not plain or text.lstrip("-").isdigit()]
    return Literals(sorted(kept))


def _spellings(value: Fraction) -> set[str]:
    if value.denominator == 1:
        whole = int(value)
        out = {str(whole), f"{whole}.0"} if abs(whole) < 10**30 else {str(whole)}
        return out | (
            {repr(float(whole))} if abs(whole) >= 10**16 and abs(whole) < 10**300 else set()
        )
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return {format(exact.normalize(), "f"), repr(float(value))}


class Builder:
    """Makes the nodes of a document, all of them before any is used."""

    def __init__(
        self,
        document: Document,
        options: Options,
        order: Order,
        whitespace: Whitespace,
        budget: Budget,
    ) -> None:
        self._document = document
        self._formulas = Formulas(options)
        self._order: Order = order
        self._layout = LAYOUTS[whitespace]
        self._free_names = FREE_NAMES[whitespace]
        self._budget = budget
        self._nodes: dict[Value, ValueNode] = {}
        self._todo: list[ValueNode] = []
        self._pending: list[_Pending] = []

    def build(self) -> ValueNode:
        """The root's node; `unsatisfiable_schema` if nothing satisfies it."""
        root = self._node(frozenset((Literal(self._document.root),)))
        while self._todo:
            self._budget.tick()
            self._expand(self._todo.pop())
        self._settle()
        if not root.is_writable:
            raise GrammarError(
                "unsatisfiable_schema", "JSON Schema: no value satisfies it", pointer=""
            )
        return root

    def _node(self, value: Value) -> ValueNode:
        found = self._nodes.get(value)
        if found is None:
            found = self._nodes[value] = ValueNode(value)
            self._todo.append(found)
        return found

    def _expand(self, node: ValueNode) -> None:
        if node.value == NOTHING:
            return
        pointer = _pointer(node.value)
        for kind in _possible_types(node.value):
            formula = self._formulas.of_value(node.value, kind)
            if formula == facts.FALSE:
                continue
            for conjunction in self._cases(formula, pointer):
                getattr(self, f"_add_{kind}")(node, conjunction, pointer)

    def _cases(self, formula: Formula, pointer: str) -> list[Conjunction]:
        return cases(formula, self._formulas.outlines, self._budget, pointer)

    def _settle(self) -> None:
        """Find out which values can be written: those with a scalar, then what needs only such."""
        todo = self._pending[::-1]  # mostly inner ones first
        for node in self._nodes.values():
            node.is_writable = bool(node.terminals)
        changed = True
        while changed:
            changed = False
            for pending in todo:
                if not pending.owner.is_writable and self._can_finish(pending.node):
                    pending.owner.is_writable = changed = True
        for pending in self._pending:
            if self._finish(pending.node):
                pending.owner.nodes.append(pending.node)

    # -- which objects and arrays can be written, given the values known to be

    def _can_finish(self, node: "ObjectNode | ArrayNode") -> bool:
        """Is it sure already? (Optional parts are only used where they have to be.)"""
        if isinstance(node, ObjectNode):
            return self._object_can_finish(node)
        return self._array_can_finish(node)

    def _usable(self, node: ObjectNode) -> int:
        return sum(1 << at for at, value in enumerate(node.values) if _writable(value))

    def _object_can_finish(self, node: ObjectNode) -> bool:
        usable = self._usable(node)
        if node.required & ~usable:
            return False
        needed = node.required.bit_count() + (node.wanted is not None)
        if node.high is not None and needed > node.high:
            return False
        others = node.other_names is not None and any(map(_writable, node.other_values))
        if node.wanted is not None and not any(map(_writable, node.wanted.values.values())):
            return False
        return node.low <= usable.bit_count() or others

    def _array_can_finish(self, node: ArrayNode) -> bool:
        if node.counters:
            copy = ArrayNode(node.first, node.rest, node.low, node.high, node.counters, node.layout)
            return self._finish_array(copy)
        for ways in node.first[: node.low]:
            if not any(_writable(way.value) for way in ways):
                return False
        return node.low <= len(node.first) or any(_writable(way.value) for way in node.rest)

    def _finish(self, node: "ObjectNode | ArrayNode") -> bool:
        if isinstance(node, ArrayNode):
            return self._finish_array(node)
        if node.other_names is not None:
            self._drop_unwritable_others(node)
        if node.wanted is not None:
            values = {
                label: value for label, value in node.wanted.values.items() if _writable(value)
            }
            if not values or node.other_names is None:
                return False
            node.wanted = Wanted(values)
        return node.finish(self._usable(node))

    def _drop_unwritable_others(self, node: ObjectNode) -> None:
        names = node.other_names
        writable = [_writable(value) for value in node.other_values]
        if not any(writable):
            node.other_names = None
        elif isinstance(names, ClassifiedNames) and not all(writable):
            kept = frozenset(label for label, is_writable in enumerate(writable) if is_writable)
            node.other_names = names.restricted(kept, self._budget)

    def _finish_array(self, node: ArrayNode) -> bool:
        writable = {
            id(way.value): _writable(way.value) for ways in (*node.first, node.rest) for way in ways
        }
        found = node.finish(writable, self._budget.limits.explored_states)
        if found is None:
            raise GrammarError(
                "grammar_too_complex",
                "JSON Schema: contains with these counts and lengths needs too many states",
            )
        return found

    # -- scalars

    def _add_null(self, node: ValueNode, conjunction: Conjunction, pointer: str) -> None:
        node.terminals.append(NULL)

    def _add_boolean(self, node: ValueNode, conjunction: Conjunction, pointer: str) -> None:
        values = booleans(conjunction)
        if values:
            node.terminals.append(BOOLEANS[values])

    def _add_number(self, node: ValueNode, conjunction: Conjunction, pointer: str) -> None:
        allowed, listed = numbers(conjunction)
        if len(allowed.no_steps) > 1:
            _too_complex(pointer, "more than one multipleOf under not")
        if listed is not None:
            listed = frozenset(value for value in listed if allowed.contains(value))
            if listed:
                node.terminals.append(number_list(listed, allowed.plain))
        elif not number(allowed).is_empty:
            node.terminals.append(number(allowed))

    def _add_string(self, node: ValueNode, conjunction: Conjunction, pointer: str) -> None:
        found = self._string(conjunction)
        if found is not None:
            node.terminals.append(found)

    def _string(self, conjunction: Conjunction) -> Terminal | None:
        low, high = 0, None  # type: tuple[int, int | None]
        excluded = frozenset[str]()
        listed: frozenset[str] | None = None
        parts: list[facts.Pattern | facts.Format] = []
        for fact in conjunction:
            match fact:
                case facts.Length(least, most):
                    low = max(low, least)
                    high = most if high is None else high if most is None else min(high, most)
                case facts.Strings(values, holds):
                    if holds:
                        listed = values if listed is None else listed & values
                    else:
                        excluded |= values
                case facts.Pattern() | facts.Format():
                    parts.append(fact)
        if listed is not None:
            return self._listed_strings(listed - excluded, parts, low, high)
        if high is not None and low > high:
            return None
        if not excluded and not parts:
            return (
                strings.quoted_length((low, high), self._budget)
                if low or high is not None
                else strings.ANY_STRING
            )
        if not excluded and len(parts) == 1 and parts[0].holds and not low and high is None:
            (part,) = parts
            if isinstance(part, facts.Pattern):
                found = self._located(strings.quoted_pattern, part.pattern)
            else:
                found = strings.quoted_format(part.name, self._budget)
        else:
            automata = [(self._automaton(part), part.holds) for part in parts]
            found = strings.Quoted(strings.constrain(automata, excluded, low, high, self._budget))
        return found if found.automaton.start is not None else None

    def _automaton(self, part: facts.Pattern | facts.Format) -> CharAutomaton:
        if isinstance(part, facts.Pattern):
            return self._pattern(part.pattern)
        return strings.format_automaton(part.name, self._budget)

    def _pattern(self, pattern: str) -> CharAutomaton:
        return self._located(strings.pattern_automaton, pattern)

    def _located(self, make: Callable[[str, Budget], Made], pattern: str) -> Made:
        """Make something of a pattern; its errors say where in the schema it stands."""
        try:
            return make(pattern, self._budget)
        except GrammarError as error:
            error.pointer = self._document.pattern_places.get(pattern)
            if error.pointer is not None:
                error.message = f"JSON Schema {error.pointer}: {error.message}"
                error.args = (error.message,)
            raise

    def _listed_strings(
        self,
        texts: frozenset[str],
        parts: Iterable[facts.Pattern | facts.Format],
        low: int,
        high: int | None,
    ) -> Terminal | None:
        kept = frozenset(
            text
            for text in texts
            if low <= len(text)
            and (high is None or len(text) <= high)
            and all(strings.matches(self._automaton(part), text) == part.holds for part in parts)
        )
        return string_list(kept) if kept else None

    # -- arrays

    def _add_array(self, node: ValueNode, conjunction: Conjunction, pointer: str) -> None:
        low, high = 0, None  # type: tuple[int, int | None]
        unique: Schema | None = None
        counted: list[facts.SomeItems] = []
        edges = {0}
        for fact in conjunction:
            match fact:
                case facts.Size(least, most):
                    low = max(low, least)
                    high = most if high is None else high if most is None else min(high, most)
                case facts.Item(index, _):
                    edges |= {index, index + 1}
                case facts.Items(start, _):
                    edges.add(start)
                case facts.SomeItems(start):
                    edges.add(start)
                    counted.append(fact)
                case facts.Unique(where):
                    unique = where
        if high is not None and low > high:
            return
        num_first = max(edges)
        if num_first > self._budget.limits.explored_states:
            _too_complex(pointer, f"an item at index {num_first}")
        ways = [self._ways(conjunction, counted, index) for index in range(num_first + 1)]
        counters = tuple(Counter(item.start, item.low, item.high) for item in counted)
        made = ArrayNode(ways[:-1], ways[-1], low, high, counters, self._layout)
        if unique is not None and (high is None or high > 1):
            self._make_unique(made, unique)
        self._pending.append(_Pending(node, made))

    def _ways(
        self, conjunction: Conjunction, counted: list[facts.SomeItems], index: int
    ) -> list[Way]:
        """Ways for the item at this index, by which of the counters it counts for."""
        asked: Value = frozenset()
        for fact in conjunction:
            if (isinstance(fact, facts.Item) and fact.index == index) or (
                isinstance(fact, facts.Items) and fact.start <= index
            ):
                asked |= fact.value
        options: list[tuple[int, Value]] = [(0, asked)]
        for number_, some in enumerate(counted):
            if index < some.start:
                continue
            # an item that is not counted need not fail, unless there is a most
            without = negate_value(some.value) if some.high is not None else frozenset()
            options = [
                option
                for bits, value in options
                for option in ((bits, value | without), (bits | 1 << number_, value | some.value))
            ]
        return [Way(bits, self._node(value)) for bits, value in options]

    def _make_unique(self, node: ArrayNode, where: Schema) -> None:
        """Items that must differ have to be scalars: their texts are told apart."""
        if node.counters or node.first:
            where.refuse("uniqueItems", "beside contains or items that differ by position")
        (way,) = node.rest
        value = way.value
        assert isinstance(value, ValueNode)
        terminals: list[Terminal] = []
        count: int | None = 0
        for kind in TYPES:
            formula = self._formulas.of_value(value.value, kind)
            if formula == facts.FALSE:
                continue
            if kind in ("array", "object"):
                where.refuse("uniqueItems", f"items may be {kind}s; only scalars can be told apart")
            for conjunction in self._cases(formula, where.pointer):
                listed = self._unique_terminals(kind, conjunction, terminals, where)
                count = None if listed is None or count is None else count + listed
        if all(isinstance(terminal, Literals) for terminal in terminals):
            texts = (each.texts for each in terminals if isinstance(each, Literals))
            node.choices = list(dict.fromkeys(text for each in texts for text in each))
            count = len(node.choices)
        node.unique = terminals
        node.num_unique = count

    def _unique_terminals(
        self, kind: str, conjunction: Conjunction, out: list[Terminal], where: Schema
    ) -> int | None:
        """Add terminals that write each value in one way; how many values, None if no end."""
        if kind == "null":
            out.append(NULL)
            return 1
        if kind == "boolean":
            values = booleans(conjunction)
            if values:
                out.append(BOOLEANS[values])
            return len(values)
        if kind == "number":
            allowed, listed = numbers(conjunction)
            if listed is not None:
                kept = [value for value in listed if allowed.contains(value)]
                texts = sorted(min(_spellings(value), key=len).encode() for value in kept)
                if texts:
                    out.append(Literals(texts))
                return len(texts)
            terminal = number(allowed)
            if not allowed.is_integral:
                where.refuse("uniqueItems", "numbers with a fraction; use integers or strings")
            if not terminal.is_empty:
                out.append(plain_integer(allowed))
            return _num_integers(allowed)
        found = self._string(conjunction)
        if found is None:
            return 0
        out.append(found)
        return len(found.texts) if isinstance(found, Literals) else None

    # -- objects

    def _add_object(self, node: ValueNode, conjunction: Conjunction, pointer: str) -> None:
        some = [fact for fact in conjunction if isinstance(fact, facts.SomeMember)]
        if not some:
            self._add_members(node, conjunction, None, (), pointer)
            return
        if len(some) > 1:
            _too_complex(pointer, "more than one member of unknown name is asked for (under not)")
        # the member that is asked for is a declared one, or another
        (wanted,) = some
        names = self._declared(conjunction)
        for name in names:
            if self._has(wanted.keys, name):
                asked = (facts.Required(name), facts.Member(name, wanted.value))
                self._add_members(node, (*conjunction, *asked), None, (), pointer)
        self._add_members(node, conjunction, wanted, (), pointer)

    def _declared(self, conjunction: Conjunction) -> list[str]:
        names: dict[str, None] = {}
        required: dict[str, None] = {}
        for fact in conjunction:
            if isinstance(fact, facts.Member):
                names[fact.name] = None
            elif isinstance(fact, facts.Required):
                required[fact.name] = None
            elif isinstance(fact, (facts.Members, facts.SomeMember)):
                required |= dict.fromkeys(sorted(fact.keys.outside_names))
        return list(names | required)

    def _has(self, keys: facts.Keys, name: str) -> bool:
        if keys.pattern is not None and not strings.matches(self._pattern(keys.pattern), name):
            return False
        if name in keys.outside_names:
            return False
        if any(strings.matches(self._pattern(pattern), name) for pattern in keys.outside_patterns):
            return False
        return keys.outside_value is None or not strings.matches(
            self._name_automaton(keys.outside_value), name
        )

    def _name_automaton(self, value: Value) -> CharAutomaton:
        """The strings that satisfy a Value, as an automaton over names."""
        formula = self._formulas.of_value(value, "string")
        automata: list[tuple[CharAutomaton, bool]] = []
        for conjunction in self._cases(formula, _pointer(value)):
            listed = [
                fact.values
                for fact in conjunction
                if isinstance(fact, facts.Strings) and fact.holds
            ]
            if listed:
                kept = frozenset.intersection(*listed)
                rest = tuple(
                    fact
                    for fact in conjunction
                    if not (isinstance(fact, facts.Strings) and fact.holds)
                )
                inner = self._string(rest)
                if isinstance(inner, strings.Quoted):
                    kept = frozenset(
                        text for text in kept if strings.matches(inner.automaton, text)
                    )
                automata.append((Words(sorted(kept)), False))
            else:
                found = self._string(conjunction)
                if isinstance(found, strings.Quoted):
                    automata.append((found.automaton, False))
        if len(automata) == 1:
            return automata[0][0]
        if not automata:
            return Words(())
        neither = Product(automata, self._budget, "propertyNames")
        return Product([(neither, False)], self._budget, "propertyNames")

    def _add_members(
        self,
        node: ValueNode,
        conjunction: Conjunction,
        wanted: facts.SomeMember | None,
        more_names: tuple[str, ...],
        pointer: str,
    ) -> None:
        names = list(dict.fromkeys((*self._declared(conjunction), *more_names)))
        low, high = 0, None  # type: tuple[int, int | None]
        asked: dict[str, Value] = dict.fromkeys(names, frozenset())
        required = set[str]()
        groups: list[facts.Members] = []
        for fact in conjunction:
            match fact:
                case facts.Size(least, most):
                    low = max(low, least)
                    high = most if high is None else high if most is None else min(high, most)
                case facts.Member(name, value):
                    asked[name] |= value
                case facts.Required(name):
                    required.add(name)
                case facts.Members():
                    groups.append(fact)
        if high is not None and low > high:
            return
        for group in groups:
            for name in names:
                if self._has(group.keys, name):
                    asked[name] |= group.value
        values: list[Node] = [self._node(value) for value in asked.values()]
        made = ObjectNode(names, values, frozenset(required), low, high, self._order, self._layout)
        listed = self._other_names(made, groups, wanted)
        if listed is not None:  # few enough to declare them
            self._add_listed(node, conjunction, wanted, listed, more_names, pointer)
            return
        self._pending.append(_Pending(node, made))

    def _add_listed(
        self,
        node: ValueNode,
        conjunction: Conjunction,
        wanted: facts.SomeMember | None,
        listed: list[str],
        more_names: tuple[str, ...],
        pointer: str,
    ) -> None:
        closed = facts.Members(
            facts.Keys(None, frozenset((*self._declared(conjunction), *more_names, *listed))),
            NOTHING,
        )
        everything = (*conjunction, closed)
        if wanted is None:
            self._add_members(node, everything, None, (*more_names, *listed), pointer)
            return
        for name in listed:
            if self._has(wanted.keys, name):
                asked = (facts.Required(name), facts.Member(name, wanted.value))
                self._add_members(node, (*everything, *asked), None, tuple(listed), pointer)

    def _other_names(
        self, node: ObjectNode, groups: list[facts.Members], wanted: facts.SomeMember | None
    ) -> list[str] | None:
        """Set the names that are not declared. A list of them where they are few."""
        if wanted is not None:
            node.wanted = Wanted({})  # no object, unless a name for it is found
        keys = [group.keys for group in groups] + ([wanted.keys] if wanted else [])
        conditions = list(dict.fromkeys(part for key in keys for part in _conditions(key)))
        if not conditions and node.trie.is_plain:
            value = frozenset[Any]().union(*(group.value for group in groups))
            if value >= NOTHING:
                return None
            node.other_values = [self._node(value)]
            node.other_names = (
                OtherNames(node.trie, self._free_names) if node.names else self._free_names
            )
            if wanted is not None:
                node.wanted = Wanted({0: self._node(value | wanted.value)})
            return None
        return self._classify(node, groups, wanted, conditions)

    def _classify(
        self,
        node: ObjectNode,
        groups: list[facts.Members],
        wanted: facts.SomeMember | None,
        conditions: "list[str | Value]",
    ) -> list[str] | None:
        """Other names by which of the conditions they meet."""
        automata = [
            self._pattern(part) if isinstance(part, str) else self._name_automaton(part)
            for part in conditions
        ]
        declared = Words(node.names)

        def met(states: tuple[Any, ...]) -> frozenset[str | Value]:
            return frozenset(
                part
                for part, automaton, state in zip(conditions, automata, states, strict=False)
                if state is not None and automaton.accepts(state)
            )

        @cache
        def value_of(held: frozenset[str | Value]) -> Value:
            parts = [group.value for group in groups if _meets(group.keys, held)]
            return frozenset[Any]().union(*parts)

        def accepts(states: tuple[Any, ...]) -> bool:
            if states[-1] is not None and declared.accepts(states[-1]):
                return False
            return not value_of(met(states)) >= NOTHING

        table = side_by_side(
            [*automata, declared], lambda states: False, accepts, self._budget, "property names"
        )
        if table.start is None:
            return None
        listed = few_texts(table, MAX_LISTED_NAMES)
        if listed is not None:
            return listed
        kinds = {
            state: met(states) for state, states in enumerate(table.keys) if table.final[state]
        }
        held_at = list(dict.fromkeys(kinds.values()))  # the label is the place in this list
        node.other_values = [self._node(value_of(held)) for held in held_at]
        if wanted is not None:
            node.wanted = Wanted(
                {
                    label: self._node(value_of(held) | wanted.value)
                    for label, held in enumerate(held_at)
                    if _meets(wanted.keys, held)
                }
            )
        labels = {state: held_at.index(held) for state, held in kinds.items()}
        node.other_names = ClassifiedNames(table, labels, self._layout.after_colon)
        return None


def _writable(node: Node) -> bool:
    assert isinstance(node, ValueNode)
    return node.is_writable


def _conditions(keys: facts.Keys) -> "Iterator[str | Value]":
    """What has to be known of a name to tell whether it is one of these."""
    if keys.pattern is not None:
        yield keys.pattern
    yield from sorted(keys.outside_patterns)
    if keys.outside_value is not None:
        yield keys.outside_value


def _meets(keys: facts.Keys, held: "frozenset[str | Value]") -> bool:
    """Is a name (not a declared one) for which just these conditions hold among the keys?"""
    return (
        (keys.pattern is None or keys.pattern in held)
        and not keys.outside_patterns & held
        and keys.outside_value not in held
    )


def _num_integers(allowed: NumberSet) -> int | None:
    if allowed.low is None or allowed.high is None or allowed.step is None:
        return None
    return int((allowed.high - allowed.low) // allowed.step) + 1


def _possible_types(value: Value) -> tuple[str, ...]:
    """Types that the value's own `type` keywords leave; most places name one."""
    kinds: tuple[str, ...] = TYPES
    for item in value:
        if isinstance(item, Literal) and item.holds and isinstance(item.schema.value, dict):
            if "$ref" in item.schema.value:  # beside which draft 7 ignores the rest
                continue
            named = item.schema.value.get("type")
            if isinstance(named, str) and named in TYPES:
                kinds = tuple(kind for kind in kinds if kind == named)
            elif named == "integer":
                kinds = tuple(kind for kind in kinds if kind == "number")
    return kinds


def _pointer(value: Value) -> str:
    found = sorted(item.schema.pointer for item in value if isinstance(item, Literal))
    return found[0] if found else ""


def _too_complex(pointer: str, what: str) -> NoReturn:
    raise GrammarError(
        "grammar_too_complex", f"JSON Schema {pointer or '#'}: {what}", pointer=pointer
    )
