"""How `select` turns the scores of its choices into a decision.

Each method gives every choice one number; the highest wins, the first of equals. The numbers are
log-probabilities (natural log), so a softmax over them is the reported distribution.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from ramify.lang.protocol import ContinuationScore


class ChoicesMethod(ABC):
    """A rule that ranks choices by their tokens' log-probabilities."""

    needs_unconditional: bool = False  # whether each choice is also scored without the prompt

    @abstractmethod
    def rank(self, scores: Sequence[ContinuationScore]) -> list[float]:
        """One number per choice, in the order of `scores`; the highest wins."""


class TokenLengthNormalized(ChoicesMethod):
    """Mean log-probability per token. The default."""

    def rank(self, scores: Sequence[ContinuationScore]) -> list[float]:
        """The mean of each choice's token log-probabilities."""
        return [_mean(score.logprobs) for score in scores]


class GreedyTokenSelection(ChoicesMethod):
    """Token by token, keep the choices whose next token is the likeliest.

    A choice that has ended goes on with its mean, so that "yes" can be compared to "yes, sir".
    """

    def rank(self, scores: Sequence[ContinuationScore]) -> list[float]:
        """Mean log-probability of the choices that survive longest; -inf of those that fell."""
        rows = [score.logprobs for score in scores]
        means = [_mean(row) for row in rows]
        left = list(range(len(rows)))
        for place in range(max(len(row) for row in rows)):
            here = {i: rows[i][place] if place < len(rows[i]) else means[i] for i in left}
            best = max(here.values())
            left = [i for i in left if here[i] == best]
        return [means[i] if i in left else -math.inf for i in range(len(rows))]


class UnconditionalLikelihoodNormalized(ChoicesMethod):
    """Mean per token of how much the prompt raised the choice's log-probability."""

    needs_unconditional = True

    def rank(self, scores: Sequence[ContinuationScore]) -> list[float]:
        """Mean gain over the score without prompt; a token with no context counts as 0 there."""
        return [
            _mean(
                [
                    given - (alone or 0.0)
                    for given, alone in zip(
                        score.logprobs, score.unconditional_logprobs or (), strict=True
                    )
                ]
            )
            for score in scores
        ]


def distribution(ranks: Sequence[float]) -> list[float]:
    """Softmax of `ranks`: probabilities that sum to 1."""
    top = max(ranks)
    weights = [math.exp(rank - top) for rank in ranks]
    total = sum(weights)
    return [weight / total for weight in weights]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else -math.inf


token_length_normalized = TokenLengthNormalized()
greedy_token_selection = GreedyTokenSelection()
unconditional_likelihood_normalized = UnconditionalLikelihoodNormalized()
