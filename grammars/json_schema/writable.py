"""Which values can be written at all: so no part of a grammar leads to a dead end."""

from collections.abc import Iterable
from typing import cast

from ramify.grammars.errors import GrammarError
from ramify.grammars.json_schema.arrays import ArrayNode, Way
from ramify.grammars.json_schema.context import Context, ValueNode, pointer_of
from ramify.grammars.json_schema.objects import ObjectNode, Wanted
from ramify.grammars.json_schema.recording import UniqueArray, few_scalars, items_left
from ramify.grammars.limits import Budget
from ramify.grammars.machine import Node


def settle(context: Context) -> None:
    """Give each value those of its objects and arrays that can be written: values with a scalar
    can be, then what needs only such, and so on."""
    todo = context.pending[::-1]  # mostly inner ones first
    for node in context.nodes.values():
        node.is_writable = bool(node.terminals)
    composed = {id(owner) for owner, _ in todo}
    for _, made in todo:
        if isinstance(made, ArrayNode) and made.unique is not None:
            made.texts = [_few(ways, composed) for ways in (*made.first, made.rest)]
    changed = True
    while changed:
        changed = False
        for owner, made in todo:
            if not owner.is_writable and _can_finish(owner, made, context.budget):
                owner.is_writable = changed = True
    unique: list[ArrayNode] = []
    for owner, made in context.pending:
        if _finish(owner, made, context.budget):
            if isinstance(made, ArrayNode) and made.unique is not None:
                unique.append(made)
                owner.nodes.append(UniqueArray(made))
            else:
                owner.nodes.append(made)
    for array in unique:
        _check_unique(array)


def _few(ways: list[Way], composed: set[int]) -> frozenset[str] | None:
    """All texts of an item, if they are few. Of a value that may be composed there is no telling
    yet."""
    if len(ways) != 1 or id(ways[0].value) in composed:
        return None
    return few_scalars(cast(ValueNode, ways[0].value))


def _may_differ(node: ArrayNode) -> bool:
    return node.unique is None or not node.low or items_left(node, 0, frozenset())[0]


def _check_unique(node: ArrayNode) -> None:
    """Items that must differ have to be scalars, or such that each can always go on: else one that
    equals another so far might find no other end."""
    assert node.unique is not None
    for ways in (*node.first, node.rest):
        values = [cast(ValueNode, way.value) for way in ways]
        if not all(_is_endless(each) for value in values for each in value.nodes):
            node.unique.refuse(
                "uniqueItems",
                "items may be objects without further members, or arrays of a bounded length; "
                "allow additionalProperties, or drop maxItems and the like",
            )
    node.texts = [_few(ways, set()) for ways in (*node.first, node.rest)]
    if not _may_differ(node):
        node.unique.refuse("uniqueItems", f"there are no {node.low} items that all differ")


def _is_endless(node: Node) -> bool:
    """Can every object (array) become another one by one member (item) more?"""
    if isinstance(node, ObjectNode):
        names = node.other_names
        return node.high is None and names is not None and names.is_endless
    return isinstance(node, ArrayNode) and node.high is None and not node.counters


def _can_finish(owner: ValueNode, node: ObjectNode | ArrayNode, budget: Budget) -> bool:
    """Is it sure already? (Optional parts are only used where they have to be.)"""
    if isinstance(node, ObjectNode):
        return _object_can_finish(node)
    if node.counters:
        copy = ArrayNode(node.first, node.rest, node.low, node.high, node.counters, node.layout)
        return _finish_array(owner, copy, budget)
    for ways in node.first[: node.low]:
        if not any(_writable(way.value) for way in ways):
            return False
    if node.low > len(node.first) and not any(_writable(way.value) for way in node.rest):
        return False
    return _may_differ(node)


def _object_can_finish(node: ObjectNode) -> bool:
    usable = _usable(node)
    if node.required & ~usable:
        return False
    if node.wanted is not None:
        node = _probe(node)
    if node.least() is None:
        return False
    others = node.other_names is not None and any(map(_writable, node.other_values))
    return node.low <= usable.bit_count() or others


def _probe(node: ObjectNode) -> ObjectNode:
    """The object with only what can be written already of what is wanted."""
    assert node.wanted is not None
    copy = ObjectNode(
        node.names, node.values, frozenset(), node.low, node.high, node.order, node.layout
    )
    copy.required = node.required
    copy.other_names, copy.other_values = node.other_names, node.other_values
    copy.wanted = _writable_wanted(node.wanted)
    return copy


def _writable_wanted(wanted: Wanted) -> Wanted:
    return Wanted(
        {key: value for key, value in wanted.values.items() if _writable(value)}, wanted.num
    )


def _usable(node: ObjectNode) -> int:
    out, bit = 0, 1
    for value in cast(list[ValueNode], node.values):
        if value.is_writable:
            out |= bit
        bit <<= 1
    return out


def _finish(owner: ValueNode, node: ObjectNode | ArrayNode, budget: Budget) -> bool:
    if isinstance(node, ArrayNode):
        return _finish_array(owner, node, budget)
    if node.other_names is not None:
        _drop_unwritable_others(node, budget)
    if node.wanted is not None:
        node.wanted = _writable_wanted(node.wanted)
        if node.other_names is None:
            return False
    return node.finish(_usable(node), budget)


def _drop_unwritable_others(node: ObjectNode, budget: Budget) -> None:
    names = node.other_names
    writable = [_writable(value) for value in node.other_values]
    if not any(writable):
        node.other_names = None
    elif names is not None and not all(writable):
        kept = frozenset(label for label, is_writable in enumerate(writable) if is_writable)
        node.other_names = names.restricted(kept, budget)


def _finish_array(owner: ValueNode, node: ArrayNode, budget: Budget) -> bool:
    ways = [way for each in (*node.first, node.rest) for way in each]
    found = node.finish(_by_id(way.value for way in ways), budget.limits.explored_states)
    if found is None:
        pointer = pointer_of(owner.value)
        raise GrammarError(
            "grammar_too_complex",
            f"JSON Schema {pointer or '#'}: contains with these counts and lengths needs too many "
            "states",
            pointer=pointer,
        )
    return found and _may_differ(node)


def _by_id(values: Iterable[Node]) -> dict[int, bool]:
    return {id(value): _writable(value) for value in values}


def _writable(node: Node) -> bool:
    assert isinstance(node, ValueNode)
    return node.is_writable
