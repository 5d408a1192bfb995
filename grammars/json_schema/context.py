"""What the makers of a schema's nodes share: the nodes so far, formulas, budget and layout."""

from collections.abc import Callable, Hashable, Iterator
from typing import Any, NoReturn, TypeVar, cast

from ramify.grammars.errors import GrammarError
from ramify.grammars.json_schema.arrays import ArrayNode
from ramify.grammars.json_schema.cases import Conjunction, cases
from ramify.grammars.json_schema.document import Document
from ramify.grammars.json_schema.facts import Literal, Value, is_false
from ramify.grammars.json_schema.formula import Formulas
from ramify.grammars.json_schema.json_values import TYPES
from ramify.grammars.json_schema.keys import FREE_NAMES
from ramify.grammars.json_schema.keywords import Options
from ramify.grammars.json_schema.layout import LAYOUTS, Whitespace
from ramify.grammars.json_schema.objects import ObjectNode, Order
from ramify.grammars.limits import Budget
from ramify.grammars.machine import Machine, Node, Place
from ramify.grammars.terminals import Terminal

Made = TypeVar("Made")


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


class Context:
    """Of one document."""

    def __init__(
        self,
        document: Document,
        options: Options,
        order: Order,
        whitespace: Whitespace,
        budget: Budget,
    ) -> None:
        self.document = document
        self.formulas = Formulas(options)
        self.order: Order = order
        self.layout = LAYOUTS[whitespace]
        self.free_names = FREE_NAMES[whitespace]
        self.budget = budget
        self.nodes: dict[Value, ValueNode] = {}
        self._made: dict[Hashable, Any] = {}
        self.todo: list[ValueNode] = []  # nodes with no alternatives yet
        # objects and arrays, until it is known which values can be written, and whose they are
        self.pending: list[tuple[ValueNode, ObjectNode | ArrayNode]] = []

    def node(self, value: Value) -> ValueNode:
        """The one node of a Value."""
        found = self.nodes.get(value)
        if found is None:
            found = self.nodes[value] = ValueNode(value)
            self.todo.append(found)
        return found

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is made for a key, made the first time that it is asked for."""
        if key not in self._made:
            self._made[key] = make()
        return cast(Made, self._made[key])

    def cases(self, value: Value, kind: str) -> list[Conjunction]:
        """The ways for a value of this type to be as asked."""
        formula = self.formulas.of_value(value, kind)
        if is_false(formula):
            return []
        return cases(formula, self.formulas.outlines, self.budget, lambda: _pointers(value))

    def kinds(self, value: Value) -> Iterator[tuple[str, list[Conjunction]]]:
        """The types that a value may have, each with its cases."""
        possible = self.formulas.outlines.of_value(value).types
        for kind in TYPES:
            found = self.cases(value, kind) if kind in possible else None
            if found:
                yield kind, found


def pointer_of(value: Value) -> str:
    """Where the Value comes from: of several schemas the first by name."""
    return _pointers(value)[0]


def _pointers(value: Value) -> list[str]:
    return sorted(item.schema.pointer for item in value if isinstance(item, Literal)) or [""]


def too_complex(value: Value, what: str) -> NoReturn:
    """Raise `grammar_too_complex` for a Value."""
    pointer = pointer_of(value)
    raise GrammarError(
        "grammar_too_complex", f"JSON Schema {pointer or '#'}: {what}", pointer=pointer
    )
