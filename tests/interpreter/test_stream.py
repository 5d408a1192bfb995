"""Streaming, on threads and on event loops."""

import asyncio
import gc
import threading

import pytest

import ramify
from ramify import MockBackend, ProgramError, function, gen


@function
def qa(s, question="q"):
    s += "Q: " + question + "\nA: "
    s += gen("first") + "; " + gen("second", return_logprob=True)
    s += "." + ramify.select("verdict", ["good", "bad"])


def backend(**options):
    return MockBackend(["a longer answer", "another long one", "bad"], **options)


WHOLE = "Q: q\nA: a longer answer; another long one.bad"


def test_the_whole_text_comes_in_pieces():
    state = qa.run(stream=True, backend=backend())
    chunks = list(state.text_iter())
    assert "".join(chunks) == WHOLE
    assert len(chunks) >= 6  # one per piece at least
    assert "".join(state.text_iter()) == WHOLE


class Paused(MockBackend):
    """Sends the rest of an answer when its beginning has been read."""

    def __init__(self, replies):
        super().__init__(replies)
        self.is_read = threading.Event()

    async def generate(self, request):
        async for delta in super().generate(request):
            yield delta
            while not self.is_read.is_set():
                await asyncio.sleep(0.001)


def test_one_result_comes_in_pieces():
    backend = Paused(["a", "another long one", "bad"])
    backend.is_read.set()
    assert "".join(qa.stream(backend=backend).text_iter("verdict")) == "bad"
    backend = Paused(["another long one", "b", "bad"])
    chunks = []
    for chunk in qa.stream(backend=backend).text_iter("first"):
        chunks.append(chunk)
        backend.is_read.set()
    assert chunks[0] == "anot"
    assert "".join(chunks) == "another long one"


def test_reads_of_a_stream_wait_for_the_program():
    started = threading.Event()

    @function
    def slow(s):
        started.wait(20)
        s += gen("x")
        s["set"] = 1
        return 7

    state = slow.stream(backend=MockBackend())
    threading.Timer(0.02, started.set).start()
    assert state["x"] == "mock"
    assert state["set"] == 1
    assert state.ret_value == 7
    assert state.text() == "mock"
    with pytest.raises(KeyError, match="known are: 'x', 'set'"):
        _ = state["y"]


def test_a_finished_state_streams_too():
    assert "".join(qa.run(backend=backend()).text_iter()) == WHOLE


async def test_async_iteration():
    state = qa.stream(backend=backend())
    assert "".join([chunk async for chunk in state.text_async_iter()]) == WHOLE


async def test_async_iteration_with_meta_data():
    state = qa.stream(backend=backend())
    pairs = [pair async for pair in state.text_async_iter("second", return_meta_data=True)]
    so_far = 0
    for chunk, meta in pairs:
        assert chunk
        new = meta["completion_tokens"] - so_far
        assert len(meta["output_token_logprobs"]) == new
        so_far = meta["completion_tokens"]
        assert meta["output_token_logprobs_length"] == so_far
    assert so_far == len("another long one")


async def test_iterating_does_not_block_the_loop():
    state = qa.stream(backend=backend(delay_s=0.05))
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticker = asyncio.create_task(tick())
    assert "".join([chunk async for chunk in state.text_async_iter()]) == WHOLE
    ticker.cancel()
    assert ticks > 3


async def test_cancelling_one_reader_leaves_the_stream_to_others():
    state = qa.stream(backend=backend(delay_s=0.05))

    async def read():
        return "".join([chunk async for chunk in state.text_async_iter()])

    first, second = asyncio.create_task(read()), asyncio.create_task(read())
    await asyncio.sleep(0.02)
    first.cancel()
    assert await second == WHOLE


def test_what_the_function_raises_ends_the_stream():
    @function
    def broken(s):
        s += "before" + gen("x")
        raise ZeroDivisionError("mine")

    state = broken.stream(backend=MockBackend())
    chunks = []
    with pytest.raises(ProgramError, match=r"broken\(\) raised ZeroDivisionError: mine"):
        chunks.extend(state.text_iter())
    assert chunks[0] == "before"
    assert isinstance(state.error().__cause__, ZeroDivisionError)


def endless(backend_, ended):
    @function
    def program(s):
        try:
            while True:
                s += gen("x")
                s.sync()
        finally:
            ended.set()

    return program.stream(backend=backend_)


def test_leaving_with_ends_the_program():
    ended = threading.Event()
    with endless(MockBackend(), ended) as state:
        next(iter(state.text_iter()))
    assert ended.wait(20)


def test_dropping_the_state_ends_the_program():
    ended = threading.Event()
    state = endless(MockBackend(), ended)
    next(iter(state.text_iter()))
    del state
    gc.collect()
    assert ended.wait(20)


def test_characters_that_span_chunks_are_whole():
    @function
    def say(s):
        s += gen("x")

    state = say.stream(backend=MockBackend(["日本語" * 5], chunk_size=2))
    assert "".join(state.text_iter("x")) == "日本語" * 5
