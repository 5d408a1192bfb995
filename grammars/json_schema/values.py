"""The nodes of a schema: each Value that occurs, with its alternatives."""

from ramify.grammars.errors import GrammarError
from ramify.grammars.json_schema.context import Context, ValueNode
from ramify.grammars.json_schema.document import Document
from ramify.grammars.json_schema.facts import NOTHING, satisfying
from ramify.grammars.json_schema.items import Items
from ramify.grammars.json_schema.keywords import Options
from ramify.grammars.json_schema.layout import Whitespace
from ramify.grammars.json_schema.members import Members
from ramify.grammars.json_schema.objects import Order
from ramify.grammars.json_schema.scalars import Scalars
from ramify.grammars.json_schema.writable import settle
from ramify.grammars.limits import Budget

_STEPS_PER_VALUE = 40


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
        self._context = Context(document, options, order, whitespace, budget)
        self._scalars = Scalars(self._context)
        self._items = Items(self._context, self._scalars)
        self._members = Members(self._context, self._scalars)

    def build(self) -> ValueNode:
        """The root's node; `unsatisfiable_schema` if nothing satisfies it."""
        context = self._context
        root = context.node(satisfying(context.document.root))
        while context.todo:
            context.budget.tick(_STEPS_PER_VALUE)
            self._expand(context.todo.pop())
        settle(context)
        if not root.is_writable:
            raise GrammarError(
                "unsatisfiable_schema", "JSON Schema: no value satisfies it", pointer=""
            )
        return root

    def _expand(self, node: ValueNode) -> None:
        if node.value == NOTHING:
            return
        for kind, conjunctions in self._context.kinds(node.value):
            for conjunction in conjunctions:
                if kind == "object":
                    self._members.add(node, conjunction)
                elif kind == "array":
                    self._items.add(node, conjunction)
                else:
                    terminal = self._scalars.terminal(kind, conjunction, node.value)
                    if terminal is not None:
                        node.terminals.append(terminal)
