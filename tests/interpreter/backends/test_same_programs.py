"""Programs give the same in process and through a server: one engine, two ways in."""

import pytest

import ramify
from ramify import assistant, function, gen, select, user
from ramify.interpreter.backends.endpoint import RuntimeEndpoint
from ramify.interpreter.backends.engine import EngineBackend
from ramify.runtime.engine import Engine
from tests.runtime.api.serving import served_in_thread

METHODS = [
    ramify.token_length_normalized,
    ramify.greedy_token_selection,
    ramify.unconditional_likelihood_normalized,
]


@pytest.fixture(scope="module")
def engine(tiny_model_dir):
    with Engine(str(tiny_model_dir("llama")), dtype="float32", max_total_tokens=2048) as engine:
        yield engine


@pytest.fixture(scope="module")
def endpoint(engine):
    with served_in_thread(engine) as url:
        yield RuntimeEndpoint(url)


@pytest.fixture(params=["engine", "endpoint"])
def backend(request, engine, endpoint):
    return EngineBackend(engine) if request.param == "engine" else endpoint


@function
def chat(s):
    s += user("hello")
    s += assistant(gen("first", max_tokens=9, ignore_eos=True))
    s += user("more")
    s += assistant("so " + gen("second", max_tokens=5, ignore_eos=True))
    s += user("sure?") + ramify.assistant_begin() + select("sure", ["yes", "no", "they"])


@function
def forks(s, mode):
    s += "The"
    group = s.fork(3)
    group += lambda i: f" {i}:" + gen("x", max_tokens=6, ignore_eos=True)
    group.join(mode)
    s += "." + gen("end", max_tokens=4, ignore_eos=True)


@function
def choose(s, prefix, method):
    s += prefix + select("x", ["the", "hello", "and so on", "é"], choices_method=method)


def usage_of(state):
    return [
        (node.kind, node.usage.prompt_tokens, node.usage.completion_tokens)
        for node in state.graph
        if node.kind == "generate"
    ]


def test_chat(engine, endpoint):
    here, there = (chat.run(backend=one, temperature=0) for one in (engine, endpoint))
    assert here.text() == there.text()
    assert here.messages() == there.messages()
    assert usage_of(here) == usage_of(there)


@pytest.mark.parametrize("mode", ["gather_variable", "concate_and_append"])
def test_forks(engine, endpoint, mode):
    here, there = (forks.run(mode, backend=one, temperature=0) for one in (engine, endpoint))
    assert (here.text(), here["end"]) == (there.text(), there["end"])
    if mode == "gather_variable":
        assert here["x"] == there["x"]
    assert usage_of(here) == usage_of(there)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("prefix", ["", "the answer is "])
def test_select(engine, endpoint, method, prefix):
    here, there = (choose.run(prefix, method, backend=one) for one in (engine, endpoint))
    assert here["x"] == there["x"]
    ours, theirs = here.get_meta_info("x"), there.get_meta_info("x")
    assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=1e-4)


def test_streams(engine, endpoint):
    here, there = (chat.stream(backend=one, temperature=0) for one in (engine, endpoint))
    assert "".join(here.text_iter()) == "".join(there.text_iter())


def test_batches(engine, endpoint):
    rows = [{"prefix": f"number {i} is ", "method": METHODS[0]} for i in range(20)]
    here, there = (choose.run_batch(rows, backend=one) for one in (engine, endpoint))
    assert [one["x"] for one in here] == [one["x"] for one in there]


def test_seeds(engine, endpoint):
    @function
    def body(s):
        group = s.fork(3)
        group += "x" + gen("x", max_tokens=8)
        group.join()

    here, there = (body.run(backend=one, seed=5)["x"] for one in (engine, endpoint))
    assert here == there
    assert len(set(here)) == 3


def test_a_second_turn_finds_its_past_in_the_cache(engine, backend):
    engine.flush_cache()
    state = chat.run(backend=backend, temperature=0)
    first, second = (node for node in state.graph if node.kind == "generate")
    past = first.usage.prompt_tokens + first.usage.completion_tokens
    assert second.usage.cached_tokens >= past - 1  # the last generated token was never fed


def test_a_refusal_names_the_call_and_the_engine_goes_on(backend):
    @function
    def long(s, text):
        s += text + gen("x", max_tokens=4)

    with pytest.raises(ramify.ProgramError, match="context_length_exceeded") as error:
        long.run("word " * 2000, backend=backend)
    assert isinstance(error.value.__cause__, ramify.ContextLengthExceeded)
    assert long.run("word ", backend=backend).error() is None


def test_dropping_a_fork_frees_the_engine(engine, backend):
    @function
    def body(s):
        with s.fork(4) as group:
            group += "go" + gen("x", max_tokens=400, ignore_eos=True)
        s += "x" + gen("y", max_tokens=1)

    before = engine.stats().generated_tokens
    body.run(backend=backend)
    assert engine.stats().generated_tokens - before < 4 * 400


def test_a_server_that_is_gone_is_named_by_the_program(engine):
    with served_in_thread(engine) as url:
        backend = RuntimeEndpoint(url)
        assert chat.run(backend=backend, temperature=0)["first"]
    with pytest.raises(ramify.ProgramError, match=url) as error:
        chat.run(backend=backend)
    assert isinstance(error.value.__cause__, ramify.BackendError)
