"""Arguments, options, binding, defaults, tracing."""

import pytest

import ramify
from ramify import MockBackend, function, gen


@function
def qa(s, question, tone="kind"):
    s += f"{question} {tone}: " + gen("answer")


def sampling_of(backend):
    return backend.requests[-1].sampling


def test_run_options_are_defaults_of_every_gen():
    backend = MockBackend()
    qa.run("q", backend=backend, temperature=0, max_new_tokens=7, stop="x")
    sampling = sampling_of(backend)
    assert (sampling.temperature, sampling.max_tokens, sampling.stop) == (0.0, 7, ("x",))


def test_stops_do_not_grow_from_call_to_call():
    @function
    def numbers(s):
        for _ in range(3):
            s += gen(dtype=int)

    backend = MockBackend()
    numbers.run(backend=backend, stop="x")
    assert {request.sampling.stop for request in backend.requests} == {("x", " ", "\n")}


def test_a_programs_arguments_are_never_captured():
    @function
    def heated(s, temperature, n, stop="s"):
        s += f"{temperature} {n} {stop}" + gen()

    backend = MockBackend()
    state = heated.run(temperature="hot", n="many", backend=backend)
    assert state.text() == "hot many smock"
    assert sampling_of(backend).temperature == 1.0
    assert heated.run("a", "b", "c", backend=backend).text() == "a b cmock"


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "question"),
        (("q",), {"question": "q"}, "multiple values"),
        (("q", "t", "x"), {}, "too many"),
        (("q",), {"temprature": 1}, "did you mean 'temperature'"),
        (("q",), {"tune": 1}, "did you mean 'tone'"),
        (("q",), {"regex": "a"}, "regex"),
    ],
)
def test_wrong_arguments_are_type_errors_before_anything_runs(args, kwargs, message):
    backend = MockBackend()
    with pytest.raises(TypeError, match=message):
        qa.run(*args, backend=backend, **kwargs)
    assert backend.requests == []


def test_wrong_values_name_the_option():
    with pytest.raises(ramify.InvalidRequest, match="temperature=-1"):
        qa.run("q", backend=MockBackend(), temperature=-1)


@pytest.mark.parametrize(
    "body",
    [
        lambda: 0,
        lambda *, s: 0,
        lambda s, **options: 0,
        lambda s, backend: 0,
        lambda s, stream=None: 0,
    ],
)
def test_functions_that_cannot_be_programs_are_refused(body):
    with pytest.raises(TypeError):
        function(body)


def test_extra_positional_arguments():
    @function
    def join(s, *parts):
        s += "-".join(parts)

    assert join.run("a", "b", backend=MockBackend()).text() == "a-b"


def test_bind_gives_arguments_that_calls_override():
    bound = qa.bind(tone="stern", question="bound")
    backend = MockBackend()
    assert bound.run(backend=backend).text() == "bound stern: mock"
    assert bound.run("own", tone="mild", backend=backend).text() == "own mild: mock"
    assert qa.run("q", backend=backend).text() == "q kind: mock"
    with pytest.raises(TypeError, match="did you mean 'tone'"):
        qa.bind(tune=1)


def test_calling_is_running_and_the_function_keeps_its_name():
    @function
    def named(s):
        """Says nothing."""
        return 42

    state = named(backend=MockBackend())
    assert state.ret_value == 42
    assert (named.__name__, named.__doc__) == ("named", "Says nothing.")


def test_default_backend():
    backend = MockBackend(["a"])
    with pytest.raises(ramify.ConfigError, match="set_default_backend"):
        qa.run("q")
    ramify.set_default_backend(backend)
    try:
        assert qa.run("q")["answer"] == "a"
        ramify.flush_cache()
    finally:
        ramify.set_default_backend(None)
    with pytest.raises(ramify.ConfigError):
        ramify.flush_cache()


@pytest.mark.parametrize("wrong", ["http://localhost", 3, MockBackend])
def test_a_backend_must_be_one(wrong):
    with pytest.raises(TypeError, match="no backend"):
        qa.run("q", backend=wrong)


def test_what_the_function_raises_is_raised():
    @function
    def broken(s):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        broken.run(backend=MockBackend())


def test_run_waits_for_everything():
    @function
    def lazy(s):
        s += gen("x")
        s += gen("y")

    backend = MockBackend(delay_s=0.02)
    lazy.run(backend=backend)
    assert len(backend.requests) == 2


def test_seeds_differ_between_calls_and_repeat_between_runs():
    @function
    def many(s):
        forks = s.fork(3)
        forks += gen("x") + gen("y")
        forks.join()
        s += gen("own", seed=5)

    def seeds(seed):
        backend = MockBackend()
        many.run(backend=backend, seed=seed)
        return sorted(request.sampling.seed for request in backend.requests)

    assert seeds(1) == seeds(1)
    assert seeds(1) != seeds(2)
    assert len(set(seeds(1))) == 7
    assert 5 in seeds(1)


def test_trace_is_the_graph_without_a_model():
    @function
    def plan(s, topic):
        s += ramify.user(topic) + ramify.assistant(gen("outline"))
        if s["outline"].startswith("mock"):
            forks = s.fork(2)
            forks += gen("detail", dtype=int)
            forks.join()
        s += ramify.select("verdict", ["good", "bad"])

    graph = plan.trace("rain")
    kinds = [node.kind for node in graph]
    assert kinds == [
        *("prefill", "generate", "prefill", "fork", "generate", "generate", "join", "select")
    ]
    assert all(node.usage is None and node.tokens is None for node in graph)
    scripted = plan.trace("rain", backend=MockBackend(["other", "bad"]))
    assert "fork" not in [node.kind for node in scripted]


def test_a_trace_that_needs_an_answer_says_so():
    @function
    def typed(s):
        s += gen("x", schema=dict)

    with pytest.raises(ramify.ProgramError, match="script it"):
        typed.trace()


def test_a_helper_function_can_extend_a_state():
    def ask(s, text):
        s += text + gen(text)
        return s[text]

    @function
    def outer(s):
        s["both"] = ask(s, "a") + ask(s, "b")

    assert outer.run(backend=MockBackend(["1", "2"]))["both"] == "12"


def test_a_program_may_run_another():
    @function
    def outer(s):
        s += qa.run("inner", backend=backend)["answer"]

    backend = MockBackend(["deep"])
    assert outer.run(backend=backend).text() == "deep"
