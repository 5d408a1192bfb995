"""Programs on the engine in this process, with a tiny random model."""

import pytest

import ramify
from ramify import assistant, function, gen, select, user
from ramify.interpreter.backends.engine import EngineBackend
from ramify.runtime.engine import Engine


@pytest.fixture(scope="module")
def engine(tiny_model_dir):
    with Engine(str(tiny_model_dir("llama")), dtype="float32", max_total_tokens=2048) as engine:
        yield engine


@function
def talk(s):
    s += user("hello")
    s += assistant(gen("first", max_tokens=9, ignore_eos=True))
    s += user("more")
    s += assistant("so " + gen("second", max_tokens=5, ignore_eos=True))
    s += user("sure?") + ramify.assistant_begin() + select("sure", ["yes", "no", "they"])


def test_an_engine_is_a_backend(engine):
    state = talk.run(backend=engine, temperature=0)
    assert state.get_meta_info("first")["completion_tokens"] == 9
    assert state["sure"] in ("yes", "no", "they")
    assert [message["role"] for message in state.messages()] == ["user", "assistant"] * 3
    same = talk.run(backend=EngineBackend(engine), temperature=0)
    assert same.text() == state.text()


def test_joined_forks_are_the_tokens_they_were(engine):
    @function
    def body(s):
        s += "The"
        forks = s.fork(2)
        forks += lambda i: f" {i}:" + gen("x", max_tokens=4, ignore_eos=True)
        forks.join("concate_and_append")
        s += "." + gen("end", max_tokens=2)

    state = body.run(backend=engine, temperature=0)
    assert len(state["end"]) > 0
    assert state.text().startswith("The 0:")


@pytest.mark.parametrize(
    "method",
    [
        ramify.token_length_normalized,
        ramify.greedy_token_selection,
        ramify.unconditional_likelihood_normalized,
    ],
)
@pytest.mark.parametrize("prefix", ["", "the answer is "])
def test_select_by_every_method_with_and_without_a_prefix(engine, method, prefix):
    @function
    def body(s):
        s += prefix + select("x", ["the", "hello", "and so on"], choices_method=method)

    meta = body.run(backend=engine).get_meta_info("x")
    assert sum(meta["probabilities"]) == pytest.approx(1)


def test_streaming(engine):
    state = talk.stream(backend=engine, temperature=0)
    assert "".join(state.text_iter()) == talk.run(backend=engine, temperature=0).text()


def test_seeded_runs_repeat(engine):
    @function
    def body(s):
        forks = s.fork(3)
        forks += "x" + gen("x", max_tokens=8)
        forks.join()

    one, same, other = (body.run(backend=engine, seed=seed)["x"] for seed in (1, 1, 2))
    assert one == same != other
    assert len(set(one)) == 3


def test_a_refusal_names_the_call_and_the_engine_goes_on(engine):
    @function
    def long(s, text):
        s += text + gen("x", max_tokens=4)

    with pytest.raises(ramify.ProgramError, match="context_length_exceeded") as error:
        long.run("word " * 2000, backend=engine)
    assert isinstance(error.value.__cause__, ramify.ContextLengthExceeded)
    assert long.run("word ", backend=engine).error() is None


def test_dropping_a_fork_frees_the_engine(engine):
    @function
    def body(s):
        with s.fork(4) as forks:
            forks += "go" + gen("x", max_tokens=400, ignore_eos=True)
        s += "x" + gen("y", max_tokens=1)

    body.run(backend=engine)
    before = engine.stats().generated_tokens
    body.run(backend=engine)
    assert engine.stats().generated_tokens - before < 4 * 400


def test_typed_constraints_reach_the_engine(engine):
    @function
    def body(s):
        s += gen("x", schema={"type": "object"}, max_tokens=4)

    (state,) = body.run_batch([{}], backend=engine)
    error = state.error()  # a cut answer, or an engine without grammars: never plain text
    assert isinstance(error.__cause__, ramify.InvalidRequest)


def test_runtime_is_an_engine_of_its_own(tiny_model_dir):
    runtime = ramify.Runtime(str(tiny_model_dir("llama")), max_total_tokens=512)
    ramify.set_default_backend(runtime)
    try:
        ramify.flush_cache()
        assert talk.run(temperature=0)["first"]
    finally:
        ramify.set_default_backend(None)
        runtime.shutdown()
    with pytest.raises(ramify.ProgramError):
        talk.run(backend=runtime)
