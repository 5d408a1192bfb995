"""Counts on the device: rows are taken back from requests that ended, and made as needed."""

from collections import Counter

import numpy as np
import pytest
import torch

from ramify.lang.protocol import Sampling
from ramify.runtime.core import PlannedRows
from ramify.runtime.executor import penalties as module
from ramify.runtime.executor.penalties import Penalties
from tests.runtime.executor.plans import CPU, make_request

VOCAB = 16


@pytest.fixture
def penalties(monkeypatch):
    monkeypatch.setattr(module, "_FIRST_STATES", 2)
    return Penalties(VOCAB, CPU)


def request(tokens, num_prompt, penalty=2.0):
    sampling = Sampling(repetition_penalty=penalty, seed=0)
    one = make_request(tokens, range(32), num_prompt=num_prompt, sampling=sampling)
    one.node = object()
    return one


def choose(penalties, requests, tokens):
    """A step in which each request, its tokens all known, is given one."""
    entries = [PlannedRows(r, r.num_tokens - 1, r.num_tokens, 0, sample=True) for r in requests]
    penalized = penalties.of(entries)
    penalties.apply(torch.ones(len(requests), VOCAB), entries, penalized)
    penalties.count(torch.tensor(tokens, dtype=torch.int32), entries, penalized)
    return penalized


def expected(one):
    """`seen` of a request's tokens."""
    prompt, output = one.token_ids[: one.num_prompt], Counter(one.token_ids[one.num_prompt :])
    return [(token in prompt) + 2 * output[token] for token in range(VOCAB)]


def test_prompt_choices_and_forced_tokens_are_counted(penalties):
    one = request([1, 1, 2, 5, 5], num_prompt=3)
    penalized = choose(penalties, [one], [5])
    one.token_ids += [5, 7, 8]  # the choice, then two that were forced
    choose(penalties, [one], [2])
    one.token_ids += [2]
    assert penalties._seen[penalized.places[0].state].tolist() == expected(one)


def test_requests_without_penalties_have_no_rows(penalties):
    one = request([1, 2], 1, penalty=1.0)
    entry = PlannedRows(one, 1, 2, 0, sample=True)
    assert penalties.of([entry]) is None
    assert not penalties._seen.numel()


def test_rows_of_ended_and_retracted_requests_are_counted_anew(penalties):
    first, second = request([1, 2, 3], 2), request([4], 1)
    choose(penalties, [first, second], [3, 4])
    first.node = None  # it ended
    second.slots = np.arange(32, dtype=np.int32)  # it was retracted, and admitted again
    third = request([9, 9], 1)
    penalized = choose(penalties, [second, third], [6, 9])
    second.token_ids += [6]
    third.token_ids += [9]
    for one, place in zip((second, third), penalized.places, strict=True):
        assert penalties._seen[place.state].tolist() == expected(one)
    assert len(penalties._seen) == 2


def test_more_requests_than_rows_make_more(penalties):
    many = [request([token], 1) for token in range(5)]
    penalized = choose(penalties, many, range(5, 10))
    for one, token, place in zip(many, range(5, 10), penalized.places, strict=True):
        one.token_ids.append(token)
        assert penalties._seen[place.state].tolist() == expected(one)
