"""Profiles: what some facts say together, as far as it takes to see that they contradict."""

from collections.abc import Iterable, Sequence
from fractions import Fraction

from ramify.grammars.json_schema import facts
from ramify.grammars.json_schema.facts import Fact, Formula, Keys
from ramify.grammars.json_schema.outline import ANY, Outline, Outlines

_UNTOLD = (  # facts that a profile says nothing about
    *(facts.AtLeast, facts.AtMost, facts.Multiple, facts.Pattern, facts.Format),
    *(facts.Item, facts.Items, facts.SomeItems, facts.Unique, facts.SomeMember),
)


class Profile:
    """Bounds that facts about one value imply. A contradiction is never claimed wrongly; not all
    are seen, and what is missed comes out when the case is built."""

    __slots__ = (
        "_outlines",
        "booleans",
        "excluded",
        "groups",
        "high",
        "listed",
        "low",
        "members",
        "required",
    )

    def __init__(self, outlines: Outlines, known: Iterable[Fact] = ()) -> None:
        self._outlines = outlines
        self.required: dict[str, None] = {}
        self.members: dict[str, Outline] = {}
        self.groups: list[tuple[Keys, Outline]] = []  # of members, where names alone tell
        self.low = 0  # characters, items or members
        self.high: int | None = None
        self.booleans: frozenset[bool] = frozenset((True, False))
        self.listed: frozenset[str | Fraction] | None = None  # strings or numbers
        self.excluded: frozenset[str | Fraction] = frozenset()
        for fact in known:
            self.add(fact)

    def copy(self) -> "Profile":
        """One to add to."""
        out = Profile(self._outlines)
        out.required, out.members = dict(self.required), dict(self.members)
        out.groups = [*self.groups]
        out.low, out.high = self.low, self.high
        out.booleans, out.listed, out.excluded = self.booleans, self.listed, self.excluded
        return out

    def add(self, fact: Fact) -> None:
        """Take a fact into account."""
        match fact:
            case facts.Required(name):
                self.required[name] = None
            case facts.Member(name, value):
                found = self._outlines.of_value(value)
                self.members[name] = self.members.get(name, ANY).both(found)
            case facts.Members(keys, value) if _is_by_name(keys):
                self.groups.append((keys, self._outlines.of_value(value)))
            case facts.Size(least, most) | facts.Length(least, most):
                self._bound(least, most)
            case facts.Booleans(values):
                self.booleans &= values
            case facts.Strings(values, True) | facts.Numbers(values, True):
                self.listed = _among(self.listed, frozenset(values))
            case facts.Strings(values, False) | facts.Numbers(values, False):
                self.excluded |= values

    def _bound(self, least: int, most: int | None) -> None:
        self.low = max(self.low, least)
        self.high = (
            most if self.high is None else self.high if most is None else min(self.high, most)
        )

    def member(self, name: str) -> Outline:
        """What a member of this name may be."""
        out = self.members.get(name, ANY)
        for keys, outline in self.groups:
            if name not in keys.outside_names:
                out = out.both(outline)
        return out

    @property
    def is_contradiction(self) -> bool:
        """Does surely no value have all these facts?"""
        return (
            (self.high is not None and max(self.low, len(self.required)) > self.high)
            or not self.booleans
            or (self.listed is not None and self.listed <= self.excluded)
            or any(self.member(name).is_empty for name in self.required)
        )

    def contradicts(self, more: Sequence[Fact]) -> bool:
        """Would it be a contradiction with these facts too? It is none without them."""
        matters = False
        for fact in more:
            if isinstance(fact, facts.Member):
                if fact.name in self.required:
                    found = self.member(fact.name).both(self._outlines.of_value(fact.value))
                    if found.is_empty:
                        return True
            elif not isinstance(fact, _UNTOLD):
                matters = True
        if matters:
            both = self.copy()
            for fact in more:
                both.add(fact)
            return both.is_contradiction
        return False

    def excludes(self, other: "Profile") -> bool:
        """Does surely no value have the facts of both?"""
        listed = _among(self.listed, other.listed)
        if listed is not None and listed <= self.excluded | other.excluded:
            return True
        if not self.booleans & other.booleans:
            return True
        return any(
            self.member(name).both(other.member(name)).is_empty
            for name in self.required | other.required
        )


def plain_facts(formula: Formula) -> list[Fact]:
    """Facts that hold where the formula does: all but what leaves a choice."""
    if isinstance(formula, facts.Any):
        return []
    if isinstance(formula, facts.All):
        return [fact for part in formula.parts for fact in plain_facts(part)]
    return [formula]


def _is_by_name(keys: Keys) -> bool:
    return keys.pattern is None and not keys.outside_patterns and keys.outside_value is None


def _among(
    left: "frozenset[str | Fraction] | None", right: "frozenset[str | Fraction] | None"
) -> "frozenset[str | Fraction] | None":
    return right if left is None else left if right is None else left & right
