"""Clients that leave, that do not read, that bring no key or come under a false name."""

import asyncio
import json
import socket

import pytest

from ramify.runtime.api.app import ROUTES
from tests.runtime.api.fake_engine import FakeEngine
from tests.runtime.api.serving import assert_error, eventually, served

STREAMS = {
    "/generate": {"text": "x" * 500, "rid": "r", "sampling_params": {"max_new_tokens": 500}},
    "/v1/completions": {"prompt": "x" * 500, "max_tokens": 500},
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x" * 500}]},
}


def http(path: str, body: object, **fields) -> bytes:
    raw = json.dumps(body | fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(raw) + raw


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("path", STREAMS)
async def test_a_client_that_leaves_aborts_its_request(path, is_stream):
    engine = FakeEngine(delay=0.01)
    async with served(engine) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(http(path, STREAMS[path], stream=is_stream))
        await eventually(lambda: bool(engine.num_sent))
        writer.close()
        await eventually(lambda: len(engine.aborted) == 1)
        await eventually(lambda: server.state.num_open == 0)
        assert next(iter(engine.num_sent.values())) < 500
        text = (await server.client.get("/metrics")).text
        assert f'ramify:http_requests_total{{route="{path}",status="499"}} 1.0' in text


async def test_a_client_that_leaves_before_the_first_token_aborts_a_whole_batch():
    engine = FakeEngine()
    engine.gate.clear()
    async with served(engine) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(http("/generate", {"text": ["a"] * 20}))
        await eventually(lambda: len(engine.requests) == 20)
        writer.close()
        await eventually(lambda: len(engine.aborted) == 20)


async def test_headers_of_a_stream_come_with_admission_not_with_the_first_token():
    engine = FakeEngine()
    engine.gate.clear()
    async with (
        served(engine) as server,
        server.client.stream("POST", "/generate", json={"text": "a", "stream": True}) as reply,
    ):
        assert reply.status_code == 200
        assert reply.headers["cache-control"] == "no-cache"
        assert reply.headers["x-accel-buffering"] == "no"
        engine.gate.set()
        assert (await reply.aread()).endswith(b"data: [DONE]\n\n")


async def test_a_reader_that_stops_holds_back_its_request_and_is_cut():
    engine = FakeEngine(reply=lambda prompt, index: b"y" * 60_000, context_length=10**6)
    async with served(engine, client_stall_timeout=0.5) as server:
        reader_socket = socket.socket()
        reader_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader_socket.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(reader_socket, ("127.0.0.1", server.port))
        body = {"text": "a", "rid": "slow", "sampling_params": {"max_new_tokens": 60_000}}
        await loop.sock_sendall(reader_socket, http("/generate", body, stream=True))
        await eventually(lambda: engine.aborted == ["slow"])
        assert engine.num_sent["slow"] < 60_000, "the server does not run ahead of its reader"
        reader_socket.close()
        assert (await server.post("/generate", {"text": "b"})).status_code == 200


ALL = [(method, path.replace("{id:.+}", "a/b")) for method, path, _ in ROUTES]
ODD = [
    ("GET", "//v1/models"),
    ("GET", "/v1/../metrics"),
    ("GET", "/V1/models"),
    ("GET", "/health/"),
    ("GET", "/health/../metrics"),
    ("OPTIONS", "/generate"),
    ("PUT", "/generate"),
    ("HEAD", "/v1/models"),
    ("GET", "/nix"),
]


@pytest.mark.parametrize("key", [None, "wrong", "right x", "é", "x" * 10_000])
async def test_without_the_key_every_route_but_the_probes_is_closed(key):
    headers = {} if key is None else {b"Authorization": b"Bearer " + key.encode()}
    async with served(api_key="right") as server:
        for method, path in ALL + ODD:
            reply = await server.client.request(method, path, headers=headers)
            if path in ("/health", "/ready"):
                assert reply.status_code == 200
            else:
                assert reply.status_code == 401, (method, path)
                assert reply.headers["x-should-retry"] == "false"
        assert not server.engine.requests
        good = await server.client.get("/v1/models", headers={"Authorization": "Bearer right"})
        assert good.status_code == 200


async def test_the_admin_key_guards_admin_calls():
    def bearer(key):
        return {"Authorization": f"Bearer {key}"}

    async with served(api_key="user", admin_api_key="root") as server:
        flush = await server.client.post("/flush_cache", headers=bearer("user"))
        assert_error(flush, 403, "admin_required")
        assert server.engine.num_flushed == 0
        assert (await server.client.post("/flush_cache", headers=bearer("root"))).is_success
        assert (await server.client.get("/v1/models", headers=bearer("root"))).is_success
        assert_error(await server.client.post("/flush_cache"), 401, "invalid_api_key")
    async with served(admin_api_key="root") as server:
        assert (await server.client.get("/v1/models")).is_success
        assert_error(await server.client.post("/flush_cache"), 401, "invalid_api_key")


async def test_a_loopback_server_answers_only_to_loopback_names():
    async with served() as server:
        for host in ("evil.com", "127.0.0.1.evil.com", "evil.com:80"):
            reply = await server.client.get("/v1/models", headers={"Host": host})
            assert_error(reply, 403, "host_not_allowed")
        for host in ("localhost", f"localhost:{server.port}", "[::1]:1", "LOCALHOST"):
            reply = await server.client.get("/v1/models", headers={"Host": host})
            assert reply.status_code == 200, host
    async with served(allowed_hosts="a.example, localhost") as server:
        good = await server.client.get("/v1/models", headers={"Host": "a.example:8080"})
        assert good.status_code == 200
        assert_error(await server.client.get("/v1/models"), 403, "host_not_allowed")


async def test_each_request_is_one_line_in_the_access_log(caplog):
    caplog.set_level("INFO", logger="ramify")
    engine = FakeEngine(fail_after=2, failure=RuntimeError("bug"))
    async with served(engine) as server:
        body = {"text": "abc", "rid": "one"}
        await server.post("/generate", body)
        await server.post("/generate", {**body, "stream": True})
        await server.client.get("/evil%0d%0anix")
        await server.client.get("/health")
        engine.fail_after = None
        await server.post("/generate", body, headers={"X-Request-Id": "mine"})
    lines = [record.getMessage() for record in caplog.records if record.name == "ramify.access"]
    ends = [line.split(" ")[2:4] for line in lines]
    assert ends == [
        ["500", "error"],
        ["200", "error"],
        ["404", "error"],
        ["200", "done"],
    ]
    assert lines[3].endswith("id=mine rid=one")
    assert not any("\n" in line or "\r" in line for line in lines)
    ours = [record for record in caplog.records if record.name.startswith("ramify")]
    bugs = [record for record in ours if record.exc_info]
    assert len(bugs) == 2, "a bug's traceback is in the log, not in the reply"


async def test_a_full_queue_is_503_with_retry_after():
    engine = FakeEngine(max_live=2)
    engine.gate.clear()
    async with served(engine) as server:
        running = [
            asyncio.create_task(server.post("/generate", {"text": "a", "rid": f"{i}"}))
            for i in range(2)
        ]
        await eventually(lambda: len(engine.requests) == 2)
        reply = await server.post("/generate", {"text": "b", "stream": True})
        assert_error(reply, 503, "queue_full")
        assert reply.headers["retry-after"] == "1"
        engine.gate.set()
        assert [one.status_code for one in await asyncio.gather(*running)] == [200, 200]
