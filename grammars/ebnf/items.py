"""What grammar texts are read into: rules as items, and alternatives of symbols."""

from collections.abc import Iterable
from dataclasses import dataclass

from ramify.grammars import regex_tree as syntax
from ramify.grammars.regex_tree import Char, Sequence


@dataclass(frozen=True, slots=True)
class Ref:
    """A rule by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class Seq:
    """Parts one after the other."""

    parts: "tuple[Item, ...]"


@dataclass(frozen=True, slots=True)
class Alt:
    """Any one of the options."""

    options: "tuple[Item, ...]"


@dataclass(frozen=True, slots=True)
class Many:
    """`low` to `high` times; no end if `high` is None."""

    body: "Item"
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Leaf:
    """Text that matches a regex."""

    tree: syntax.Tree


Item = Ref | Seq | Alt | Many | Leaf
Symbol = Ref | Leaf
Alternative = tuple[Symbol, ...]


def text_leaf(text: str) -> Leaf:
    """A literal text."""
    return Leaf(Sequence(tuple(Char(((ord(char), ord(char)),)) for char in text)))


def refs(item: Item) -> list[str]:
    """The rules that an item uses."""
    out: list[str] = []
    todo: list[Item] = [item]
    while todo:
        match todo.pop():
            case Ref(name):
                out.append(name)
            case Seq(parts) | Alt(parts):
                todo += parts
            case Many(body):
                todo.append(body)
    return out


def distinct(ways: Iterable[Alternative]) -> list[Alternative]:
    """Each once, in their order."""
    return list(dict.fromkeys(ways))
