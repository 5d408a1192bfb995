import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ramify.lang.protocol import LogprobOptions, Sampling
from ramify.runtime.executor.sampler import _filtered, apply_bitmask, sample
from tests.runtime.executor.plans import make_request

V = 997


def _request(num_output=0, logprobs=None, **sampling):
    sampling.setdefault("seed", 3)
    tokens = np.random.default_rng(num_output).integers(3, V, 20 + num_output)
    return make_request(tokens, [], num_prompt=20, sampling=Sampling(**sampling), logprobs=logprobs)


def _logits(rows, seed=0, scale=3.0):
    return torch.randn(rows, V, generator=torch.Generator().manual_seed(seed)) * scale


def _tokens(results):
    return [result.token for result in results]


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.7},
        {"temperature": 1.3, "top_k": 7},
        {"top_k": 1},
        {"top_p": 0.8},
        {"top_p": 0.999},  # more than the candidates looked at first
        {"min_p": 0.05},
        {"temperature": 0.9, "top_k": 50, "top_p": 0.6, "min_p": 0.1},
        {"top_k": 5000, "top_p": 1e-6},
    ],
)
def test_filters_keep_what_transformers_keeps(fields):
    s = Sampling(**fields)
    processors = LogitsProcessorList([TemperatureLogitsWarper(s.temperature)])
    if s.top_k > 0:
        processors.append(TopKLogitsWarper(min(s.top_k, V)))
    if s.top_p < 1:
        processors.append(TopPLogitsWarper(s.top_p))
    if s.min_p > 0:
        processors.append(MinPLogitsWarper(s.min_p))
    for scale in (0.3, 3.0):
        logits = _logits(6, scale=scale)
        expected = processors(None, logits.clone()).softmax(-1)
        got = _filtered(logits, [s] * 6)
        torch.testing.assert_close(got / got.sum(-1, keepdim=True), expected)


def test_rows_with_different_filters_do_not_disturb_each_other():
    samplings = [Sampling(), Sampling(top_k=3), Sampling(top_p=0.5), Sampling(min_p=0.2)]
    logits = _logits(4)
    together = _filtered(logits, samplings)
    for row, sampling in enumerate(samplings):
        assert torch.equal(together[row], _filtered(logits[row : row + 1], [sampling])[0])


def test_draws_follow_the_distribution():
    logits = torch.log(torch.tensor([0.5, 0.25, 0.125, 0.125]))
    counts = np.zeros(4)
    for seed in range(4000):
        request = make_request([1, 2], [], sampling=Sampling(seed=seed))
        counts[sample(logits[None].clone(), [request])[0].token] += 1
    assert np.abs(counts / 4000 - [0.5, 0.25, 0.125, 0.125]).max() < 0.03


def test_a_seeded_draw_does_not_depend_on_the_batch():
    requests = [_request(num_output=i, seed=i, temperature=0.8, top_p=0.9) for i in range(9)]
    requests[4] = _request(temperature=0.0)
    logits = _logits(9)
    together = _tokens(sample(logits.clone(), requests))
    alone = [_tokens(sample(logits[i : i + 1].clone(), [r]))[0] for i, r in enumerate(requests)]
    reverse = _tokens(sample(logits.flip(0).clone(), requests[::-1]))[::-1]
    assert together == alone == reverse


def test_greedy_takes_the_first_of_the_likeliest():
    logits = torch.zeros(1, V)
    logits[0, [8, 5, 900]] = 4.0
    assert _tokens(sample(logits, [_request(temperature=0.0)])) == [5]


def test_repetition_penalty_is_transformers():
    request = _request(num_output=15, temperature=0.0, repetition_penalty=1.7, seed=0)
    logits = _logits(1)
    expected = RepetitionPenaltyLogitsProcessor(1.7)(
        torch.tensor([request.token_ids]), logits.clone()
    )
    sample(logits, [request])
    torch.testing.assert_close(logits, expected)


def test_frequency_and_presence_count_output_tokens_only():
    request = make_request(
        [5, 6, 7, 7, 8],
        [],
        num_prompt=2,
        sampling=Sampling(temperature=0.0, frequency_penalty=0.5, presence_penalty=0.25),
    )
    logits = torch.zeros(1, V)
    sample(logits, [request])
    assert logits[0, [5, 6, 7, 8, 9]].tolist() == [0.0, 0.0, -1.25, -0.75, 0.0]


def test_logit_bias_can_force_and_forbid():
    logits = _logits(2)
    best = int(logits[0].argmax())
    bias = {11: 100.0}
    requests = [
        _request(temperature=0.0, logit_bias=bias),
        _request(temperature=0.0, logit_bias={best: -100.0}),
    ]
    logits[1] = logits[0]
    forced, other = _tokens(sample(logits, requests))
    assert forced == 11 and other != best


@pytest.mark.parametrize(("num_output", "ignore_eos"), [(0, False), (0, True), (3, False)])
def test_min_tokens_masks_eos_and_stop_ids_until_then(num_output, ignore_eos):
    fields = {"min_tokens": 3, "stop_token_ids": (9,), "ignore_eos": ignore_eos}
    request = _request(num_output=num_output, temperature=0.0, **fields)
    logits = torch.zeros(1, V)
    sample(logits, [request])
    masked = set(torch.isinf(logits[0]).nonzero()[:, 0].tolist())
    expected = set() if num_output >= 3 else {9} if ignore_eos else {2, 9}
    assert masked == expected


@pytest.mark.parametrize("vocab", [31, 32, 33, 997])
def test_bitmask_keeps_exactly_the_bits_that_are_set(vocab):
    allowed = torch.rand(3, vocab) < 0.5
    words = np.zeros((3, (vocab + 31) // 32), np.uint32)
    for row, token in allowed.nonzero().tolist():
        words[row, token // 32] |= np.uint32(1) << np.uint32(token % 32)
    words[:, -1] |= (
        np.uint32(0) if vocab % 32 == 0 else np.uint32(0xFFFFFFFF << vocab % 32 & 0xFFFFFFFF)
    )
    logits = torch.randn(3, vocab)
    masked = logits.clone()
    apply_bitmask(masked, torch.from_numpy(words.view(np.int32)))
    assert torch.equal(masked == logits, allowed)
    assert torch.isinf(masked[~allowed]).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_bad_logits_end_their_request_only(value):
    logits = _logits(3)
    expected = _tokens(sample(logits.clone(), [_request(temperature=0.0)] * 3))
    logits[1, 500] = value
    results = sample(logits, [_request(temperature=0.0)] * 3)
    assert results[1].token is None and results[1].error.code == "bad_logits"
    assert [results[0].token, results[2].token] == [expected[0], expected[2]]


def test_a_row_with_no_allowed_token_is_an_error():
    logits = _logits(1)
    result = sample(logits, [_request()], torch.zeros(1, (V + 31) // 32, dtype=torch.int32))[0]
    assert result.token is None and "no token is allowed" in result.error.message


def test_logprobs_are_of_the_raw_logits():
    asked = LogprobOptions(output=True, top=3)
    fields = {"temperature": 0.3, "top_k": 5, "logit_bias": {4: 3.0}, "seed": 5}
    requests = [_request(), _request(logprobs=asked, **fields), _request(temperature=0.0)]
    logits = _logits(3)
    raw = logits.log_softmax(-1)
    results = sample(logits.clone(), requests)
    assert results[0].logprob is None and results[2].logprob is None
    found = results[1].logprob
    assert found.token_id == results[1].token
    assert found.logprob == pytest.approx(raw[1, found.token_id].item(), abs=1e-5)
    best = raw[1].topk(3)
    assert [token for _, token in found.top] == best.indices.tolist()
    assert [value for value, _ in found.top] == pytest.approx(best.values.tolist(), abs=1e-5)
