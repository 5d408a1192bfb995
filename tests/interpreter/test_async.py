"""Async programs, and programs in event loops."""

import asyncio
import threading

import pytest

import ramify
from ramify import MockBackend, function, gen


@function
async def qa(s, question="q"):
    s += question + gen("answer")
    answer = await s.get("answer")
    forks = s.fork(2)
    forks += gen("x")
    await forks.wait()
    forks.join()
    s += "." + gen("last")
    return answer.upper()


def check(state):
    assert state.text() == "qone.four"
    assert state["x"] == ["two", "three"] or state["x"] == ["three", "two"]
    assert state.ret_value == "ONE"


REPLIES = ["one", "two", "three", "four"]


def test_run_from_a_thread():
    check(qa.run(backend=MockBackend(REPLIES)))


async def test_run_in_a_loop():
    check(await qa.async_run(backend=MockBackend(REPLIES)))


async def test_a_sync_program_in_a_loop_runs_on_a_thread():
    threads = []

    @function
    def plain(s):
        threads.append(threading.current_thread())
        s += gen("x")
        _ = s["x"]

    assert (await plain.async_run(backend=MockBackend())).text() == "mock"
    assert threads[0] is not threading.current_thread()


async def test_async_programs_run_in_the_callers_loop():
    loops = []

    @function
    async def program(s):
        loops.append(asyncio.get_running_loop())

    await program.async_run(backend=MockBackend())
    assert loops == [asyncio.get_running_loop()]


def test_stream_of_an_async_program():
    state = qa.stream(backend=MockBackend(REPLIES))
    assert "".join(state.text_iter()) == "qone.four"


def test_batch_of_async_programs_uses_no_thread_each():
    before = threading.active_count()
    peak = []

    @function
    async def program(s, i):
        s += f"{i}" + gen("x")
        await s.get("x")
        peak.append(threading.active_count())

    states = program.run_batch(
        [{"i": i} for i in range(200)], backend=MockBackend(lambda prompt: prompt)
    )
    assert [state["x"] for state in states] == [str(i) for i in range(200)]
    assert max(peak) <= before + 1


def test_num_threads_bounds_async_programs_too():
    running, peak = 0, 0

    @function
    async def program(s):
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        s += gen("x")
        await s.wait()
        running -= 1

    program.run_batch([{}] * 20, num_threads=3, backend=MockBackend(delay_s=0.01))
    assert peak == 3


@pytest.mark.parametrize("read", ["item", "text", "join", "run", "batch"])
def test_blocking_reads_in_an_async_program_say_what_to_write(read):
    @function
    def other(s):
        s += gen("y")

    @function
    async def program(s):
        s += gen("x")
        if read == "item":
            _ = s["x"]
        elif read == "text":
            s.text()
        elif read == "join":
            forks = s.fork(2)
            forks.join()
        elif read == "run":
            other.run(backend=backend)
        else:
            other.run_batch([{}], backend=backend)

    backend = MockBackend(delay_s=0.05)
    with pytest.raises(ramify.InvalidRequest, match=r"await|asyncio") as error:
        program.run(backend=backend)
    assert error.value.code == "would_block"


def test_reads_after_wait_are_immediate():
    @function
    async def program(s):
        s += "a" + gen("x")
        await s.wait()
        return s.text() + s["x"] + str(s.get_meta_info("x")["completion_tokens"])

    assert program.run(backend=MockBackend()).ret_value == "amockmock4"


async def test_cancelling_a_run_cancels_its_calls():
    backend = MockBackend(delay_s=60)

    @function
    async def program(s):
        s += gen("x")
        await s.get("x")

    @function
    def plain(s):
        s += gen("x")

    for target in (program, plain):
        task = asyncio.create_task(target.async_run(backend=backend))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_gather_of_runs():
    states = await asyncio.gather(
        *(qa.async_run(str(i), backend=MockBackend(REPLIES)) for i in range(20))
    )
    assert [state.text() for state in states] == [f"{i}one.four" for i in range(20)]


def test_an_async_program_may_use_another():
    @function
    async def outer(s):
        inner = await qa.async_run(backend=MockBackend(REPLIES))
        s += inner["answer"]

    assert outer.run(backend=MockBackend()).text() == "one"
