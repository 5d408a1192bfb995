"""Errors are loud: every way of reading a result that is not there names the cause."""

import asyncio
import contextlib
import re
import traceback

import pytest

import ramify
from ramify import MockBackend, NotSupported, ProgramError, function, gen

CAUSE = NotSupported("server said 404: no such route")
LINES = {}


@function
def essay(s, topic="rain"):
    s += f"Write about {topic}:\n"
    s += gen("answer")
    s += " and " + gen("later")


@function
def forked(s):
    forks = s.fork(2)
    forks += gen("answer")
    s["forks"] = forks
    forks.join()


def failing():
    return MockBackend(lambda prompt: CAUSE)


def failed_state():
    """The state of a run that failed, as a batch gives it."""
    (state,) = essay.run_batch([{}], backend=failing())
    return state


def live_state():
    """A state whose call failed while its program still runs, as the program sees it."""
    seen = []

    @function
    def probe(s):
        s += "Write about rain:\n"
        s += gen("answer")
        seen.append(s)

    with pytest.raises(ProgramError):
        probe.run(backend=failing())
    return seen[0]


async def collect(iterator):
    return [item async for item in iterator]


READS = {
    "item": lambda state: state["answer"],
    "attribute": lambda state: state.answer,
    "text": lambda state: state.text(),
    "messages": lambda state: state.messages(),
    "sync": lambda state: state.sync(),
    "get_meta_info": lambda state: state.get_meta_info("answer"),
    "text_iter": lambda state: list(state.text_iter()),
    "text_iter of a name": lambda state: list(state.text_iter("answer")),
    "text_async_iter": lambda state: asyncio.run(collect(state.text_async_iter())),
    "await get": lambda state: asyncio.run(state.get("answer")),
    "await wait": lambda state: asyncio.run(state.wait()),
    "ret_value": lambda state: state.ret_value,
}


@pytest.mark.parametrize("make", [failed_state, live_state])
@pytest.mark.parametrize("way", READS)
def test_every_read_names_the_cause(way, make):
    state = make()
    with pytest.raises(ProgramError, match="server said 404: no such route") as error:
        READS[way](state)
    assert error.value.__cause__ is CAUSE


def test_the_ten_ways_and_more():
    """The ten of the requirement: nine reads of a state, and `run` itself."""
    assert len(READS) + len(["run", "run_batch", "stream", "join", "error"]) >= 10


def test_run_raises():
    with pytest.raises(ProgramError, match="server said 404") as error:
        essay.run(backend=failing())
    assert error.value.__cause__ is CAUSE


def test_async_run_raises():
    with pytest.raises(ProgramError, match="server said 404"):
        asyncio.run(essay.async_run(backend=failing()))


def test_a_stream_raises():
    for read in (lambda s: list(s.text_iter()), lambda s: s["answer"], lambda s: s.text()):
        state = essay.stream(backend=failing())
        with pytest.raises(ProgramError, match="server said 404"):
            read(state)


def test_join_and_forks_raise():
    for mode in ("gather_variable", "concate_and_append"):

        @function
        def joined(s, mode=mode):
            forks = s.fork(2)
            forks += gen("answer")
            with pytest.raises(ProgramError, match="server said 404"):
                forks.join(mode)
            for fork in forks:
                with pytest.raises(ProgramError, match="server said 404"):
                    _ = fork["answer"]

        joined.run(backend=failing())


def test_contains_raises_when_the_program_failed():
    with pytest.raises(ProgramError, match="server said 404"):
        _ = "answer" in failed_state()


def test_error_is_the_error_or_none():
    error = failed_state().error()
    assert isinstance(error, ProgramError)
    assert error.__cause__ is CAUSE
    assert essay.run(backend=MockBackend()).error() is None


def test_the_message_says_what_where_and_after_which_text():
    with pytest.raises(ProgramError) as error:
        essay.run("x" * 200, backend=failing())
    first, cause, text = str(error.value).split("\n")
    line = next(
        number
        for number, source in enumerate(open(__file__), start=1)  # noqa: SIM115
        if 'gen("answer")' in source
    )
    where = rf'gen\("answer"\) failed in essay\(\) at test_errors.py:{line} +request \w+-\d+'
    assert re.fullmatch(where, first)
    assert cause == "  not_supported: server said 404: no such route"
    assert text == f"  text so far (last 60 chars): {('x' * 58 + ':' + chr(10))!r}"


def test_a_later_call_names_the_first_cause_and_is_not_sent():
    backend = failing()
    (state,) = essay.run_batch([{}], backend=backend)
    with pytest.raises(ProgramError, match=r'gen\("answer"\) failed'):
        _ = state["later"]
    assert len(backend.requests) == 1
    assert [node.status for node in state.graph if node.rid] == ["failed", "failed"]


def test_a_bug_in_a_backend_is_named_too():
    backend = MockBackend(lambda prompt: ZeroDivisionError("oops"))
    with pytest.raises(ProgramError, match="ZeroDivisionError: oops") as error:
        essay.run(backend=backend)
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_an_unread_failure_in_a_fork_is_raised_by_run():
    @function
    def careless(s):
        good, bad = s.fork(2)
        bad += "bad" + gen("x")
        good += "good" + gen("x")
        bad._core.own[0].done.result()
        s += good["x"]

    backend = MockBackend(lambda prompt: CAUSE if prompt == "bad" else "fine")
    with pytest.raises(ProgramError, match="server said 404"):
        careless.run(backend=backend)


def test_a_failure_in_a_fork_that_was_handled_is_not_raised_again():
    @function
    def careful(s):
        for attempt in ("bad", "good"):
            fork = s.copy()
            fork += attempt + gen("x")
            try:
                s += fork["x"]
            except ProgramError:
                continue

    backend = MockBackend(lambda prompt: CAUSE if prompt == "bad" else "fine")
    assert careful.run(backend=backend).text() == "fine"


def test_a_failure_of_the_state_itself_cannot_be_swallowed():
    @function
    def swallows(s):
        s += gen("x")
        with contextlib.suppress(ProgramError):
            s.sync()

    with pytest.raises(ProgramError, match="server said 404"):
        swallows.run(backend=failing())


def test_reading_twice_does_not_pile_up_tracebacks():
    state = failed_state()
    lengths = []
    for _ in range(3):
        with pytest.raises(ProgramError) as error:
            state.text()
        lengths.append(len(traceback.extract_tb(error.value.__traceback__)))
    assert len(set(lengths)) == 1


class Half(MockBackend):
    """Its answers break off."""

    async def generate(self, request):
        async for delta in super().generate(request):
            if delta.finish is None:
                yield delta


def test_an_answer_without_an_end_is_an_error():
    with pytest.raises(ProgramError, match="broke off") as error:
        essay.run(backend=Half(["half an answer"]))
    assert isinstance(error.value.__cause__, ramify.BackendError)


def test_an_error_in_the_stream_is_raised_as_itself():
    class Late(MockBackend):
        async def generate(self, request):
            async for delta in super().generate(request):
                if delta.finish is None:
                    yield delta
                    continue
                error = ramify.DeadlineExceeded("too late").info()
                yield type(delta)(rid=delta.rid, error=error)

    chunks = []
    state = essay.stream(backend=Late(["partial"]))
    with pytest.raises(ProgramError, match="deadline_exceeded: too late") as error:
        chunks.extend(state.text_iter("answer"))
    assert isinstance(error.value.__cause__, ramify.DeadlineExceeded)


def test_a_wrong_score_is_an_error():
    class Short(MockBackend):
        async def score(self, request):
            result = await super().score(request)
            return type(result)(rid=result.rid, scores=result.scores[:1], usage=result.usage)

    @function
    def choose(s):
        s += ramify.select("x", ["a", "b"])

    with pytest.raises(ProgramError, match="scored 1 of 2"):
        choose.run(backend=Short())


def test_a_failing_model_info_is_named():
    class Lost(MockBackend):
        async def model_info(self):
            raise ramify.BackendError("http://gone refused the connection")

    @function
    def chat(s):
        s += ramify.user("hi") + gen("x")

    with pytest.raises(ProgramError, match="http://gone"):
        chat.run(backend=Lost())
