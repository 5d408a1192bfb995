"""The compiled step against the torch path, and what a row's result may depend on."""

import numpy as np
import pytest
import torch

from tests.runtime.executor.plans import make_model, make_pool, make_request, plan, run
from tests.tiny_models import TINY_MODELS, VOCAB_SIZE

DTYPES = (torch.float32, torch.bfloat16)
CHUNKS = (1, 2, 3, 5, 16, 17, 64, 143, 200)  # 451 tokens: over a split of attention, odd sizes


def _tokens(count, seed=0):
    return np.random.default_rng(seed).integers(3, VOCAB_SIZE, count)


def _slots(count, seed=1, num_slots=1024):
    return np.random.default_rng(seed).permutation(num_slots)[:count]


def _chunked(model, pool, request, chunks, **options):
    outputs, start = [], 0
    for size in chunks:
        cut = make_request(request.token_ids[: start + size], request.slots)
        outputs.append(run(model, pool, plan((cut, start, start + size)), **options))
        start += size
    return torch.cat(outputs)


@pytest.mark.parametrize("name", TINY_MODELS)
def test_compiled_step_equals_the_torch_path(tiny_model_dir, name):
    model = make_model(tiny_model_dir(name))
    request = make_request(_tokens(sum(CHUNKS)), _slots(sum(CHUNKS)))
    ours = _chunked(model, make_pool(model), request, CHUNKS)
    reference = _chunked(model, make_pool(model), request, CHUNKS, reference=True)
    torch.testing.assert_close(ours, reference, rtol=0, atol=5e-5)


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral-window"])
def test_bfloat16_stays_near_the_torch_path(tiny_model_dir, name):
    model = make_model(tiny_model_dir(name), torch.bfloat16)
    request = make_request(_tokens(sum(CHUNKS)), _slots(sum(CHUNKS)))
    ours = _chunked(model, make_pool(model), request, CHUNKS)
    reference = _chunked(model, make_pool(model), request, CHUNKS, reference=True)
    assert (ours - reference).abs().mean() < 0.03 * reference.std()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["llama", "qwen3-untied", "mistral-window"])
def test_logits_have_the_same_bits_however_the_prompt_is_cut(tiny_model_dir, name, dtype):
    model = make_model(tiny_model_dir(name), dtype)
    request = make_request(_tokens(300), _slots(300))
    whole = run(model, make_pool(model), plan((request, 0, 300)))
    for size in (1, 16, 64):
        pool = make_pool(model)
        for start in range(0, 300, size):
            end = min(start + size, 300)
            last = run(
                model,
                pool,
                plan((make_request(request.token_ids[:end], request.slots), start, end)),
            )
        assert torch.equal(last, whole), size


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_have_the_same_bits_alone_and_in_a_mixed_batch(tiny_model_dir, dtype):
    model = make_model(tiny_model_dir("qwen2"), dtype)
    slots = _slots(1024)
    lengths = (300, 1, 40, 129, 17, 2)
    bounds = np.cumsum((0, *lengths))
    requests = [
        make_request(_tokens(n, seed=n), slots[bounds[i] : bounds[i + 1]])
        for i, n in enumerate(lengths)
    ]
    alone = [run(model, make_pool(model), plan((r, 0, r.num_tokens)))[0] for r in requests]
    pool = make_pool(model)
    for request in requests[::2]:  # half of them decode, half prefill
        cut = make_request(request.token_ids[:-1], request.slots)
        run(model, pool, plan((cut, 0, cut.num_tokens)))
    starts = [r.num_tokens - 1 if i % 2 == 0 else 0 for i, r in enumerate(requests)]
    step = plan(*((r, start, r.num_tokens) for r, start in zip(requests, starts, strict=True)))
    together = run(model, pool, step)
    for row, expected in zip(together, alone, strict=True):
        assert torch.equal(row, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_reads_what_another_request_of_the_step_writes(tiny_model_dir, dtype):
    model = make_model(tiny_model_dir("llama"), dtype)
    slots, tokens = _slots(400), _tokens(200)
    child_tokens = [*tokens[:150], *_tokens(9, seed=5)]
    parent = make_request(tokens, slots[:200])
    child = make_request(child_tokens, [*slots[:150], *slots[200:209]])
    alone = run(model, make_pool(model), plan((child, 0, 159)))
    for order in ((child, parent), (parent, child)):
        starts = {id(parent): 0, id(child): 150}
        step = plan(*((r, starts[id(r)], r.num_tokens) for r in order))
        logits = run(model, make_pool(model), step)
        assert torch.equal(logits[order.index(child)], alone[0])


@pytest.mark.parametrize("reference", [False, True])
def test_rows_below_write_from_are_computed_but_not_stored(tiny_model_dir, reference):
    model = make_model(tiny_model_dir("llama"))
    request = make_request(_tokens(40), _slots(40))
    pool = make_pool(model)
    expected = run(model, pool, plan((request, 0, 40)), reference=reference)
    kept = pool.k.clone()
    again = run(model, pool, plan((request, 20, 40, 40)), reference=reference)
    torch.testing.assert_close(again, expected, rtol=0, atol=1e-5)
    assert torch.equal(pool.k, kept)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_of_one_request_leaves_its_neighbours_alone(tiny_model_dir, dtype):
    model = make_model(tiny_model_dir("llama"), dtype)
    pool, slots = make_pool(model), _slots(30)
    good, bad = make_request(_tokens(12), slots[:12]), make_request(_tokens(9), slots[12:21])
    run(model, pool, plan((make_request(good.token_ids[:-1], good.slots), 0, 11)))
    run(model, pool, plan((make_request(bad.token_ids[:-1], bad.slots), 0, 8)))
    expected = run(model, pool, plan((good, 11, 12)))
    pool.k[:, slots[14]] = torch.nan
    together = run(model, pool, plan((bad, 8, 9), (good, 11, 12)))
    assert together[0].isnan().any()
    assert torch.equal(together[1], expected[0])


def test_one_thread_and_three_give_the_same_bits(tiny_model_dir):
    outputs = []
    for num_threads in (1, 3):
        model = make_model(tiny_model_dir("qwen3"), torch.bfloat16, num_threads)
        request = make_request(_tokens(70), _slots(70))
        outputs.append(_chunked(model, make_pool(model), request, (60, 1, 9)))
        model.close()
    assert torch.equal(*outputs)


def test_float16_runs_on_the_torch_path(tiny_model_dir):
    model = make_model(tiny_model_dir("llama"), torch.float16)
    assert not model.has_own_threads
    request = make_request(_tokens(20), _slots(20))
    exact = make_model(tiny_model_dir("llama"))
    got = run(model, make_pool(model), plan((request, 0, 20)))
    expected = run(exact, make_pool(exact), plan((request, 0, 20)))
    torch.testing.assert_close(got, expected, rtol=0, atol=0.05)


def test_more_rows_than_before_make_room_for_themselves(tiny_model_dir):
    model = make_model(tiny_model_dir("llama"))
    pool = make_pool(model)
    for size in (3, 200, 1, 400, 20):
        request = make_request(_tokens(size), _slots(size))
        ours = run(model, pool, plan((request, 0, size)))
        reference = run(model, make_pool(model), plan((request, 0, size)), reference=True)
        torch.testing.assert_close(ours, reference, rtol=0, atol=5e-5)
