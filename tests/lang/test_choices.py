import math

import pytest

from ramify.lang.choices import (
    distribution,
    greedy_token_selection,
    token_length_normalized,
    unconditional_likelihood_normalized,
)
from ramify.lang.protocol import ContinuationScore


def score(*logprobs, alone=None):
    ids = tuple(range(len(logprobs)))
    return ContinuationScore(
        token_ids=ids, logprobs=logprobs, top_token_ids=ids, unconditional_logprobs=alone
    )


def best(method, *scores):
    ranks = method.rank(scores)
    return max(range(len(ranks)), key=ranks.__getitem__)


def test_length_normalized_is_the_mean_and_counts_zeros():
    ranks = token_length_normalized.rank([score(-3.0, 0.0, 0.0), score(-2.0)])
    assert ranks == [-1.0, -2.0]


def test_greedy_keeps_the_likeliest_next_token():
    worse_mean = score(-0.1, -9.0)
    assert best(greedy_token_selection, score(-0.5, -0.5), worse_mean) == 1
    assert best(token_length_normalized, score(-0.5, -0.5), worse_mean) == 0


def test_greedy_extends_a_shorter_choice_by_its_mean():
    assert best(greedy_token_selection, score(-1.0), score(-1.0, -0.5)) == 1
    assert best(greedy_token_selection, score(-1.0), score(-1.0, -2.0)) == 0


def test_unconditional_rewards_what_the_prompt_raised():
    common = score(-1.0, -1.0, alone=(-1.0, -1.0))
    raised = score(-2.0, -2.0, alone=(-6.0, -4.0))
    assert unconditional_likelihood_normalized.rank([common, raised]) == [0.0, 3.0]
    assert unconditional_likelihood_normalized.needs_unconditional


def test_equals_go_to_the_first():
    assert best(greedy_token_selection, score(-1.0), score(-1.0)) == 0


def test_distribution_sums_to_one():
    assert sum(distribution([-1.0, -2.0, -math.inf])) == pytest.approx(1.0)
    assert distribution([-1000.0, -1000.0]) == [0.5, 0.5]
    assert distribution([0.0, -math.inf]) == [1.0, 0.0]
