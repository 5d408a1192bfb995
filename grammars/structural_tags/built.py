"""Nodes of structural tags, and what has to be known to put them together."""

from typing import NamedTuple

from ramify.grammars.machine import Node
from ramify.grammars.structural_tags.marks import Mark, Marks, after
from ramify.grammars.structural_tags.nodes import InOrder, OneOf, Opening
from ramify.grammars.structural_tags.texts import Around, Section
from ramify.grammars.terminals import Terminal

TEXT_RUN = 4  # free text that others follow may end at every character
NOTHING = InOrder(())


class Built(NamedTuple):
    """A format's node."""

    node: Node
    may_be_empty: bool
    run: int = 0  # how many that may be empty come in a row, at most: each may begin at once

    @property
    def weight(self) -> int:
        """Of it in a sequence."""
        return max(self.run, int(self.may_be_empty))


class Tag(NamedTuple):
    """A tag in its parts."""

    begin: Mark
    rest: Built  # its content and its end
    at: str


def read(terminal: Terminal) -> Node:
    """A node that is one terminal."""
    return Opening(terminal, [NOTHING])


def text_part(node: Node, around: Around) -> Built:
    """Free text."""
    return Built(node, True, 1 if around.is_last else TEXT_RUN)


def closed(content: Built, around: Around) -> Built:
    """With the end of the tag around, where that is what follows."""
    if not around.closes:
        return content
    return Built(InOrder([content.node, read(Marks([around.ends]))]), False, content.run)


def opening(tags: list[Tag], num_read: int = 0) -> Node:
    """Any of the tags, some bytes of their begins being read."""
    by_begin: dict[Mark, list[Node]] = {}
    for tag in tags:
        by_begin.setdefault(after(tag.begin, num_read), []).append(tag.rest.node)
    contents = [nodes[0] if len(nodes) == 1 else OneOf(nodes) for nodes in by_begin.values()]
    return Opening(Marks([(mark,) for mark in by_begin]), contents)


def sections_of(trigger: Mark, tags: list[Tag], at: str) -> list[Section]:
    """What follows a trigger, and what follows a special token that the trigger ends inside of."""
    num_read = len(trigger.text)
    across: dict[Mark, list[Tag]] = {}
    ends: dict[Mark, int] = {}
    for tag in tags:
        for token_id, start, end in tag.begin.shortcuts:
            if start < num_read < end:
                mark = Mark(tag.begin.text[:start], token_id=token_id)
                across.setdefault(mark, []).append(tag)
                ends[mark] = end
    inside = [Section(mark, opening(tags, ends[mark]), at) for mark, tags in across.items()]
    return [Section(trigger, opening(tags, num_read), at), *inside]
