"""What is refused before it is queued."""

import pytest

from ramify.lang.errors import InvalidRequest
from ramify.lang.protocol import Sampling
from ramify.runtime.scheduler.admission import check_token_ids

V = 32


def test_token_ids_outside_the_vocabulary_are_refused():
    check_token_ids(Sampling(logit_bias={V - 1: 1.0}, stop_token_ids=(0,)), V)
    with pytest.raises(InvalidRequest, match=f"logit_bias names token {V}") as caught:
        check_token_ids(Sampling(logit_bias={V: 1.0}), V)
    assert caught.value.param == "logit_bias"
    with pytest.raises(InvalidRequest, match="stop_token_ids names token -1"):
        check_token_ids(Sampling(stop_token_ids=(-1,)), V)
