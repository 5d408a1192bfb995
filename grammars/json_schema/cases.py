"""Formulas multiplied out: the ways in which a value of one type can be as asked."""

from collections.abc import Callable
from fractions import Fraction

from ramify.grammars.errors import GrammarError
from ramify.grammars.json_schema import facts
from ramify.grammars.json_schema.facts import Fact, Formula, negate
from ramify.grammars.json_schema.numbers import NumberSet
from ramify.grammars.json_schema.outline import Outlines
from ramify.grammars.json_schema.profile import Profile, plain_facts
from ramify.grammars.limits import Budget

IMPLIED_STEPS = 8  # of finding out if a choice is made already

Conjunction = tuple[Fact, ...]


def cases(
    formula: Formula, outlines: Outlines, budget: Budget, pointers_of: Callable[[], list[str]]
) -> list[Conjunction]:
    """Conjunctions of facts, one of which holds exactly where the formula does. `pointers_of`:
    the schemas that it comes from, for errors."""
    if not isinstance(formula, (facts.All, facts.Any)):
        return [(formula,)]
    if isinstance(formula, facts.All):
        for part in formula.parts:
            if isinstance(part, facts.Any):
                break
        else:
            return [formula.parts]  # type: ignore[list-item]  # no Any: facts only
    found: dict[frozenset[Fact], Conjunction] = {}
    opposites: dict[int, list[Fact]] = {}  # by id of a choice
    todo: list[tuple[dict[Fact, None], Profile, tuple[Formula, ...]]]
    todo = [({}, Profile(outlines), (formula,))]
    steps = 0
    while todo:
        known, profile, rest = todo.pop()
        budget.tick()
        steps += 1
        if steps > 20 * budget.limits.cases or len(found) > budget.limits.cases:
            pointers = pointers_of()
            raise GrammarError(
                "grammar_too_complex",
                f"JSON Schema {pointers[0] or '#'}: its combinators make more than "
                f"{budget.limits.cases} cases; simplify allOf, anyOf, oneOf or not here",
                pointer=pointers[0],
                beside=tuple(pointers[1:]),
            )
        choices = _assume(known, profile, rest)
        if choices is None or profile.is_contradiction:
            continue
        budget.tick(IMPLIED_STEPS * len(choices))
        choices = [choice for choice in choices if not _is_implied(choice, profile, opposites)]
        if not choices:
            found.setdefault(frozenset(known), tuple(known))
            continue
        choices.sort(key=lambda part: len(part.parts))
        first, *others = choices
        for option in reversed(first.parts):
            todo.append((dict(known), profile.copy(), (option, *others)))
    return _not_covered(found)


def _assume(
    known: dict[Fact, None], profile: Profile, rest: tuple[Formula, ...]
) -> list[facts.Any] | None:
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
        elif part not in known:
            known[part] = None
            profile.add(part)
    return [part for part in choices if not _holds(part, known)]


def _holds(formula: Formula, known: dict[Fact, None]) -> bool:
    if isinstance(formula, facts.All):
        for part in formula.parts:  # noqa: SIM110  # a generator takes three times as long
            if not _holds(part, known):
                return False
        return True
    if isinstance(formula, facts.Any):
        for part in formula.parts:  # noqa: SIM110  # likewise
            if _holds(part, known):
                return True
        return False
    return formula in known


def _is_implied(choice: facts.Any, profile: Profile, opposites: dict[int, list[Fact]]) -> bool:
    """Does an option surely hold, because that none does contradicts what is known? So what a
    branch of oneOf asks of the other branches mostly comes to nothing."""
    opposite = opposites.get(id(choice))
    if opposite is None:
        opposite = [fact for option in choice.parts for fact in _opposite(option)]
        opposites[id(choice)] = opposite
    return profile.contradicts(opposite)


def _opposite(option: Formula) -> list[Fact]:
    """Facts that hold where the option does not. The opposite of many facts is a choice."""
    parts = option.parts if isinstance(option, facts.All) else (option,)
    if len(parts) > 2 or any(isinstance(part, facts.All | facts.Any) for part in parts):
        return []
    if any(isinstance(part, facts.Unique) for part in parts):
        return []  # that it does not hold cannot be asked
    return plain_facts(negate(option))


def _not_covered(found: dict[frozenset[Fact], Conjunction]) -> list[Conjunction]:
    """Without the conjunctions that ask more than another one does."""
    if len(found) > 64:
        return list(found.values())
    return [
        conjunction
        for asked, conjunction in found.items()
        if not any(other < asked for other in found)
    ]


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
