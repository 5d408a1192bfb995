"""Formulas multiplied out: the ways in which a value of one type can be as asked."""

from fractions import Fraction

from ramify.grammars.errors import GrammarError
from ramify.grammars.json_schema import facts
from ramify.grammars.json_schema.facts import NOTHING, Fact, Formula
from ramify.grammars.json_schema.numbers import NumberSet
from ramify.grammars.limits import Budget

Conjunction = tuple[Fact, ...]


def cases(formula: Formula, budget: Budget, pointer: str) -> list[Conjunction]:
    """Conjunctions of facts, one of which holds exactly where the formula does."""
    if not isinstance(formula, (facts.All, facts.Any)):
        return [(formula,)]
    if isinstance(formula, facts.All) and not any(
        isinstance(part, facts.Any) for part in formula.parts
    ):
        return [formula.parts]  # type: ignore[list-item]  # no Any: facts only
    found: dict[frozenset[Fact], Conjunction] = {}
    todo: list[tuple[dict[Fact, None], tuple[Formula, ...]]] = [({}, (formula,))]
    steps = 0
    while todo:
        known, rest = todo.pop()
        budget.tick()
        steps += 1
        if steps > 20 * budget.limits.cases or len(found) > budget.limits.cases:
            raise GrammarError(
                "grammar_too_complex",
                f"JSON Schema {pointer or '#'}: its combinators make more than "
                f"{budget.limits.cases} cases; simplify allOf, anyOf, oneOf or not here",
                pointer=pointer,
            )
        choice = _assume(known, rest)
        if choice is None or _is_contradiction(known):
            continue
        if not choice:
            found.setdefault(frozenset(known), tuple(known))
            continue
        choice.sort(key=lambda part: len(part.parts))
        first, *others = choice
        for option in reversed(first.parts):
            todo.append((dict(known), (option, *others)))
    return _not_covered(found)


def _assume(known: dict[Fact, None], rest: tuple[Formula, ...]) -> list[facts.Any] | None:
    """Add facts to the known ones; what is left to choose from; None if nothing can hold."""
    choices: list[facts.Any] = []
    stack = list(reversed(rest))
    while stack:
        part = stack.pop()
        if isinstance(part, facts.All):
            stack += reversed(part.parts)
        elif isinstance(part, facts.Any):
            if not part.parts:
                return None
            choices.append(part)
        else:
            known[part] = None
    return [part for part in choices if not any(_holds(option, known) for option in part.parts)]


def _holds(option: Formula, known: dict[Fact, None]) -> bool:
    if isinstance(option, facts.All):
        return all(_holds(part, known) for part in option.parts)
    if isinstance(option, facts.Any):
        return any(_holds(part, known) for part in option.parts)
    return option in known


def _not_covered(found: dict[frozenset[Fact], Conjunction]) -> list[Conjunction]:
    """Without the conjunctions that ask more than another one does."""
    if len(found) > 64:
        return list(found.values())
    return [
        conjunction
        for asked, conjunction in found.items()
        if not any(other < asked for other in found)
    ]


def _is_contradiction(known: dict[Fact, None]) -> bool:
    """Cheap checks that end a branch early; what they miss is found when the case is built."""
    required, forbidden = set[str](), set[str]()
    low, high = 0, None
    texts: frozenset[str] | None = None
    for fact in known:
        match fact:
            case facts.Required(name):
                required.add(name)
            case facts.Member(name, value) if value == NOTHING:
                forbidden.add(name)
            case facts.Size(least, most) | facts.Length(least, most):
                low = max(low, least)
                high = most if high is None else high if most is None else min(high, most)
            case facts.Booleans(values) if not values:
                return True
            case facts.Strings(values, True):
                texts = values if texts is None else texts & values
    if texts is not None and not texts:
        return True
    return bool(required & forbidden) or (high is not None and low > high)


def booleans(conjunction: Conjunction) -> frozenset[bool]:
    """The booleans of a case."""
    out = frozenset((True, False))
    for fact in conjunction:
        assert isinstance(fact, facts.Booleans)
        out &= fact.values
    return out


def numbers(conjunction: Conjunction) -> tuple[NumberSet, frozenset[Fraction] | None]:
    """The numbers of a case: a set, and the only members of it that are allowed, if listed."""
    steps: list[Fraction] = []
    plain = False
    no_steps, excluded = set[Fraction](), set[Fraction]()
    listed: frozenset[Fraction] | None = None
    lows: list[tuple[Fraction, bool]] = []
    highs: list[tuple[Fraction, bool]] = []
    for fact in conjunction:
        match fact:
            case facts.AtLeast(bound, is_open):
                lows.append((bound, is_open))
            case facts.AtMost(bound, is_open):
                highs.append((-bound, is_open))
            case facts.Multiple(step, True, is_plain):
                steps.append(step)
                plain = plain or is_plain
            case facts.Multiple(step, False):
                no_steps.add(step)
            case facts.Numbers(values, True):
                listed = values if listed is None else listed & values
            case facts.Numbers(values, False):
                excluded |= values
    low, low_open = max(lows, default=(None, False))
    high, high_open = max(highs, default=(None, False))  # negated: the least bound
    common = _common_multiple(steps)
    no_step = frozenset(no_steps)
    made = NumberSet(
        low,
        low_open,
        None if high is None else -high,
        high_open,
        common,
        no_step,
        frozenset(excluded),
        plain,
    )
    return made, listed


def _common_multiple(steps: list[Fraction]) -> Fraction | None:
    out: Fraction | None = None
    for step in steps:
        if out is None:
            out = step
        else:  # the least number that both divide
            whole = out / step
            out = step * whole.numerator
    return out
