"""`RuntimeEndpoint` against a real server, and against servers that misbehave."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from ramify.interpreter.backends.endpoint import RuntimeEndpoint
from ramify.interpreter.backends.sse import events
from ramify.lang.errors import (
    Aborted,
    BackendError,
    ConfigError,
    ContextLengthExceeded,
    DeadlineExceeded,
    InvalidRequest,
    Unavailable,
)
from ramify.lang.protocol import (
    GenerateRequest,
    LogprobOptions,
    Sampling,
    ScoreRequest,
    TextSegment,
    TokenSegment,
    text_prompt,
)
from tests.runtime.api.fake_engine import FakeEngine
from tests.runtime.api.serving import eventually, served


def ask(text="abc", rid="r", **fields) -> GenerateRequest:
    return GenerateRequest(rid=rid, prompt=text_prompt(text), **fields)


async def collect(backend, request):
    return [delta async for delta in backend.generate(request)]


@asynccontextmanager
async def endpoint_of(engine=None, *, api_key=None, **options):
    async with served(engine, **options) as server:
        backend = RuntimeEndpoint(server.url, api_key=api_key)
        try:
            yield backend, server
        finally:
            await backend.close()


async def test_deltas_arrive_as_the_engine_sent_them():
    request = GenerateRequest(
        rid="r",
        prompt=(TextSegment("né\u2028\n"), TokenSegment((97, 98))),
        sampling=Sampling(n=2, logit_bias={5: 1.0}),
        logprobs=LogprobOptions(output=True, prompt_start=0, top=2),
    )
    own = [delta async for delta in FakeEngine().async_generate(request)]
    async with endpoint_of() as (backend, server):
        remote = await collect(backend, request)
        assert server.engine.requests == [request]
    assert remote == own


async def test_score_and_model_info_and_flush_equal_the_engines():
    request = ScoreRequest(
        rid="s",
        prompt=text_prompt("a"),
        continuations=(text_prompt("b"), text_prompt("cc")),
        unconditional=True,
    )
    async with endpoint_of() as (backend, server):
        assert await backend.score(request) == await server.engine.async_score(request)
        assert await backend.model_info() == await server.engine.model_info()
        await backend.flush_cache()
        assert server.engine.num_flushed == 1


async def test_refusals_are_raised_as_themselves_from_the_first_step():
    async with endpoint_of(FakeEngine(context_length=64)) as (backend, server):
        with pytest.raises(ContextLengthExceeded, match="max_tokens 128"):
            await collect(backend, ask())
        with pytest.raises(InvalidRequest, match="top_p") as caught:
            await collect(backend, ask(sampling=Sampling(top_p=7.0)))
        assert (caught.value.code, caught.value.param) == ("out_of_range", "top_p")
        server.engine.refusal = Unavailable("full", code="queue_full")
        with pytest.raises(Unavailable):
            await collect(backend, ask())


async def test_a_deadline_on_the_server_is_the_last_delta_of_its_sequence():
    async with endpoint_of(FakeEngine(delay=0.02)) as (backend, _):
        deltas = await collect(backend, ask("a" * 20, timeout_s=0.05))
    assert deltas[-1].error.type == DeadlineExceeded.__name__


async def test_closing_the_iterator_aborts_on_the_server():
    async with endpoint_of(FakeEngine(delay=0.01)) as (backend, server):
        deltas = backend.generate(ask("x" * 90))
        await anext(deltas)
        await deltas.aclose()
        await eventually(lambda: server.engine.aborted == ["r"])
        assert server.engine.num_sent["r"] < 90


async def test_cancelling_a_score_aborts_on_the_server():
    engine = FakeEngine()
    engine.gate.clear()
    async with endpoint_of(engine) as (backend, _):
        request = ScoreRequest(rid="s", prompt=text_prompt("a"), continuations=(text_prompt("b"),))
        task = asyncio.create_task(backend.score(request))
        await eventually(lambda: "s" in engine._live)
        task.cancel()
        await eventually(lambda: engine.aborted == ["s"])


async def test_closing_the_endpoint_ends_what_runs_with_aborted():
    async with endpoint_of(FakeEngine(delay=0.01)) as (backend, _):
        deltas = backend.generate(ask("x" * 90))
        await anext(deltas)
        await backend.close()
        with pytest.raises(Aborted):
            async for _ in deltas:
                pass
        with pytest.raises(Aborted):
            await backend.model_info()


async def test_the_key_is_sent_and_a_wrong_one_is_named():
    async with endpoint_of(api_key="right") as (backend, server):
        await backend.model_info()
    async with served(api_key="right") as server:
        good, bad = (
            RuntimeEndpoint(server.url, api_key="right"),
            RuntimeEndpoint(server.url, api_key="wrong"),
        )
        await good.model_info()
        with pytest.raises(InvalidRequest) as caught:
            await bad.model_info()
        assert caught.value.code == "invalid_api_key"
        await good.close()
        await bad.close()


async def test_one_endpoint_serves_several_event_loops():
    async with endpoint_of() as (backend, _):
        here = await collect(backend, ask(rid="here"))

        def elsewhere():
            return asyncio.run(collect(backend, ask(rid="there")))

        there = await asyncio.to_thread(elsewhere)
    assert [d.text for d in here] == [d.text for d in there]


async def test_many_programs_at_once():
    async with endpoint_of() as (backend, server):
        requests = [ask(str(i), rid=f"r{i}") for i in range(300)]
        found = await asyncio.gather(*(collect(backend, request) for request in requests))
        assert not server.engine.aborted
    for i, deltas in enumerate(found):
        assert "".join(delta.text for delta in deltas) == f"[0] {i}"


# Servers that misbehave ---------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
DELTA = b'data: {"rid":"r","text":"a","token_ids":[97]}\n\n'
FINAL = (
    b'data: {"rid":"r","finish":{"type":"stop"},"usage":'
    b'{"prompt_tokens":1,"cached_tokens":0,"completion_tokens":1}}\n\n'
)
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def misbehaving(*replies: bytes):
    """A server whose n-th connection gets the n-th reply (the last again after that) and is cut."""
    num_asked = 0

    async def answer(reader, writer):
        nonlocal num_asked
        reply = replies[min(num_asked, len(replies) - 1)]
        num_asked += 1
        head = await reader.readuntil(b"\r\n\r\n")
        length = [
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ]
        if length:
            await reader.readexactly(length[0])
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    backend = RuntimeEndpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield backend, lambda: num_asked
    finally:
        await backend.close()
        server.close()


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>hello</html>", "text/html"),
        (OK + b"\r\n" + DELTA, "0 of 1 final"),
        (OK + b"\r\n" + DELTA + b"data: [DONE]\n\n", "0 of 1 final"),
        (OK + b"\r\n" + DELTA + FINAL.rstrip(b"\n"), "0 of 1 final"),
        (OK + b"\r\n" + DELTA + b'data: {"rid":"r","te\n\n', "not an event"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n2f\r\n" + DELTA, "RemoteProtocolError"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nnix", "404"),
        (b"HTTP/1.1 502 Bad\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p/>", "502"),
        (b"", "disconnected"),
        (b"SSH-2.0-OpenSSH\r\n", "RemoteProtocolError"),
    ],
)
async def test_what_is_not_the_protocol_is_a_backend_error_with_url_and_cause(reply, cause):
    async with misbehaving(reply) as (backend, num_asked):
        with pytest.raises(BackendError) as caught:
            await collect(backend, ask())
        assert cause in caught.value.message
        assert backend.base_url in caught.value.message
        assert num_asked() == 1, "what a server has begun to answer is not sent twice"


@pytest.mark.parametrize("reply", [JSON + b'{"model": "x"', JSON + b"{}", JSON + b"[1]"])
async def test_half_or_wrong_json_is_a_backend_error(reply):
    async with misbehaving(reply) as (backend, _):
        with pytest.raises(BackendError, match="not an answer of a Ramify server"):
            await backend.model_info()


async def test_an_error_event_is_raised_as_the_error_it_names():
    event = b'data: {"error":{"message":"late","type":"DeadlineExceeded","param":null,"code":"x"}}'
    async with misbehaving(OK + b"\r\n" + DELTA + event + b"\n\n") as (backend, _):
        with pytest.raises(DeadlineExceeded, match="late"):
            await collect(backend, ask())


async def test_a_busy_server_is_asked_again_as_it_says(monkeypatch):
    monkeypatch.setattr("ramify.interpreter.backends.endpoint.BACKOFF_S", 0.001)
    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
    good = OK + b"Connection: close\r\n\r\n" + DELTA + FINAL + b"data: [DONE]\n\n"
    async with misbehaving(busy, busy, good) as (backend, num_asked):
        assert [delta.text for delta in await collect(backend, ask())] == ["a", ""]
        assert num_asked() == 3
    async with misbehaving(busy) as (backend, num_asked):
        with pytest.raises(BackendError, match="503"):
            await collect(backend, ask())
        assert num_asked() == 4


async def test_nobody_listening_is_a_backend_error(monkeypatch):
    monkeypatch.setattr("ramify.interpreter.backends.endpoint.BACKOFF_S", 0.001)
    async with misbehaving(b"") as (backend, _):
        pass
    gone = RuntimeEndpoint(backend.base_url)
    with pytest.raises(BackendError, match=r"http://127.0.0.1:\d+/model_info: ConnectError"):
        await gone.model_info()
    await gone.close()


async def test_a_silent_server_is_a_backend_error(monkeypatch):
    monkeypatch.setattr("ramify.interpreter.backends.endpoint.SILENCE_S", 0.05)
    engine = FakeEngine()
    engine.gate.clear()
    async with endpoint_of(engine) as (backend, _):
        with pytest.raises(BackendError, match="ReadTimeout"):
            await collect(backend, ask())
        await eventually(lambda: engine.aborted == ["r"])


async def test_keep_alives_hold_a_waiting_stream_open(monkeypatch):
    monkeypatch.setattr("ramify.interpreter.backends.endpoint.SILENCE_S", 0.4)
    monkeypatch.setattr("ramify.runtime.api.sse.KEEP_ALIVE_S", 0.05)
    engine = FakeEngine()
    engine.gate.clear()
    async with endpoint_of(engine) as (backend, _):
        task = asyncio.create_task(collect(backend, ask()))
        await asyncio.sleep(0.8)
        engine.gate.set()
        assert (await task)[-1].finish is not None


@pytest.mark.parametrize("url", ["127.0.0.1:1", "ftp://x", "http://", ""])
def test_what_is_no_url_is_refused_at_once(url):
    with pytest.raises(ConfigError, match="base_url"):
        RuntimeEndpoint(url)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_events_survive_any_cut_of_the_stream(size):
    raw = b': hi\n\ndata: {"a":"\xe2\x80\xa8"}\n\ndata:b\r\nevent: x\r\ndata: c\r\n\r\ndata: cut'

    async def chunks():
        for start in range(0, len(raw), size):
            yield raw[start : start + size]

    assert [event async for event in events(chunks())] == [b'{"a":"\xe2\x80\xa8"}', b"b\nc"]
