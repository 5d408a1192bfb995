import random
import re

import pytest

from ramify.grammars.automata import FAR, explore
from ramify.grammars.limits import DEFAULT_LIMITS, Budget
from ramify.grammars.products import Product
from ramify.grammars.regex import regex_automaton
from ramify.grammars.regex_syntax import parse

PATTERNS = [
    "[ab]*a[ab]",
    "a+b?",
    "(ab)*",
    "[^b]{1,3}",
    "(a|b){2,4}",
    r"a\b-?b?",
    "(?=.*b)[ab-]+",
    "(?!a)[ab]*",
    ".*-.*",
]


def automaton(pattern):
    return regex_automaton(parse(pattern), Budget(DEFAULT_LIMITS), pattern)


@pytest.mark.parametrize("seed", range(60))
def test_products_read_what_all_wanted_parts_do_and_no_others(seed):
    rng = random.Random(seed)
    chosen = [(pattern, rng.random() < 0.6) for pattern in rng.sample(PATTERNS, rng.randint(1, 3))]
    parts = [(automaton(pattern), wanted) for pattern, wanted in chosen]
    product = Product(parts, Budget(DEFAULT_LIMITS), "test")
    for _ in range(80):
        text = "".join(rng.choices("ab-", k=rng.randrange(6)))
        state = product.start
        for char in text:
            if state is not None:
                state = product.step(state, product.alphabet.class_of(ord(char)))
        found = state is not None and product.accepts(state)
        expected = all(bool(re.fullmatch(pattern, text)) == wanted for pattern, wanted in chosen)
        assert found == expected, (chosen, text)


@pytest.mark.parametrize("seed", range(60))
def test_every_state_of_a_product_can_be_finished(seed):
    rng = random.Random(seed)
    chosen = [(automaton(each), rng.random() < 0.6) for each in rng.sample(PATTERNS, 2)]
    product = Product(chosen, Budget(DEFAULT_LIMITS), "test")
    table, states = explore(product, Budget(DEFAULT_LIMITS), "test")
    for number, state in enumerate(states):
        assert product.distance(state) <= table.distance(number) < FAR
