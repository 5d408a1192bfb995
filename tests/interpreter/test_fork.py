"""Forks: concurrent, grouped, joined in two ways, cancelled by dropping."""

import gc
import threading

import pytest

import ramify
from ramify import MockBackend, ProgramError, function, gen


class Gate(MockBackend):
    """Answers to prompts that contain "slow" wait until the test opens the gate."""

    def __init__(self, replies=None):
        super().__init__(replies)
        self.is_open = threading.Event()
        self.started = threading.Event()
        self.num_cancelled = 0

    async def generate(self, request):
        import asyncio

        from ramify.interpreter.backends.mock import prompt_text

        if "slow" in prompt_text(request.prompt):
            self.started.set()
            try:
                while not self.is_open.is_set():
                    await asyncio.sleep(0.001)
            except asyncio.CancelledError:
                self.num_cancelled += 1
                raise
        async for delta in super().generate(request):
            yield delta


def cancelled(backend, count=1):
    """Wait until the backend has seen so many cancellations."""
    for _ in range(2000):
        if backend.num_cancelled >= count:
            return True
        threading.Event().wait(0.005)
    return False


def test_forks_run_beside_each_other():
    barrier = threading.Barrier(4, timeout=20)

    class Together(MockBackend):
        async def generate(self, request):
            import asyncio

            await asyncio.to_thread(barrier.wait)
            async for delta in super().generate(request):
                yield delta

    @function
    def body(s):
        forks = s.fork(4)
        forks += gen("x")
        forks.join()

    assert body.run(backend=Together())["x"] == ["mock"] * 4


def test_siblings_carry_their_group():
    @function
    def body(s):
        s += "p" + gen("own")
        forks = s.fork(2)
        forks += "q" + gen("x")
        inner = forks[0].fork(2)
        inner += gen("y")
        for group in (inner, forks):
            group.join()

    backend = MockBackend()
    body.run(backend=backend)
    by_group = {}
    for request in backend.requests:
        by_group.setdefault(request.group, []).append(request)
    assert sorted(len(requests) for requests in by_group.values()) == [1, 2, 2]
    assert len(by_group[None]) == 1


def test_indexing_iterating_and_appending_to_a_group():
    @function
    def body(s):
        forks = s.fork(3)
        assert len(forks) == len(list(forks)) == 3
        forks += "all "
        forks += ["a", "b", "c"]
        forks += lambda i: str(i)
        forks[1] += "!"
        s["texts"] = [fork.text() for fork in forks]
        with pytest.raises(TypeError, match="cannot be replaced"):
            forks[0] = s
        with pytest.raises(TypeError, match="3 forks"):
            forks += ["too", "few"]
        with pytest.raises(TypeError, match="int"):
            forks += 5

    assert body.run(backend=MockBackend())["texts"] == ["all a0", "all b1!", "all c2"]


def test_gathered_variables_are_lists():
    @function
    def body(s):
        s["kept"] = "parent"
        forks = s.fork(3)
        forks += lambda i: f"{i}" + gen("x")
        forks[2]["extra"] = "only here"
        forks[0] += gen("kept")
        forks.join()

    state = body.run(backend=MockBackend(lambda prompt: f"<{prompt}>"))
    assert state["x"] == ["<0>", "<1>", "<2>"]
    assert state["extra"] == ["only here"]
    assert state["kept"] == ["<0<0>>"]
    assert state.text() == ""
    assert [meta["completion_tokens"] for meta in state.get_meta_info("x")] == [3, 3, 3]


def test_a_second_round_of_forks_replaces_the_first():
    @function
    def body(s):
        for round_ in range(2):
            forks = s.fork(2)
            forks += f"{round_}" + gen("x")
            forks.join()
            s[f"round {round_}"] = s["x"]

    state = body.run(backend=MockBackend(lambda prompt: prompt))
    assert state["round 0"] == ["0", "0"]
    assert state["round 1"] == ["1", "1"]


def test_concatenation_appends_text_and_messages():
    @function
    def body(s):
        s += ramify.user("q")
        forks = s.fork(2)
        forks += lambda i: ramify.assistant(f"{i}:" + gen("x"))
        forks.join(mode="concate_and_append")
        s += ramify.user("end")

    state = body.run(backend=MockBackend(["a", "b"], delay_s=0.01))
    assert {m["content"] for m in state.messages()[1:3]} <= {"0:a", "1:b", "0:b", "1:a"}
    assert [m["role"] for m in state.messages()] == ["user", "assistant", "assistant", "user"]
    assert "x" not in state


def test_a_fork_that_leaves_a_message_open_cannot_be_appended():
    @function
    def body(s):
        forks = s.fork(1)
        forks += ramify.user_begin() + "half"
        forks.join("concate_and_append")

    with pytest.raises(ramify.InvalidRequest, match="leaves a message open"):
        body.run(backend=MockBackend())


def test_a_fork_sees_its_parents_results_but_not_the_other_way():
    @function
    def body(s):
        s += gen("shared")
        fork = s.copy()
        fork += gen("own")
        assert fork["shared"] == "1"
        assert fork["own"] == "2"
        assert "own" not in s

    body.run(backend=MockBackend(["1", "2"]))


@pytest.mark.parametrize("size", [0, -1, 1.5, "2", True])
def test_a_fork_needs_a_size(size):
    @function
    def body(s):
        s.fork(size)

    with pytest.raises(ramify.InvalidRequest, match="fork"):
        body.run(backend=MockBackend())


def test_unknown_join_mode():
    @function
    def body(s):
        s.fork(2).join("mix")

    with pytest.raises(ramify.InvalidRequest, match="gather_variable"):
        body.run(backend=MockBackend())


def test_a_dropped_fork_is_cancelled_and_its_sibling_is_not():
    @function
    def body(s):
        forks = s.fork(2)
        forks[0] += "slow" + gen("x")
        kept = forks[1]
        kept += "quick" + gen("x")
        backend.started.wait(20)
        del forks
        gc.collect()
        assert cancelled(backend)
        s += kept["x"]

    backend = Gate(["fine"])
    assert body.run(backend=backend).text() == "fine"


def test_leaving_with_cancels():
    @function
    def body(s):
        with s.copy() as fork:
            fork += "slow" + gen("x")
            backend.started.wait(20)
        assert cancelled(backend)
        with pytest.raises(ProgramError, match="was cancelled") as error:
            _ = fork["x"]
        assert isinstance(error.value.__cause__, ramify.Aborted)
        with s.fork(2) as forks:
            forks += "slow" + gen("x")
        for fork in forks:  # some perhaps before they were sent
            with pytest.raises(ProgramError, match="was cancelled"):
                _ = fork["x"]
        s += "on"

    backend = Gate()
    assert body.run(backend=backend).text() == "on"


def test_an_exception_in_the_program_cancels_its_calls():
    kept = []

    @function
    def body(s):
        forks = s.fork(3)
        kept.append(forks)
        forks += "slow" + gen("x")
        backend.started.wait(20)
        raise OSError("mine")

    backend = Gate()
    with pytest.raises(OSError, match="mine"):
        body.run(backend=backend)
    with pytest.raises(ProgramError, match="cancelled"):
        _ = kept[0][0]["x"]


def test_a_call_after_cancel_is_refused():
    @function
    def body(s):
        s.cancel()
        s += gen("x")

    backend = MockBackend()
    with pytest.raises(ProgramError, match="cancelled"):
        body.run(backend=backend)


def test_a_parents_call_survives_the_parent_when_a_fork_needs_it():
    @function
    def body(s):
        mother = s.copy()
        mother += "slow" + gen("first")
        child = mother.copy()
        child += gen("second")
        backend.started.wait(20)
        del mother
        gc.collect()
        backend.is_open.set()
        s += child["first"] + child["second"]

    backend = Gate(["1", "2"])
    assert body.run(backend=backend).text() == "12"
