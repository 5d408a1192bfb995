"""Bad requests, class by class: each a small error that names the field, and nothing breaks."""

import asyncio
import json

import pytest

from tests.runtime.api.fake_engine import FakeEngine
from tests.runtime.api.serving import assert_error, eventually, served

BIG = "x" * 10**6
CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
async def server():
    """A server on which every test's end finds a canary stream unharmed."""
    engine = FakeEngine()
    async with served(engine, max_body_mib=2) as server:
        engine.gate.clear()
        body = {"text": "canary", "rid": "canary", "stream": True}
        canary = asyncio.create_task(server.events("/generate", body))
        engine_gate = engine.gate
        yield server
        engine_gate.set()
        assert (await canary)[-2]["text"] == "[0] canary"
        assert (await server.client.get("/health")).status_code == 200
        await eventually(lambda: server.engine.stats().num_running == 0)
        await eventually(lambda: server.state.num_open == 0)


def sampling(**params):
    return {"text": "a", "sampling_params": params}


@pytest.mark.parametrize(
    ("params", "code", "name"),
    [
        ({"max_new_tokens": -1}, "out_of_range", "max_new_tokens"),
        ({"max_new_tokens": 2**63}, "out_of_range", "max_new_tokens"),
        ({"max_new_tokens": 10**400}, "out_of_range", "max_new_tokens"),
        ({"max_new_tokens": "5"}, "invalid_type", "max_new_tokens"),
        ({"max_new_tokens": 1.5}, "invalid_type", "max_new_tokens"),
        ({"max_new_tokens": True}, "invalid_type", "max_new_tokens"),
        ({"min_new_tokens": 9, "max_new_tokens": 5}, "out_of_range", "min_new_tokens"),
        ({"temperature": -1}, "out_of_range", "temperature"),
        ({"temperature": 1e308}, "out_of_range", "temperature"),
        ({"top_p": 0}, "out_of_range", "top_p"),
        ({"top_p": 1.1}, "out_of_range", "top_p"),
        ({"top_k": 0}, "out_of_range", "top_k"),
        ({"top_k": -2}, "out_of_range", "top_k"),
        ({"min_p": 2}, "out_of_range", "min_p"),
        ({"n": 0}, "out_of_range", "n"),
        ({"n": 129}, "out_of_range", "n"),
        ({"frequency_penalty": 1e9}, "out_of_range", "frequency_penalty"),
        ({"repetition_penalty": 0}, "out_of_range", "repetition_penalty"),
        ({"stop": ""}, "out_of_range", "stop"),
        ({"stop": [""]}, "out_of_range", "stop"),
        ({"stop": ["x"] * 33}, "out_of_range", "stop"),
        ({"stop": BIG}, "out_of_range", "stop"),
        ({"stop": [1]}, "invalid_type", "stop[0]"),
        ({"seed": 2**63}, "out_of_range", "seed"),
        ({"seed": -(2**63) - 1}, "out_of_range", "seed"),
        ({"seed": 1.5}, "invalid_type", "seed"),
        ({"seed": "x"}, "invalid_type", "seed"),
        ({"logit_bias": {"5": 101}}, "out_of_range", "logit_bias[5]"),
        ({"logit_bias": {"x": 1}}, "invalid_type", "logit_bias"),
        ({"regex": "a", "json_schema": "{}"}, "conflicting_constraints", "json_schema"),
        ({"stop_token_ids": [1.5]}, "invalid_type", "stop_token_ids[0]"),
    ],
)
async def test_sampling_out_of_range(server, params, code, name):
    reply = await server.post("/generate", sampling(**params))
    assert_error(reply, 400, code, f"sampling_params.{name}")


@pytest.mark.parametrize("params", [{"stop": []}, {"seed": -(2**63)}, {"max_new_tokens": 0}, {}])
async def test_sampling_at_the_edge_is_served(server, params):
    server.engine.gate.set()
    assert (await server.post("/generate", sampling(**params))).status_code == 200


@pytest.mark.parametrize(
    ("literal", "code"),
    [("NaN", "invalid_json"), ("Infinity", "invalid_json"), ("1e999", "invalid_type")],
)
async def test_numbers_that_json_does_not_have(server, literal, code):
    raw = f'{{"text": "a", "sampling_params": {{"temperature": {literal}}}}}'
    reply = await server.client.post(
        "/generate", content=raw, headers={"Content-Type": "application/json"}
    )
    assert_error(reply, 400, code)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_field", "text"),
        ({"text": "a", "input_ids": [1]}, "invalid_request", "input_ids"),
        ({"text": 5}, "invalid_type", "text"),
        ({"text": []}, "out_of_range", "text"),
        ({"text": ["a"] * 1025}, "out_of_range", "text"),
        ({"text": ["a", 5]}, "invalid_type", "text[1]"),
        ({"text": ""}, "invalid_request", "prompt"),
        ({"input_ids": [-1]}, "invalid_request", None),
        ({"input_ids": [257]}, "invalid_request", None),
        ({"input_ids": [2**31]}, "invalid_request", None),
        ({"input_ids": [1.5]}, "invalid_type", "input_ids[0]"),
        ({"input_ids": [1, "a"]}, "invalid_type", "input_ids[1]"),
        ({"input_ids": [1, [2]]}, "invalid_type", "input_ids"),
        ({"input_ids": [[1], 2]}, "invalid_type", "input_ids[1]"),
        ({"input_ids": [[1], [[2]]]}, "invalid_type", "input_ids[1][0]"),
        ({"segments": [{"type": "image"}]}, "invalid_type", "segments[0].type"),
        ({"segments": [{"type": "tokens", "token_ids": ["x"]}]}, "invalid_type", None),
        ({"text": "a" * 4097}, "context_length_exceeded", None),
        ({"text": "a", "stream": "yes"}, "invalid_type", "stream"),
        ({"text": "a", "rid": "a\nb"}, "invalid_request", "rid"),
        ({"text": "a", "rid": BIG}, "invalid_request", "rid"),
        ({"text": "a", "rid": ["a", "b"]}, "invalid_request", "rid"),
        ({"text": ["a", "b"], "sampling_params": [{}]}, "invalid_request", "sampling_params"),
        ({"text": "a", "timeout": -1}, "out_of_range", "timeout"),
        ({"text": "a", "return_logprob": True, "top_logprobs_num": 21}, "out_of_range", None),
        ({"text": "a", "return_logprob": True, "logprob_start_len": -5}, "out_of_range", None),
        ([1], "invalid_type", None),
    ],
)
async def test_native_bodies(server, body, code, param):
    assert_error(await server.post("/generate", body), 400, code, param)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_field", "messages"),
        ({"messages": []}, "invalid_request", "messages"),
        ({"messages": [{"content": "x"}]}, "missing_field", "messages[0].role"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "invalid_type", "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "user"}]}, "invalid_request", "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "not_supported",
            "messages[0].content[0]",
        ),
        ({**CHAT, "top_logprobs": 5}, "invalid_request", "top_logprobs"),
        ({**CHAT, "logprobs": True, "top_logprobs": 21}, "out_of_range", "top_logprobs"),
        ({**CHAT, "logprobs": True, "top_logprobs": -1}, "out_of_range", "top_logprobs"),
        ({**CHAT, "stream_options": {}}, "invalid_request", "stream_options"),
        ({**CHAT, "stream": "yes"}, "invalid_type", "stream"),
        ({**CHAT, "max_completion_tokens": -1}, "out_of_range", "max_completion_tokens"),
        ({**CHAT, "logit_bias": {"1": 1000}}, "out_of_range", "logit_bias[1]"),
        ({**CHAT, "n": 129}, "out_of_range", "n"),
    ],
)
async def test_chat_bodies(server, body, code, param):
    assert_error(await server.post("/v1/chat/completions", body), 400, code, param)


@pytest.mark.parametrize("model", ["gpt-4", "../../x", BIG, ""])
async def test_unknown_models(server, model):
    reply = await server.post("/v1/chat/completions", {**CHAT, "model": model})
    assert_error(reply, 404, "model_not_found", "model")


@pytest.mark.parametrize(
    ("prompt", "code", "param"),
    [
        ([], "out_of_range", "prompt"),
        (["a", 5], "invalid_type", "prompt[1]"),
        ([5, [5]], "invalid_type", "prompt[0]"),
        (["a", [5]], "invalid_type", "prompt[1]"),
        ({"a": 1}, "invalid_type", "prompt"),
    ],
)
async def test_completion_prompts(server, prompt, code, param):
    assert_error(await server.post("/v1/completions", {"prompt": prompt}), 400, code, param)


async def test_a_suffix_is_refused(server):
    reply = await server.post("/v1/completions", {"prompt": "a", "suffix": "b"})
    assert_error(reply, 400, "not_supported", "suffix")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{}x",
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"image_data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a":' * 100_000,
    ],
)
@pytest.mark.parametrize("path", ["/generate", "/v1/chat/completions", "/v1/ramify/generate"])
async def test_what_is_not_json_or_nested_too_deep(server, raw, path):
    reply = await server.client.post(
        path, content=raw, headers={"Content-Type": "application/json"}
    )
    code = reply.json()["error"]["code"]  # a wrong or missing field may be met first
    assert code in ("invalid_json", "invalid_type", "unknown_field", "missing_field")
    assert_error(reply, 400, code)


async def test_a_schema_that_is_not_utf8(server):
    body = b'{"messages": [], "guided_json": {"type": "\xff"}}'
    headers = {"Content-Type": "application/json"}
    reply = await server.client.post("/v1/chat/completions", content=body, headers=headers)
    assert_error(reply, 400, "invalid_json")


async def test_a_million_keys(server):
    raw = json.dumps({f"{i}": 1 for i in range(120_000)})
    reply = await server.client.post(
        "/v1/chat/completions", content=raw, headers={"Content-Type": "application/json"}
    )
    assert_error(reply, 400, "missing_field", "messages")


async def test_the_type_of_a_body_must_be_json(server):
    reply = await server.client.post("/generate", content="a=1")
    assert_error(reply, 415, "unsupported_media_type")


@pytest.mark.parametrize("header", ["Content-Encoding", "x-body-compressed"])
async def test_compressed_bodies_are_refused_unread(server, header):
    headers = {"Content-Type": "application/json", header: "gzip"}
    reply = await server.client.post("/generate", content=b"\x1f\x8b", headers=headers)
    assert_error(reply, 415, "unsupported_encoding")


async def test_bodies_too_large_are_refused_with_and_without_a_length(server):
    reply = await server.post("/generate", {"text": "a" * 3 * 2**20})
    assert_error(reply, 413, "body_too_large")

    async def chunks():
        for _ in range(3):
            yield b" " * 2**20

    headers = {"Content-Type": "application/json"}
    reply = await server.client.post("/generate", content=chunks(), headers=headers)
    assert_error(reply, 413, "body_too_large")


@pytest.mark.parametrize("given", ["x" * 200, "10.0.0.1:80", "a b", "é", ""])
async def test_silly_request_ids_are_replaced(server, given):
    headers = {b"X-Request-Id": given.encode()}
    reply = await server.client.get("/health", headers=headers)
    assert reply.headers["x-request-id"] not in (given, "")


async def test_a_good_request_id_comes_back(server):
    reply = await server.client.get("/nix", headers={"X-Request-Id": "my-id.1"})
    assert reply.headers["x-request-id"] == "my-id.1"


async def test_missing_routes_and_wrong_methods(server):
    assert_error(await server.client.get("/nix"), 404, "route_not_found")
    wrong = await server.client.get("/generate")
    assert_error(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    assert_error(await server.client.get("/flush_cache"), 405, "method_not_allowed")


async def raw_exchange(server, raw: bytes) -> tuple[int, dict, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw)
    reply = await reader.read()
    writer.close()
    head, _, body = reply.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"], head


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400, "invalid_http"),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 431, "headers_too_large"),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 70_000 + b"\r\n\r\n",
            431,
            "headers_too_large",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: a\r\n" * 200 + b"\r\n",
            431,
            "headers_too_large",
        ),
        (
            b"POST /generate HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: 0\r\n\r\n",
            417,
            "expectation_failed",
        ),
    ],
)
async def test_what_is_not_http_has_the_one_error_shape_too(server, raw, status, code):
    found, error, head = await raw_exchange(server, raw)
    assert (found, error["code"]) == (status, code)
    assert set(error) == {"message", "type", "param", "code"}
    assert b"x-request-id" in head.lower()


async def test_aborting_what_does_not_run_is_no_error(server):
    for _ in range(2):
        reply = await server.post("/abort_request", {"rid": "nobody"})
        assert (reply.status_code, reply.json()) == (200, {"aborted": 0})
