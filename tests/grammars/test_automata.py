import random
import re

import pytest

from ramify.grammars.automata import explore, few_texts
from ramify.grammars.limits import DEFAULT_LIMITS, Budget
from ramify.grammars.regex import regex_automaton
from ramify.grammars.regex_syntax import parse
from ramify.grammars.regex_tree import EMPTY, without_edge


def table(pattern, *, search=False):
    budget = Budget(DEFAULT_LIMITS)
    tree = parse(pattern, "ecma" if search else "python")
    return explore(regex_automaton(tree, budget, pattern, search=search), budget, pattern).table


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("a[bc]|d", ["ab", "ac", "d"]),
        ("(a|b){0,2}", ["", "a", "aa", "ab", "b", "ba", "bb"]),
        ("ab*", None),
        ("(ab)*c|d", None),
        ("[ab]{9}", None),  # not endless, but more than asked for
    ],
)
def test_the_texts_of_a_table_where_they_are_few(pattern, texts):
    assert few_texts(table(pattern), 20) == texts
    assert bool(table(pattern).endless) == ("*" in pattern)


def test_a_table_of_fewer_ends_is_endless_only_if_what_is_left_of_it_is():
    found = table("ab*|c")
    assert found.endless == {found.state_after("a"), found.state_after("ab")}
    ends = [found.state_after("c") == state for state in range(len(found.rows))]
    assert few_texts(found.ending(ends), 20) == ["c"]
    assert few_texts(found.ending([False] * len(ends)), 20) == []
    assert few_texts(found.ending(found.final), 20) is None


ANCHORED = [
    "^ab?$",
    "^a|^b",
    "a$|bb$",
    "^a|b$",
    "(^a|^b)b$",
    "^(^a)+$",
    "^$",
    "^",
    "$",
    "a",
    "^a|b",
]


@pytest.mark.parametrize("pattern", ANCHORED)
def test_a_search_is_the_same_whether_edges_are_taken_off_or_run(pattern):
    found = table(pattern, search=True)
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(rng.choices("abc", k=rng.randrange(5)))
        state = found.state_after(text)
        is_match = state is not None and found.accepts(state)
        # `$` of ECMA-262 is the very end
        assert is_match == bool(re.search(pattern.replace("$", r"\Z"), text)), text


@pytest.mark.parametrize(
    ("pattern", "start", "end"),
    [("^a", True, False), ("a$|b$", False, True), ("^a|b", False, False), ("^a$", True, True)],
)
def test_edges_come_off_where_every_text_has_them(pattern, start, end):
    tree = parse(pattern, "ecma")
    assert (without_edge(tree, "start") is not None) == start
    assert (without_edge(tree, "end") is not None) == end
    assert without_edge(parse("^", "ecma"), "start") == EMPTY
