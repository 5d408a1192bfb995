"""The engine's promises, on a tiny random model."""

import asyncio
import json
import re
import threading
import time

import pytest

from ramify.lang.errors import (
    Aborted,
    ConfigError,
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    InvalidRequest,
    LoadError,
    Unavailable,
)
from ramify.lang.protocol import (
    FinishReason,
    GenerateRequest,
    LogprobOptions,
    Sampling,
    TextSegment,
    TokenSegment,
    text_prompt,
)
from ramify.runtime.core import TokenDelta
from ramify.runtime.engine import Engine
from ramify.runtime.score import scored

GREEDY = Sampling(temperature=0.0, max_tokens=12, ignore_eos=True)


@pytest.fixture(scope="module", params=["thread", "process"])
def engine(tiny_model_dir, request):
    options = {"dtype": "float32", "max_total_tokens": 2048, "worker": request.param}
    with Engine(str(tiny_model_dir("llama")), **options) as engine:
        yield engine


@pytest.fixture(autouse=True)
def nothing_leaks(engine):
    yield
    deadline = time.monotonic() + 60  # an abort may still be on its way
    while engine.stats().num_running + engine.stats().num_waiting and time.monotonic() < deadline:
        time.sleep(0.005)
    engine.flush_cache()
    stats = engine.stats()
    assert stats.num_leaked_slots == 0
    assert stats.num_running == stats.num_waiting == 0
    assert stats.num_free_slots == stats.num_slots


def test_generate_returns_text_of_its_tokens(engine):
    answer = engine.generate("hello there", GREEDY)
    completion = answer.completions[0]
    assert len(answer.token_ids) == completion.usage.completion_tokens == 12
    assert answer.text == engine.detokenize(answer.token_ids)
    assert completion.finish.type == "length"
    assert completion.usage.prompt_tokens == len(engine.tokenize("hello there"))


def test_batch_gives_what_single_requests_give(engine):
    prompts = [f"prompt number {i} " + "x" * i for i in range(9)]
    alone = [engine.generate(prompt, GREEDY).token_ids for prompt in prompts]
    engine.flush_cache()
    together = [answer.token_ids for answer in engine.generate_batch(prompts, GREEDY)]
    assert together == alone


def test_stream_adds_up_to_the_answer(engine):
    sampling = Sampling(max_tokens=24, seed=7, ignore_eos=True)
    answer = engine.generate("stream me", sampling)
    deltas = list(engine.stream("stream me", sampling))
    assert "".join(delta.text for delta in deltas) == answer.text
    assert tuple(t for delta in deltas for t in delta.token_ids) == answer.token_ids
    assert [delta.finish is not None for delta in deltas] == [False] * (len(deltas) - 1) + [True]


def test_same_seed_same_tokens_whatever_the_batch(engine):
    sampling = Sampling(max_tokens=16, seed=11, ignore_eos=True)
    alone = engine.generate("seeded", sampling).token_ids
    others = [Sampling(max_tokens=16, seed=i, ignore_eos=True) for i in range(5)]
    batch = engine.generate_batch(["seeded"] * 6, [sampling, *others])
    assert batch[0].token_ids == alone
    assert any(answer.token_ids != alone for answer in batch[1:])


def test_n_completions_differ_and_the_first_is_that_of_n_1(engine):
    sampling = Sampling(max_tokens=16, seed=3, ignore_eos=True)
    one = engine.generate("several", sampling)
    many = engine.generate("several", Sampling(max_tokens=16, seed=3, ignore_eos=True, n=4))
    assert len(many.completions) == 4
    assert many.token_ids == one.token_ids
    assert len({completion.token_ids for completion in many.completions}) > 1


def test_a_stop_string_ends_the_answer_before_it(engine):
    free = engine.generate("find a stop", GREEDY)
    stop = free.text[4:6]
    cut = engine.generate("find a stop", Sampling(temperature=0, max_tokens=12, stop=(stop,)))
    completion = cut.completions[0]
    assert cut.text == free.text[: free.text.index(stop)]
    assert completion.finish.type == "stop" and completion.finish.matched == stop
    tail = cut.text.removeprefix(engine.detokenize(cut.token_ids))
    assert free.token_ids[: len(cut.token_ids)] == cut.token_ids
    assert engine.detokenize(cut.token_ids) + tail == cut.text


def test_a_stop_token_ends_the_answer_and_is_not_part_of_it(engine):
    free = engine.generate("stop token", GREEDY)
    stop = free.token_ids[5]
    first = free.token_ids.index(stop)
    cut = engine.generate(
        "stop token",
        Sampling(temperature=0, max_tokens=12, stop_token_ids=(stop,), ignore_eos=True),
    )
    assert cut.token_ids == free.token_ids[:first]
    assert cut.completions[0].finish.matched == stop


def test_a_follow_up_finds_every_computed_token_in_the_cache(engine):
    prompt = text_prompt("a first prompt that is long enough to matter")
    first = engine.generate(prompt, GREEDY)
    follow_up = (*prompt, TokenSegment(first.token_ids), TextSegment(" and more"))
    second = engine.generate(follow_up, GREEDY).completions[0].usage
    num_computed_before = first.completions[0].usage.prompt_tokens + len(first.token_ids) - 1
    assert second.cached_tokens == num_computed_before


def test_sixteen_forks_of_one_prompt_compute_it_once_even_when_they_arrive_together(engine):
    shared = [3 + i % 250 for i in range(400)]
    before = engine.stats().computed_tokens
    own = 5
    prompts = [[*shared, *range(20 + i, 20 + i + own)] for i in range(16)]
    engine.generate_batch(prompts, Sampling(max_tokens=1, temperature=0, ignore_eos=True))
    assert engine.stats().computed_tokens - before <= 400 + 16 * own


def test_prompt_logprobs_of_cached_and_uncached_prompts_are_equal(engine):
    options = LogprobOptions(output=True, prompt_start=0, top=3)
    cold = engine.generate("log-probabilities", GREEDY, logprobs=options).completions[0]
    warm = engine.generate("log-probabilities", GREEDY, logprobs=options).completions[0]
    assert len(cold.prompt_logprobs) == cold.usage.prompt_tokens
    assert cold.prompt_logprobs[0].logprob is None
    assert len(cold.logprobs) == 12 and all(len(entry.top) == 3 for entry in cold.logprobs)
    for one, other in zip(cold.prompt_logprobs[1:], warm.prompt_logprobs[1:], strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)


def test_score_equals_prompt_logprobs(engine):
    result = engine.score("the prefix", [" one", " another choice", "x"], unconditional=True)
    for score in result.scores:
        ids = [*engine.tokenize("the prefix"), *score.token_ids]
        options = LogprobOptions(prompt_start=len(ids) - len(score.token_ids))
        answer = engine.generate(ids, Sampling(max_tokens=0), logprobs=options)
        reference = [entry.logprob for entry in answer.completions[0].prompt_logprobs]
        assert list(score.logprobs) == pytest.approx(reference, abs=1e-4)
        assert len(score.unconditional_logprobs) == len(score.token_ids)
        assert all(value < 0 for value in score.unconditional_logprobs)


def test_score_of_an_empty_prompt_and_of_more_choices_than_fit_a_wave(engine):
    result = engine.score("", [f"choice {i}" for i in range(300)])
    assert len(result.scores) == 300
    assert all(len(score.logprobs) == len(score.token_ids) for score in result.scores)


def test_max_tokens_zero_only_fills_the_cache(engine):
    answer = engine.generate("prefill only", Sampling(max_tokens=0))
    assert answer.token_ids == () and answer.completions[0].finish.type == "length"
    usage = engine.generate("prefill only", GREEDY).completions[0].usage
    assert usage.cached_tokens == usage.prompt_tokens - 1


def test_an_answer_keeps_to_its_regex_beside_free_neighbours(engine):
    free = engine.generate("constrained", GREEDY).token_ids
    regex = r"(yes|no), [0-9]{2,4}\."
    held = [
        Sampling(max_tokens=60, seed=seed, regex=regex, ignore_eos=bool(seed % 2))
        for seed in range(6)
    ]
    answers = engine.generate_batch(["constrained"] * 7, [*held, GREEDY])
    for answer in answers[:6]:
        assert re.fullmatch(regex, answer.text)
        assert answer.completions[0].finish.type == "stop"
    assert answers[6].token_ids == free


def test_an_answer_is_one_of_the_choices(engine):
    choices = ("apple", "apricot", "banana")
    answers = engine.generate_batch(
        ["pick"] * 4, [Sampling(max_tokens=20, seed=i, choices=choices) for i in range(4)]
    )
    assert all(answer.text in choices for answer in answers)


def test_an_answer_satisfies_its_json_schema(engine):
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}}
    schema |= {"required": ["n"], "additionalProperties": False}
    sampling = Sampling(max_tokens=60, seed=1, json_schema=json.dumps(schema))
    answer = engine.generate("json", sampling)
    assert json.loads(answer.text)["n"] >= 3


def test_a_bad_regex_is_refused_with_its_place(engine):
    with pytest.raises(InvalidRequest, match="regex") as error:
        engine.generate("x", Sampling(regex="a(b"))
    assert error.value.code == "invalid_regex" and error.value.param == "regex"


@pytest.mark.parametrize(
    ("prompt", "sampling", "error", "words"),
    [
        ("", GREEDY, InvalidRequest, "no tokens"),
        ("x", Sampling(max_tokens=10_000), ContextLengthExceeded, "10000|10,000"),
        ([1] * 600, GREEDY, ContextLengthExceeded, "600"),
        ([1, 999], GREEDY, InvalidRequest, "token id 999"),
        ([-1], GREEDY, InvalidRequest, "-1"),
        ("x", Sampling(temperature=float("nan")), InvalidRequest, "temperature"),
        ("x", Sampling(top_p=0.0), InvalidRequest, "top_p"),
        ("x", Sampling(logit_bias={999: 1.0}), InvalidRequest, "logit_bias"),
        ("x", Sampling(stop=("",)), InvalidRequest, "stop"),
    ],
)
def test_bad_input_is_refused_by_name_and_the_next_request_is_served(
    engine, prompt, sampling, error, words
):
    with pytest.raises(error, match=words):
        engine.generate(prompt, sampling)
    assert len(engine.generate("next", GREEDY).token_ids) == 12


def test_a_deadline_ends_the_request(engine):
    with pytest.raises(DeadlineExceeded):
        engine.generate("late", Sampling(max_tokens=400, ignore_eos=True), timeout_s=0.005)


def test_closing_the_stream_aborts(engine):
    stream = engine.stream("never mind", Sampling(max_tokens=400, ignore_eos=True))
    next(stream)
    before = engine.stats().num_aborted
    stream.close()
    engine.flush_cache()  # behind the abort in the worker's inbox
    assert engine.stats().num_aborted == before + 1


async def test_abort_takes_exact_ids_only(engine):
    def request(rid):
        sampling = Sampling(max_tokens=300, ignore_eos=True, seed=1)
        return GenerateRequest(rid=rid, prompt=text_prompt("abort"), sampling=sampling)

    async def finish_of(rid):
        return [delta async for delta in engine.async_generate(request(rid))][-1].finish.type

    tasks = [asyncio.create_task(finish_of(rid)) for rid in ("a1", "a10")]
    while engine.stats().num_running < 2:
        await asyncio.sleep(0.001)
    assert await engine.abort("a1") == 1
    assert await engine.abort("a") == 0
    assert [await task for task in tasks] == ["abort", "length"]


def test_an_aborted_score_is_an_error():
    ended = TokenDelta("r", 0, (), finish=FinishReason(type="abort"))
    with pytest.raises(Aborted):
        scored(ended)


async def test_cancelled_before_it_was_accepted_a_rid_is_free_again(engine):
    sampling = Sampling(max_tokens=5, ignore_eos=True)
    request = GenerateRequest(rid="early", prompt=text_prompt("x"), sampling=sampling)
    for delay in (0, 0, 0, 0.0005, 0.001):
        task = asyncio.create_task(anext(engine.async_generate(request)))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        while engine._streams.is_live("early"):
            await asyncio.sleep(0.001)
    assert [delta async for delta in engine.async_generate(request)][-1].finish.type == "length"


async def test_a_rid_in_use_is_refused(engine):
    sampling = Sampling(max_tokens=300, ignore_eos=True)
    request = GenerateRequest(rid="twice", prompt=text_prompt("x"), sampling=sampling)
    first = engine.async_generate(request)
    await anext(first)
    with pytest.raises(InvalidRequest, match="twice"):
        await anext(engine.async_generate(request))
    await first.aclose()


def test_many_requests_in_a_small_pool_all_finish_with_the_same_tokens(tiny_model_dir):
    prompts = [[3 + (i * 7 + j) % 250 for j in range(20 + i)] for i in range(12)]
    sampling = Sampling(temperature=0.0, max_tokens=120, ignore_eos=True)
    path = str(tiny_model_dir("llama"))
    with Engine(path, dtype="float32", max_total_tokens=4096) as roomy:
        expected = [answer.token_ids for answer in roomy.generate_batch(prompts, sampling)]
    with Engine(path, dtype="float32", max_total_tokens=400) as tight:
        found = [answer.token_ids for answer in tight.generate_batch(prompts, sampling)]
        assert tight.stats().num_retracted > 0
        assert tight.stats().num_leaked_slots == 0
    assert found == expected


@pytest.mark.parametrize("chunk", [16, 64, -1])
@pytest.mark.parametrize("disable_radix_cache", [False, True])
def test_chunk_size_and_cache_do_not_change_the_tokens(tiny_model_dir, chunk, disable_radix_cache):
    prompts = [[3 + (i * 11 + j) % 250 for j in range(150)] for i in range(4)]
    path = str(tiny_model_dir("qwen3"))
    with Engine(path, dtype="float32", max_total_tokens=4096) as plain:
        expected = [plain.generate(prompt, GREEDY).token_ids for prompt in prompts]
    with Engine(
        path,
        dtype="float32",
        max_total_tokens=4096,
        chunked_prefill_size=chunk,
        disable_radix_cache=disable_radix_cache,
    ) as engine:
        assert [a.token_ids for a in engine.generate_batch(prompts, GREEDY)] == expected


def test_a_closed_engine_leaves_no_thread(tiny_model_dir):
    before = set(threading.enumerate())
    with Engine(str(tiny_model_dir("llama")), max_total_tokens=512) as engine:
        engine.generate("The ", Sampling(max_tokens=2, regex="[a-z]+"))
        assert set(threading.enumerate()) - before
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
    assert set(threading.enumerate()) <= before


def test_a_fault_of_a_step_ends_only_the_requests_in_it(tiny_model_dir, monkeypatch):
    options = {"dtype": "float32", "device": "cpu", "max_total_tokens": 512}
    with Engine(str(tiny_model_dir("llama")), **options) as engine:
        executor = engine._worker._loop._executor
        real = executor.execute

        def faulty(plan):
            if any(13 in entry.request.token_ids for entry in plan.rows):
                raise ZeroDivisionError("planted")
            return real(plan)

        monkeypatch.setattr(executor, "execute", faulty)
        with pytest.raises(Exception, match="planted"):
            engine.generate([12, 13, 14], GREEDY)
        assert len(engine.generate([12, 14], GREEDY).token_ids) == 12
        engine.flush_cache()
        stats = engine.stats()
        assert stats.num_failed == 1 and stats.num_free_slots == stats.num_slots


def test_a_fault_outside_any_step_answers_every_caller(tiny_model_dir, monkeypatch):
    options = {"dtype": "float32", "device": "cpu", "max_total_tokens": 512, "worker": "thread"}
    with Engine(str(tiny_model_dir("llama")), **options) as engine:
        stream = engine.stream("x", Sampling(max_tokens=400, ignore_eos=True))
        next(stream)
        monkeypatch.setattr(engine._worker._scheduler, "add", lambda spec: 1 // 0)
        with pytest.raises(EngineError, match="ZeroDivisionError"):
            engine.generate_batch(["a", "b", "c"], GREEDY)
        assert list(stream)[-1].error.type == "EngineError"
        with pytest.raises(Unavailable, match="ZeroDivisionError") as error:
            engine.check()
        assert error.value.code == "engine_failed"


def test_closing_ends_what_runs_and_refuses_what_comes(tiny_model_dir):
    engine = Engine(str(tiny_model_dir("llama")), dtype="float32", max_total_tokens=512)
    stream = engine.stream("x", Sampling(max_tokens=400, ignore_eos=True))
    next(stream)
    engine.close()
    with pytest.raises(Unavailable, match="closed"):
        asyncio.run(anext(engine.async_generate(GenerateRequest(rid="r", prompt=text_prompt("x")))))


def test_options_that_cannot_work_are_named(tiny_model_dir):
    path = str(tiny_model_dir("llama"))
    with pytest.raises(ConfigError, match="context_length=100000"):
        Engine(path, context_length=100_000)
    with pytest.raises(ConfigError, match="chunked_prefill_size=3"):
        Engine(path, chunked_prefill_size=3)
    with pytest.raises(LoadError, match="no-such-model"):
        Engine("no-such-model")


def test_a_request_larger_than_the_pool_is_refused_with_the_fix(tiny_model_dir):
    with (
        Engine(str(tiny_model_dir("llama")), max_total_tokens=32) as engine,
        pytest.raises(InvalidRequest, match=r"max.total.tokens"),
    ):
        engine.generate([5] * 30, Sampling(max_tokens=30))
