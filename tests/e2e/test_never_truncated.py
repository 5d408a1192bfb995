"""Constrained answers of the bundled model with hardly any tokens to spare: every one is whole.

RAMIFY_NIGHTLY=1 generates 500 of them instead of 40.
"""

import itertools
import os
from random import Random

import pytest

from ramify.grammars import compile_grammar
from ramify.lang.errors import InvalidRequest
from ramify.lang.protocol import Sampling
from ramify.runtime.constraint import grammar_spec, vocabulary_of
from tests.e2e.test_constrained import TEMPERATURES, Case, cases

pytestmark = pytest.mark.weights

NUM_ANSWERS = 500 if os.environ.get("RAMIFY_NIGHTLY") == "1" else 40
MOST_SPARE = 20


@pytest.fixture(scope="module")
def tight_cases(exact_engine) -> list[tuple[Case, int]]:
    """Each case with the fewest tokens that certainly suffice for an answer."""
    vocabulary = vocabulary_of(exact_engine._tokenizer)
    found = []
    for case in cases():
        spec = grammar_spec(Sampling(**case.constraint))
        assert spec is not None
        needed = compile_grammar(spec, vocabulary).min_tokens
        assert needed is not None, case.name
        if needed:
            found.append((case, needed))
    return found


def test_every_answer_is_whole(exact_engine, tight_cases, capsys):
    rng = Random(5)
    every = list(itertools.islice(itertools.cycle(tight_cases), NUM_ANSWERS))
    limits = [needed + rng.randint(0, MOST_SPARE) for _, needed in every]
    samplings = [
        Sampling(
            **case.constraint,
            max_tokens=limit,
            seed=at,
            temperature=TEMPERATURES[at % len(TEMPERATURES)],
        )
        for at, ((case, _), limit) in enumerate(zip(every, limits, strict=True))
    ]
    answers = exact_engine.generate_batch([case.prompt for case, _ in every], samplings)
    num_full = 0
    for (case, _), limit, answer in zip(every, limits, answers, strict=True):
        assert case.check(answer.text), (case.name, limit, answer.text)
        assert len(answer.token_ids) <= limit
        num_full += len(answer.token_ids) == limit
    with capsys.disabled():
        print(f"\n{len(answers)} answers are whole, {num_full} took the last token they had")
    assert num_full


def test_one_token_less_than_needed_is_refused(exact_engine, tight_cases):
    for case, needed in [found for found in tight_cases if found[1] > 1][:8]:
        sampling = Sampling(**case.constraint, max_tokens=needed - 1)
        with pytest.raises(InvalidRequest, match=f"set it to {needed} or more") as error:
            exact_engine.generate(case.prompt, sampling)
        assert error.value.code == "max_tokens_too_small"
