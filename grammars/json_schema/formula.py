"""From schemas to formulas: what each keyword asks of a value of one type."""

import json
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import NamedTuple

from ramify.grammars.errors import GrammarError
from ramify.grammars.json_schema import facts
from ramify.grammars.json_schema.facts import (
    FALSE,
    NOTHING,
    TRUE,
    Constant,
    Formula,
    Keys,
    Literal,
    OneOfValues,
    Value,
    all_of,
    any_of,
    is_false,
    negate,
)
from ramify.grammars.json_schema.json_values import TYPES
from ramify.grammars.json_schema.keywords import (
    ABOUT,
    Options,
    constant,
    item_schemas,
    mapping,
    own_facts,
)
from ramify.grammars.json_schema.outline import Outlines
from ramify.grammars.json_schema.profile import Profile, plain_facts
from ramify.grammars.json_schema.schema import Schema

MAX_IN_PLACE = 64  # nesting of allOf, $ref, not ... about one value
MAX_BRANCHES = 12  # of anyOf where what each evaluates has to be told apart


class Evaluated(NamedTuple):
    """Which items and members of a value the keywords that hold have looked at."""

    names: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    members: bool = False  # all of them
    num_items: int = 0  # the first ones
    items: bool = False  # all of them
    contained: frozenset[Value] = frozenset()  # and items that satisfy one of these

    def join(self, other: "Evaluated") -> "Evaluated":
        """What either has looked at."""
        return Evaluated(
            self.names | other.names,
            self.patterns | other.patterns,
            self.members or other.members,
            max(self.num_items, other.num_items),
            self.items or other.items,
            self.contained | other.contained,
        )


NOTHING_EVALUATED = Evaluated()
Case = tuple[Formula, Evaluated]  # where the formula holds, just this was evaluated


class Formulas:
    """The formulas of one document's schemas, made once each."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self.outlines = Outlines()
        self._made: dict[str, dict[Schema, Formula]] = {kind: {} for kind in TYPES}
        self._cases: dict[tuple[Schema, str], list[Case]] = {}
        # being made: a cycle is a $ref to itself
        self._open: dict[tuple[Schema, str], None] = {}

    def of_value(self, value: Value, kind: str) -> Formula:
        """What a Value asks of a value of this type."""
        if len(value) == 1:  # mostly
            (item,) = value
            return self._of_item(item, kind)
        return all_of([self._of_item(item, kind) for item in value])

    def _of_item(self, item: Literal | OneOfValues | Constant, kind: str) -> Formula:
        if isinstance(item, Literal):
            found = self.of_schema(item.schema, kind)
            return found if item.holds else negate(found)
        if isinstance(item, Constant):
            found = constant(json.loads(item.text, parse_float=Decimal), kind)
            return found if item.holds else negate(found)
        return any_of([self.of_value(option, kind) for option in item.values])

    def of_schema(self, schema: Schema, kind: str) -> Formula:
        """What a schema asks of a value of this type."""
        if isinstance(schema.value, bool):
            return TRUE if schema.value else FALSE
        made = self._made[kind]
        found = made.get(schema)
        if found is None:
            if _ABOUT[kind].isdisjoint(schema.value):
                found = made[schema] = TRUE
                return found
            self._begin(schema, kind)
            if _needs_cases(schema, kind):
                found = any_of([formula for formula, _ in self.cases(schema, kind)])
            else:
                found = self._conjunction(schema, kind)
            self._open.popitem()
            made[schema] = found
        return found

    def _begin(self, schema: Schema, what: str) -> None:
        """Mark a formula as being made; one that needs itself has no meaning."""
        key = (schema, what)
        if key in self._open:
            raise GrammarError(
                "invalid_json_schema",
                f"JSON Schema {schema.pointer or '#'}: refers to itself about the same value",
                pointer=schema.pointer,
            )
        if len(self._open) >= MAX_IN_PLACE:
            raise GrammarError(
                "grammar_too_complex",
                f"JSON Schema {schema.pointer or '#'}: more than {MAX_IN_PLACE} combinators and "
                "references deep about one value",
                pointer=schema.pointer,
            )
        self._open[key] = None

    def _conjunction(self, schema: Schema, kind: str) -> Formula:
        if schema.document.draft <= 7 and "$ref" in schema.value:
            return self.of_schema(schema.document.resolve(schema, "$ref"), kind)
        parts = own_facts(schema, kind, self._options)
        if parts is None:
            return FALSE
        if not _IN_PLACE_KEYWORDS.isdisjoint(schema.value):
            for keyword in schema.value:
                make = _IN_PLACE.get(keyword)
                if make is not None:
                    part = make(self, schema, keyword, kind)
                    if is_false(part):
                        return FALSE
                    parts.append(part)
        return all_of(parts)

    # -- unevaluated*: formulas with what was evaluated where each of them holds

    def cases(self, schema: Schema, kind: str) -> list[Case]:
        """Ways for the schema to hold: exactly one of them does where it holds."""
        if isinstance(schema.value, bool):
            return [(TRUE, NOTHING_EVALUATED)] if schema.value else []
        key = (schema, kind)
        found = self._cases.get(key)
        if found is None:
            self._begin(schema, kind + " cases")
            found = self._cases[key] = self._make_cases(schema, kind)
            self._open.popitem()
        return found

    def _make_cases(self, schema: Schema, kind: str) -> list[Case]:
        if schema.document.draft <= 7 and "$ref" in schema.value:
            return self.cases(schema.document.resolve(schema, "$ref"), kind)
        own = own_facts(schema, kind, self._options)
        if own is None:
            return []
        out: list[Case] = [(all_of(own), _own_evaluated(schema, kind))]
        for keyword in schema.value:
            if keyword in _IN_PLACE:
                out = _product(out, self._keyword_cases(schema, keyword, kind))
        return [self._close(schema, kind, case) for case in out]

    def _close(self, schema: Schema, kind: str, case: Case) -> Case:
        formula, evaluated = case
        if kind == "object" and "unevaluatedProperties" in schema.value:
            rest: Value = facts.satisfying_below(schema, "unevaluatedProperties")
            if not evaluated.members:
                keys = Keys(None, evaluated.names, evaluated.patterns)
                formula = all_of([formula, facts.Members(keys, rest)])
            evaluated = evaluated._replace(members=True)
        if kind == "array" and "unevaluatedItems" in schema.value:
            rest = facts.satisfying_below(schema, "unevaluatedItems")
            if not evaluated.items:
                if evaluated.contained:
                    rest = frozenset((OneOfValues((rest, *sorted(evaluated.contained, key=repr))),))
                formula = all_of([formula, facts.Items(evaluated.num_items, rest)])
            evaluated = evaluated._replace(items=True)
        return formula, evaluated

    def _keyword_cases(self, schema: Schema, keyword: str, kind: str) -> list[Case]:
        value = schema.get(keyword)
        if keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            return self.cases(_target(schema, keyword), kind)
        if keyword == "allOf":
            out: list[Case] = [(TRUE, NOTHING_EVALUATED)]
            for index in range(len(value)):
                out = _product(out, self.cases(schema.below(keyword, index), kind))
            return out
        if keyword == "anyOf" or (keyword == "oneOf" and schema.is_relaxed(keyword)):
            return self._any_cases(schema, keyword, kind)
        if keyword == "oneOf":
            branches = [schema.below(keyword, index) for index in range(len(value))]
            out = []
            for index, branch in enumerate(branches):
                others = [negate(self.of_schema(other, kind)) for other in branches]
                del others[index]
                out += _product(self.cases(branch, kind), [(all_of(others), NOTHING_EVALUATED)])
            return out
        if keyword == "if":
            return self._if_cases(schema, kind)
        if keyword in ("dependentSchemas", "dependencies") and kind == "object":
            out = [(TRUE, NOTHING_EVALUATED)]
            for name, needed in value.items():
                if isinstance(needed, list):
                    found: list[Case] = [(_needs(name, needed), NOTHING_EVALUATED)]
                else:
                    with_it = self.cases(schema.below(keyword, name), kind)
                    found = [(facts.Member(name, NOTHING), NOTHING_EVALUATED)]
                    found += [
                        (all_of([facts.Required(name), part]), seen) for part, seen in with_it
                    ]
                out = _product(out, found)
            return out
        return [(_IN_PLACE[keyword](self, schema, keyword, kind), NOTHING_EVALUATED)]

    def _any_cases(self, schema: Schema, keyword: str, kind: str) -> list[Case]:
        """Each branch holds (in one of its ways) or does not; at least one does."""
        branches = _branches(schema, keyword)
        if len(branches) > MAX_BRANCHES:
            schema.refuse(keyword, f"more than {MAX_BRANCHES} branches beside unevaluated*")
        out: list[tuple[Formula, Evaluated, bool]] = [(TRUE, NOTHING_EVALUATED, False)]
        for branch in branches:
            ways = self.cases(branch, kind)
            without = negate(self.of_schema(branch, kind))
            out = [
                (all_of([formula, more]), seen.join(also), held)
                for formula, seen, some in out
                for more, also, held in (
                    *((way, evaluated, True) for way, evaluated in ways),
                    (without, NOTHING_EVALUATED, some),
                )
            ]
            out = [case for case in out if not is_false(case[0])]
        return [(formula, seen) for formula, seen, held in out if held]

    def _if_cases(self, schema: Schema, kind: str) -> list[Case]:
        condition = schema.below("if")
        true: list[Case] = [(TRUE, NOTHING_EVALUATED)]
        then = self.cases(schema.below("then"), kind) if "then" in schema.value else true
        other = self.cases(schema.below("else"), kind) if "else" in schema.value else true
        failed: list[Case] = [(negate(self.of_schema(condition, kind)), NOTHING_EVALUATED)]
        return _product(self.cases(condition, kind), then) + _product(failed, other)

    # -- keywords about the same value

    def _reference(self, schema: Schema, keyword: str, kind: str) -> Formula:
        return self.of_schema(_target(schema, keyword), kind)

    def _all_of(self, schema: Schema, keyword: str, kind: str) -> Formula:
        return all_of([self.of_schema(branch, kind) for branch in _branches(schema, keyword)])

    def _any_of(self, schema: Schema, keyword: str, kind: str) -> Formula:
        return any_of([self.of_schema(branch, kind) for branch in _branches(schema, keyword)])

    def _one_of(self, schema: Schema, keyword: str, kind: str) -> Formula:
        if schema.is_relaxed(keyword):
            return self._any_of(schema, keyword, kind)
        parts = [self.of_schema(branch, kind) for branch in _branches(schema, keyword)]
        parts = [part for part in parts if not is_false(part)]
        profiles = [Profile(self.outlines, plain_facts(part)) for part in parts]
        negated = cache(lambda at: negate(parts[at]))
        out: list[Formula] = []
        for index, part in enumerate(parts):
            others = [
                negated(at)
                for at in range(len(parts))
                if at != index and not profiles[index].excludes(profiles[at])
            ]
            out.append(all_of([part, *others]))
        return any_of(out)

    def _not(self, schema: Schema, keyword: str, kind: str) -> Formula:
        return negate(self.of_schema(schema.below(keyword), kind))

    def _if(self, schema: Schema, keyword: str, kind: str) -> Formula:
        condition = self.of_schema(schema.below("if"), kind)
        then = self.of_schema(schema.below("then"), kind) if "then" in schema.value else TRUE
        other = self.of_schema(schema.below("else"), kind) if "else" in schema.value else TRUE
        if then == other == TRUE:
            return TRUE
        return any_of([all_of([condition, then]), all_of([negate(condition), other])])

    def _dependencies(self, schema: Schema, keyword: str, kind: str) -> Formula:
        if kind != "object":
            return TRUE
        parts: list[Formula] = []
        for name, needed in mapping(schema, keyword).items():
            if isinstance(needed, list):
                parts.append(_needs(name, needed))
            elif isinstance(needed, str):
                parts.append(_needs(name, [needed]))
            else:
                asked = self.of_schema(schema.below(keyword, name), kind)
                parts.append(any_of([facts.Member(name, NOTHING), asked]))
        return all_of(parts)


_IN_PLACE: dict[str, Callable[[Formulas, Schema, str, str], Formula]] = {
    "$ref": Formulas._reference,
    "$dynamicRef": Formulas._reference,
    "$recursiveRef": Formulas._reference,
    "allOf": Formulas._all_of,
    "anyOf": Formulas._any_of,
    "oneOf": Formulas._one_of,
    "not": Formulas._not,
    "if": Formulas._if,
    "dependentRequired": Formulas._dependencies,
    "dependentSchemas": Formulas._dependencies,
    "dependencies": Formulas._dependencies,
}


_IN_PLACE_KEYWORDS = frozenset(_IN_PLACE)
_ABOUT = {  # keywords that may ask something of a value of this type
    kind: _IN_PLACE_KEYWORDS
    | ABOUT.get(kind, frozenset())
    | {"type", "const", "enum", "unevaluatedProperties", "unevaluatedItems"}
    for kind in TYPES
}


def _needs_cases(schema: Schema, kind: str) -> bool:
    return (kind == "object" and "unevaluatedProperties" in schema.value) or (
        kind == "array" and "unevaluatedItems" in schema.value
    )


def _product(left: list[Case], right: list[Case]) -> list[Case]:
    out = []
    for formula, seen in left:
        for more, also in right:
            both = all_of([formula, more])
            if not is_false(both):
                out.append((both, seen.join(also)))
    return out


def _target(schema: Schema, keyword: str) -> Schema:
    return schema.document.resolve(schema, keyword)


def _branches(schema: Schema, keyword: str) -> list[Schema]:
    branches = schema.get(keyword)
    if not isinstance(branches, list) or not branches:
        schema.invalid(keyword, "must be a non-empty list of schemas")
    return [schema.below(keyword, index) for index in range(len(branches))]


def _needs(name: str, needed: list[str]) -> Formula:
    required: list[Formula] = [facts.Required(other) for other in needed]
    return any_of([facts.Member(name, NOTHING), all_of(required)])


# -- a schema's own keywords, by type


def _own_evaluated(schema: Schema, kind: str) -> Evaluated:
    if kind == "object":
        return Evaluated(
            names=frozenset(schema.get("properties", ())),
            patterns=frozenset(schema.get("patternProperties", ())),
            members="additionalProperties" in schema.value,
        )
    if kind == "array":
        first, rest = item_schemas(schema)
        contained = frozenset[Value]()
        if "contains" in schema.value and schema.document.draft >= 2020:
            contained = frozenset((facts.satisfying_below(schema, "contains"),))
        return Evaluated(num_items=len(first), items=rest is not None, contained=contained)
    return NOTHING_EVALUATED
