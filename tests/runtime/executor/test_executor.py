import numpy as np
import pytest
import torch

from ramify.lang.protocol import LogprobOptions, Sampling
from ramify.runtime.cache.kv_pool import kv_bytes_per_slot
from ramify.runtime.executor import executor as executor_module
from ramify.runtime.executor.executor import Executor
from tests.runtime.executor.plans import make_model, make_pool, make_request, plan, run
from tests.tiny_models import VOCAB_SIZE


@pytest.fixture(scope="module")
def model(tiny_model_dir):
    return make_model(tiny_model_dir("llama"))


def _tokens(count, seed=0):
    return np.random.default_rng(seed).integers(3, VOCAB_SIZE, count)


def test_results_come_in_the_plans_order(model):
    pool = make_pool(model)
    sampled = make_request(_tokens(9), np.arange(9))
    chunk = make_request(_tokens(30, seed=1), np.arange(100, 130))
    greedy = int(run(model, make_pool(model), plan((sampled, 0, 9)))[0].argmax())
    results = Executor(model, pool).execute(plan((chunk, 0, 16), (sampled, 0, 9)))
    assert [result.next_token for result in results] == [None, greedy]
    assert all(result.error is None and result.scores == () for result in results)


@pytest.mark.parametrize("limit", [64 << 20, 5 * 4 * VOCAB_SIZE])  # all at once; five rows at once
def test_prompt_logprobs_are_those_of_the_full_pass_in_any_chunks(model, monkeypatch, limit):
    monkeypatch.setattr(executor_module, "_LOGIT_BYTES", limit)
    tokens = _tokens(40)
    asked = LogprobOptions(prompt_start=3, top=2, output=True)
    request = make_request(tokens, np.arange(40), logprobs=asked)
    pool = make_pool(model)
    expected = torch.stack(
        [
            run(model, make_pool(model), plan((make_request(tokens[:n], np.arange(n)), 0, n)))[0]
            for n in range(1, 41)
        ]
    ).log_softmax(-1)
    found = []
    executor = Executor(model, pool)
    for start, end in ((0, 2), (2, 17), (17, 40)):
        result = executor.execute(plan((request, start, end, start, 3)))[0]
        found += result.scores
    assert [value.token_id for value in found] == tokens[4:].tolist()
    for position, value in zip(range(3, 39), found, strict=True):
        row = expected[position]
        assert value.logprob == pytest.approx(row[tokens[position + 1]].item(), abs=1e-4)
        assert [token for _, token in value.top] == row.topk(2).indices.tolist()
    assert result.logprob.token_id == result.next_token == int(expected[39].argmax())


def test_nan_in_one_request_is_its_error_alone(model):
    pool = make_pool(model)
    good, bad = make_request(_tokens(8), np.arange(8)), make_request(_tokens(5), np.arange(50, 55))
    executor = Executor(model, pool)
    expected = executor.execute(plan((good, 0, 8)))[0].next_token
    executor.execute(plan((make_request(bad.token_ids[:4], bad.slots), 0, 4)))
    pool.v[:, 51] = torch.nan
    results = executor.execute(plan((bad, 4, 5), (good, 7, 8)))
    assert results[0].error.code == "bad_logits" and results[0].next_token is None
    assert results[1].error is None and results[1].next_token == expected


def test_seeded_output_survives_retraction(model):
    sampling = Sampling(temperature=1.0, seed=11)

    def generate(retract_after):
        executor = Executor(model, make_pool(model))
        request = make_request(_tokens(10), np.arange(60), num_prompt=10, sampling=sampling)
        done = 0
        for number in range(12):
            if number == retract_after:  # all K and V lost, computed again elsewhere
                request.slots, done = np.arange(200, 260, dtype=np.int32), 0
            step = plan((request, done, request.num_tokens))
            done = request.num_tokens
            request.token_ids.append(executor.execute(step)[0].next_token)
        return request.token_ids

    assert generate(retract_after=6) == generate(retract_after=None)


def test_bytes_per_slot_are_what_the_pool_takes(model):
    pool = make_pool(model, num_slots=10)
    config = model.config
    per_slot = kv_bytes_per_slot(
        config.num_layers, config.num_kv_heads, config.head_dim, model.dtype
    )
    assert pool.num_bytes == 10 * per_slot and pool.num_slots == 10
