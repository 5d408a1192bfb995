"""The tree of a regular expression."""

from dataclasses import dataclass
from typing import Literal

from ramify.grammars import charsets
from ramify.grammars.charsets import CharSet


@dataclass(frozen=True, slots=True)
class Char:
    """One character of a set."""

    charset: CharSet


@dataclass(frozen=True, slots=True)
class Sequence:
    """Parts one after the other; no part is the empty text."""

    parts: "tuple[Tree, ...]"


@dataclass(frozen=True, slots=True)
class Choice:
    """Any one of the options."""

    options: "tuple[Tree, ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """`low` to `high` times; no end if `high` is None."""

    body: "Tree"
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Edge:
    """The start or the end of the whole text."""

    where: Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class Previous:
    """The character before this point is (not) one of the set; the start has none before it."""

    charset: CharSet
    negated: bool


@dataclass(frozen=True, slots=True)
class Look:
    """From here on the text begins (does not begin) with the body."""

    body: "Tree"
    negated: bool


Tree = Char | Sequence | Choice | Repeat | Edge | Previous | Look
EMPTY = Sequence(())


def parts_of(tree: Tree) -> "tuple[Tree, ...]":
    """What it is made of."""
    match tree:
        case Sequence(parts) | Choice(parts):
            return parts
        case Repeat(body) | Look(body):
            return (body,)
    return ()


def single_char(tree: Tree) -> CharSet | None:
    """The set of the tree's texts, if all of them are one character long."""
    found = next_chars(tree)
    return None if found is None or found[1] else found[0]


def next_chars(tree: Tree) -> tuple[CharSet, bool] | None:
    """What the tree asks of what follows, if that is one character at most: those it may be, and
    whether it may be the end."""
    if isinstance(tree, Char):
        return tree.charset, False
    if tree == Edge("end"):
        return (), True
    if isinstance(tree, Choice):
        options = [next_chars(option) for option in tree.options]
        known = [option for option in options if option is not None]
        if len(known) == len(options):
            return charsets.union(*(chars for chars, _ in known)), any(end for _, end in known)
    return None


def without_edge(tree: Tree, where: Literal["start", "end"]) -> Tree | None:
    """What is left of a tree whose texts all have to begin (end) where the whole text does; None
    if some need not."""
    if isinstance(tree, Edge):
        return EMPTY if tree.where == where else None
    if isinstance(tree, Sequence) and tree.parts:
        at = 0 if where == "start" else len(tree.parts) - 1
        part = without_edge(tree.parts[at], where)
        return part and Sequence((*tree.parts[:at], part, *tree.parts[at + 1 :]))
    if isinstance(tree, Choice):
        options = [without_edge(option, where) for option in tree.options]
        kept = tuple(option for option in options if option is not None)
        return Choice(kept) if len(kept) == len(options) else None
    return None


def possessive(charset: CharSet, low: int, high: int | None) -> Tree:
    """As many characters of the set as there are, up to `high`."""
    body, stop = Char(charset), Look(Char(charset), True)
    if high is None:
        return Sequence((Repeat(body, low, None), stop))
    all_of_them = Repeat(body, high, high)
    if high == low:
        return all_of_them
    return Choice((all_of_them, Sequence((Repeat(body, low, high - 1), stop))))


def looks_far(tree: Tree) -> bool:
    """Has it a lookahead of more than one character?"""
    if isinstance(tree, Look):
        return next_chars(tree.body) is None
    if isinstance(tree, Repeat):
        return looks_far(tree.body)
    parts = (
        tree.parts
        if isinstance(tree, Sequence)
        else tree.options
        if isinstance(tree, Choice)
        else ()
    )
    return any(map(looks_far, parts))
