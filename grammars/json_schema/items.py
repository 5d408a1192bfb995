"""Arrays of a case: what each item has to be, which are counted, and which must differ."""

from ramify.grammars.json_schema import facts
from ramify.grammars.json_schema.arrays import ArrayNode, Counter, Way
from ramify.grammars.json_schema.cases import Conjunction
from ramify.grammars.json_schema.context import Context, ValueNode, too_complex
from ramify.grammars.json_schema.facts import Value, negate_value
from ramify.grammars.json_schema.scalars import Scalars
from ramify.grammars.json_schema.schema import Schema


class Items:
    """Makes the arrays of cases."""

    def __init__(self, context: Context, scalars: Scalars) -> None:
        self._context = context
        self._scalars = scalars

    def add(self, owner: ValueNode, conjunction: Conjunction) -> None:
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
            too_complex(owner.value, f"an item at index {num_first}")
        items: dict[int, Value] = {}
        rest = [fact for fact in conjunction if isinstance(fact, facts.Items)]
        for fact in conjunction:
            if isinstance(fact, facts.Item):
                items[fact.index] = items.get(fact.index, frozenset()) | fact.value
        ways = [
            self._ways(
                items.get(index, frozenset()).union(*(f.value for f in rest if f.start <= index)),
                counted,
                index,
            )
            for index in range(num_first + 1)
        ]
        counters = tuple(Counter(item.start, item.low, item.high) for item in counted)
        made = ArrayNode(ways[:-1], ways[-1], low, high, counters, self._context.layout)
        if unique is not None and (high is None or high > 1):
            if counters:
                unique.refuse("uniqueItems", "beside contains")
            made.unique = unique
        self._context.pending.append((owner, made))

    def _ways(self, asked: Value, counted: list[facts.SomeItems], index: int) -> list[Way]:
        """Ways for the item at this index, by which of the counters it counts for."""
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
