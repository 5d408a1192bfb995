"""What a schema asks of a value of one type: facts, and boolean formulas of them.

A `Value` is what must hold at a place: a set of literals, each a schema that the value must (or
must not) satisfy, or a choice of Values. Facts speak of a value of one type; each can be negated.
"""

from dataclasses import dataclass
from fractions import Fraction

from ramify.grammars.json_schema.schema import Part, Schema


@dataclass(frozen=True, slots=True)
class Literal:
    """The value satisfies the schema; or does not."""

    schema: Schema
    holds: bool = True


@dataclass(frozen=True, slots=True)
class OneOfValues:
    """The value satisfies one of these."""

    values: "tuple[Value, ...]"


@dataclass(frozen=True, slots=True)
class Constant:
    """The value equals this JSON, given canonically (`canonical_json`); or does not."""

    text: str
    holds: bool = True


Value = frozenset[Literal | OneOfValues | Constant]
ANYTHING: Value = frozenset()
NOTHING: Value = frozenset((OneOfValues(()),))


def satisfying(schema: Schema) -> Value:
    """The value satisfies the schema: one Value for many schemas that mean the same."""
    asked: Value | None = schema.asked
    if asked is None:
        same = schema.same
        if same is not schema:
            asked = satisfying(same)
        elif isinstance(schema.value, bool):
            asked = ANYTHING if schema.value else NOTHING
        else:
            asked = frozenset((Literal(schema),))
        schema.asked = asked
    return asked


def satisfying_below(schema: Schema, keyword: str, part: Part = None) -> Value:
    """As `satisfying`, of what is under a keyword."""
    value = schema.value[keyword] if part is None else schema.value[keyword][part]
    if isinstance(value, bool):
        return ANYTHING if value else NOTHING
    return satisfying(schema.below(keyword, part))


def negate_value(value: Value) -> Value:
    """What does not satisfy it."""
    options: list[Value] = []
    for item in value:
        if isinstance(item, Literal):
            options.append(frozenset((Literal(item.schema, not item.holds),)))
        elif isinstance(item, Constant):
            options.append(frozenset((Constant(item.text, not item.holds),)))
        else:  # none of its options: all of their negations
            options.append(frozenset().union(*(negate_value(option) for option in item.values)))
    return options[0] if len(options) == 1 else frozenset((OneOfValues(tuple(options)),))


@dataclass(frozen=True, slots=True)
class Keys:
    """Which member names: those that match the pattern, outside of the rest."""

    pattern: str | None = None
    outside_names: frozenset[str] = frozenset()
    outside_patterns: frozenset[str] = frozenset()
    outside_value: Value | None = None  # names that, as strings, do not satisfy this


@dataclass(frozen=True, slots=True)
class Booleans:
    """A boolean among these."""

    values: frozenset[bool]


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A number >= (or >) the bound."""

    bound: Fraction
    is_open: bool


@dataclass(frozen=True, slots=True)
class AtMost:
    """A number <= (or <) the bound."""

    bound: Fraction
    is_open: bool


@dataclass(frozen=True, slots=True)
class Multiple:
    """A multiple of the step; or not one. `plain`: and written without a fraction."""

    step: Fraction
    holds: bool = True
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Numbers:
    """One of these numbers; or none of them."""

    values: frozenset[Fraction]
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Length:
    """A string of low to high characters."""

    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A string in which the pattern matches somewhere; or nowhere."""

    pattern: str
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Format:
    """A string of the format; or not of it."""

    name: str
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Strings:
    """One of these strings; or none of them."""

    values: frozenset[str]
    holds: bool = True


@dataclass(frozen=True, slots=True)
class Size:
    """An array of low to high items, or an object of low to high members."""

    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Item:
    """If there is an item at this index, it satisfies the value."""

    index: int
    value: Value


@dataclass(frozen=True, slots=True)
class Items:
    """All items from this index on satisfy the value."""

    start: int
    value: Value


@dataclass(frozen=True, slots=True)
class SomeItems:
    """Low to high items from this index on satisfy the value."""

    start: int
    value: Value
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Unique:
    """No two items are equal. `where` is for the refusal of its negation."""

    where: Schema


@dataclass(frozen=True, slots=True)
class Required:
    """There is a member of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Member:
    """If there is a member of this name, it satisfies the value."""

    name: str
    value: Value


@dataclass(frozen=True, slots=True)
class Members:
    """All members with these names satisfy the value."""

    keys: Keys
    value: Value


@dataclass(frozen=True, slots=True)
class SomeMember:
    """A member with one of these names satisfies the value."""

    keys: Keys
    value: Value


Fact = (
    Booleans
    | AtLeast
    | AtMost
    | Multiple
    | Numbers
    | Length
    | Pattern
    | Format
    | Strings
    | Size
    | Item
    | Items
    | SomeItems
    | Unique
    | Required
    | Member
    | Members
    | SomeMember
)


@dataclass(frozen=True, slots=True)
class All:
    """Every part holds. `All(())` is true."""

    parts: "tuple[Formula, ...]"


@dataclass(frozen=True, slots=True)
class Any:
    """Some part holds. `Any(())` is false."""

    parts: "tuple[Formula, ...]"


Formula = Fact | All | Any
TRUE = All(())
FALSE = Any(())


def is_false(formula: Formula) -> bool:
    """Is it FALSE? Said of a type and a length, not by comparing: it is asked often."""
    return isinstance(formula, Any) and not formula.parts


def all_of(parts: "list[Formula]") -> Formula:
    """The conjunction, simplified."""
    out: list[Formula] = []
    for part in parts:
        if isinstance(part, All):
            out += part.parts
        elif is_false(part):
            return FALSE
        else:
            out.append(part)
    return out[0] if len(out) == 1 else All(tuple(out)) if out else TRUE


def any_of(parts: "list[Formula]") -> Formula:
    """The disjunction, simplified."""
    out: list[Formula] = []
    for part in parts:
        if isinstance(part, Any):
            out += part.parts
        elif isinstance(part, All) and not part.parts:
            return TRUE
        else:
            out.append(part)
    return out[0] if len(out) == 1 else Any(tuple(out)) if out else FALSE


def _outside(low: int, high: int | None, make: "type[Size] | type[Length]") -> Formula:
    parts: list[Formula] = [make(0, low - 1)] if low else []
    if high is not None:
        parts.append(make(high + 1, None))
    return any_of(parts)


def negate(formula: Formula) -> Formula:
    """What holds exactly where the formula does not (for a value of the formula's type)."""
    match formula:
        case All((Required(name), Member(other, value))) if name == other:
            return Member(name, negate_value(value))  # the negation of a Member, undone
        case All((Size(low, None), Item(index, value))) if low == index + 1:
            return Item(index, negate_value(value))
        case All(parts):
            return any_of([negate(part) for part in parts])
        case Any(parts):
            return all_of([negate(part) for part in parts])
        case Booleans(values):
            return Booleans(frozenset((True, False)) - values)
        case AtLeast(bound, is_open):
            return AtMost(bound, not is_open)
        case AtMost(bound, is_open):
            return AtLeast(bound, not is_open)
        case Multiple(step, holds):  # what is not a plain integer may still not be `1.0`
            return Multiple(step, not holds)
        case Numbers(values, holds):
            return Numbers(values, not holds)
        case Pattern(pattern, holds):
            return Pattern(pattern, not holds)
        case Format(name, holds):
            return Format(name, not holds)
        case Strings(texts, holds):
            return Strings(texts, not holds)
        case Length(low, high):
            return _outside(low, high, Length)
        case Size(low, high):
            return _outside(low, high, Size)
        case Item(index, value):
            return All((Size(index + 1, None), Item(index, negate_value(value))))
        case Items(start, value):
            return SomeItems(start, negate_value(value), 1, None)
        case SomeItems(start, value, low, high):
            fewer: list[Formula] = [SomeItems(start, value, 0, low - 1)] if low else []
            more: list[Formula] = [] if high is None else [SomeItems(start, value, high + 1, None)]
            return any_of(fewer + more)
        case Required(name):
            return Member(name, NOTHING)
        case Member(name, value):
            return All((Required(name), Member(name, negate_value(value))))
        case Members(keys, value):
            return SomeMember(keys, negate_value(value))
        case SomeMember(keys, value):
            return Members(keys, negate_value(value))
        case Unique(where):
            where.refuse(
                "uniqueItems", "that items repeat cannot be asked for (under not or oneOf)"
            )
