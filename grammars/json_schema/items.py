"""Arrays of a case: what each item has to be, which are counted, and which must differ."""

from ramify.grammars.json_schema import facts
from ramify.grammars.json_schema.arrays import ArrayNode, Counter, Way
from ramify.grammars.json_schema.cases import Conjunction, booleans, numbers
from ramify.grammars.json_schema.context import Context, ValueNode, too_complex
from ramify.grammars.json_schema.document import Schema
from ramify.grammars.json_schema.facts import Value, negate_value
from ramify.grammars.json_schema.json_values import TYPES
from ramify.grammars.json_schema.layout import BOOLEANS, NULL
from ramify.grammars.json_schema.numbers import NumberSet, number, plain_integer
from ramify.grammars.json_schema.scalars import Scalars, spellings
from ramify.grammars.terminals import Literals, Terminal


class Items:
    """Makes the arrays of cases."""

    def __init__(self, context: Context, scalars: Scalars) -> None:
        self._context = context
        self._scalars = scalars

    def add(self, owner: ValueNode, conjunction: Conjunction, pointer: str) -> None:
        """Add the arrays of a case to a value's alternatives."""
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
        if num_first > self._context.budget.limits.explored_states:
            too_complex(pointer, f"an item at index {num_first}")
        ways = [self._ways(conjunction, counted, index) for index in range(num_first + 1)]
        counters = tuple(Counter(item.start, item.low, item.high) for item in counted)
        made = ArrayNode(ways[:-1], ways[-1], low, high, counters, self._context.layout)
        if unique is not None and (high is None or high > 1):
            self._make_unique(made, unique)
        self._context.pending.append((owner, made))

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
        return [Way(bits, self._context.node(value)) for bits, value in options]

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
            found = self._context.cases(value.value, kind)
            if found and kind in ("array", "object"):
                where.refuse("uniqueItems", f"items may be {kind}s; only scalars can be told apart")
            for conjunction in found:
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
                texts = sorted(min(spellings(value), key=len).encode() for value in kept)
                if texts:
                    out.append(Literals(texts))
                return len(texts)
            terminal = number(allowed)
            if not allowed.is_integral:
                where.refuse("uniqueItems", "numbers with a fraction; use integers or strings")
            if not terminal.is_empty:
                out.append(plain_integer(allowed))
            return _num_integers(allowed)
        found = self._scalars.string(conjunction)
        if found is None:
            return 0
        out.append(found)
        return len(found.texts) if isinstance(found, Literals) else None


def _num_integers(allowed: NumberSet) -> int | None:
    if allowed.low is None or allowed.high is None or allowed.step is None:
        return None
    return int((allowed.high - allowed.low) // allowed.step) + 1
