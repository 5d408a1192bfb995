"""Batches: order, per-item outcomes, bounds, and storms of programs."""

import threading

import pytest

import ramify
from ramify import Aborted, MockBackend, ProgramError, function, gen


@function
def echo(s, text, times=1):
    s += text * times + gen("x")


def own(prompt):
    return f"<{prompt}>"


def test_results_come_in_order_of_the_arguments():
    states = echo.run_batch([{"text": str(i)} for i in range(50)], backend=MockBackend(own))
    assert [state["x"] for state in states] == [f"<{i}>" for i in range(50)]


def test_elements_may_be_positional():
    states = echo.run_batch([("a",), ["b", 2]], backend=MockBackend(own))
    assert [state["x"] for state in states] == ["<a>", "<bb>"]


def test_an_empty_batch():
    assert echo.run_batch([], backend=MockBackend()) == []


def test_options_are_for_all():
    backend = MockBackend()
    echo.run_batch([{"text": "a"}, {"text": "b"}], backend=backend, temperature=0, max_tokens=3)
    assert {r.sampling.temperature for r in backend.requests} == {0.0}
    assert {r.sampling.max_tokens for r in backend.requests} == {3}


@pytest.mark.parametrize(
    ("batch", "options", "message"),
    [
        ([{"txt": "a"}], {}, "did you mean 'text'"),
        ([{"text": "a", "temperature": 0}], {}, "temperature"),
        ([{"text": "a"}], {"times": 3}, "argument of echo"),
        ([{}], {}, "text"),
        ([("a", 1, 2)], {}, "too many"),
    ],
)
def test_wrong_arguments_are_errors_before_anything_runs(batch, options, message):
    backend = MockBackend()
    with pytest.raises(TypeError, match=message):
        echo.run_batch([{"text": "fine"}, *batch], backend=backend, **options)
    assert backend.requests == []


@pytest.mark.parametrize("num_threads", [0, -1, "all", 1.5])
def test_num_threads_is_checked(num_threads):
    with pytest.raises(ramify.InvalidRequest, match="num_threads"):
        echo.run_batch([{"text": "a"}], num_threads=num_threads, backend=MockBackend())


def test_generator_style_yields_in_order_and_closing_cancels_the_rest():
    backend = MockBackend(own, delay_s=0.01)
    items = echo.run_batch(
        [{"text": str(i)} for i in range(200)],
        num_threads=2,
        generator_style=True,
        backend=backend,
    )
    assert [next(items)["x"] for _ in range(3)] == ["<0>", "<1>", "<2>"]
    items.close()
    assert len(backend.requests) < 100


def test_progress_bar(capsys):
    echo.run_batch([{"text": "a"}] * 3, progress_bar=True, backend=MockBackend())
    assert "3/3" in capsys.readouterr().err


def test_a_failing_item_holds_its_error_and_harms_no_other():
    @function
    def picky(s, i):
        s += f"{i}" + gen("x")
        if i == 1:
            raise ValueError("no ones")

    def reply(prompt):
        return ramify.NotSupported("no twos") if prompt == "2" else prompt

    states = picky.run_batch([{"i": i} for i in range(4)], backend=MockBackend(reply))
    assert (states[0]["x"], states[3]["x"]) == ("0", "3")
    with pytest.raises(ProgramError, match=r"picky\(\) raised ValueError: no ones"):
        _ = states[1]["x"]
    assert isinstance(states[1].error().__cause__, ValueError)
    with pytest.raises(ProgramError, match="no twos"):
        states[2].text()
    assert [state.error() is None for state in states] == [True, False, False, True]


def test_one_thousand_programs_of_which_some_raise_and_some_are_cancelled():
    peak = []

    @function
    def program(s, i):
        peak.append(threading.active_count())
        s += f"{i}:" + gen("first")
        if i % 5 == 0:
            raise ValueError(f"mine {i}")
        if i % 10 == 1:
            s.cancel()
        s += "," + gen("second")
        with s.copy() as aside:
            aside += gen("never read")

    backend = MockBackend(lambda prompt: "yes", delay_s=0.001)
    before = threading.active_count()
    states = program.run_batch([{"i": i} for i in range(1000)], num_threads=16, backend=backend)
    assert max(peak) <= before + 16 + 1  # the pool and the I/O loop
    for i, state in enumerate(states):
        error = state.error()
        if i % 5 == 0:
            assert isinstance(error.__cause__, ValueError)
            assert str(error.__cause__) == f"mine {i}"
        elif i % 10 == 1:
            assert isinstance(error.__cause__, Aborted)
        else:
            assert state.text() == f"{i}:yes,yes"
        assert all(node.status in ("done", "cancelled", "failed") for node in state.graph)


def test_storms_of_forks():
    def grow(state, depth):
        state += f"{depth}" + gen(f"at {depth}")
        if depth == 0:
            return
        forks = state.fork(8)
        for fork in forks:
            grow(fork, depth - 1)
        forks.join()

    @function
    def storm(s, i):
        if i % 4 == 3:
            with s.copy() as dropped:
                grow_lazily(dropped, 2)
        grow(s, 3 if i == 0 else 1)
        if i % 10 == 9:
            raise ValueError("mine")

    def grow_lazily(state, depth):
        for fork in state.fork(8):
            fork += gen("x")
            if depth:
                grow_lazily(fork, depth - 1)

    states = storm.run_batch([{"i": i} for i in range(40)], backend=MockBackend())
    assert len(states[0]["at 0"]) == 8
    assert sum(node.kind == "generate" for node in states[0].graph) == 1 + 8 + 64 + 512
    for i, state in enumerate(states):
        assert (state.error() is None) == (i % 10 != 9)
