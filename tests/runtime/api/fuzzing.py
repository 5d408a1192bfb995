"""Random requests: bodies that are almost right, bytes that are not, clients that leave.

What is sent follows from a seed. A reply must be a 200, or a 4xx, 503 or 504 in the one shape of
errors; afterwards the server must be as it was before.

    python -m tests.runtime.api.fuzzing --count 20000 --seed 7 --worker process
"""

import argparse
import asyncio
import copy
import json
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from ramify.runtime.engine import Engine
from tests.runtime.api.serving import Served, assert_error, nothing_is_left, parse_events, served
from tests.tiny_models import make_tiny_model

CLIENTS = 16  # at once
MAY_FAIL = (400, 403, 404, 405, 408, 409, 413, 415, 499, 503, 504)
PARAMS = {
    "max_new_tokens": 8,
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 5,
    "n": 2,
    "seed": 3,
    "stop": ["x"],
    "logit_bias": {"5": 1.0},
}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
MESSAGES = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
BODIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/generate", {"text": "hello", "sampling_params": PARAMS, "stream": True}),
    ("/generate", {"text": ["a", "b"], "rid": ["r", "s"], "return_logprob": True, "timeout": 5.0}),
    ("/generate", {"input_ids": [[5, 6], [7]], "sampling_params": [PARAMS, {"regex": "[ab]+c"}]}),
    (
        "/generate",
        {
            "text": "a",
            "return_logprob": True,
            "logprob_start_len": 0,
            "top_logprobs_num": 2,
            "sampling_params": {"json_schema": json.dumps(SCHEMA), "max_new_tokens": 30},
        },
    ),
    ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 5, "logprobs": 2, "echo": True}),
    ("/v1/completions", {"prompt": [[5, 6]], "n": 2, "stream": True, "stop": ["a"]}),
    ("/v1/completions", {"prompt": "a", "guided_choice": ["a", "b"], "max_tokens": 5}),
    ("/v1/chat/completions", {"messages": MESSAGES, "max_completion_tokens": 5, "logprobs": True}),
    (
        "/v1/chat/completions",
        {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            "max_tokens": 30,
            "stream": True,
            "stream_options": {"include_usage": True},
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": SCHEMA, "strict": True},
            },
        },
    ),
    (
        "/v1/ramify/generate",
        {
            "rid": "r",
            "prompt": [{"type": "text", "text": "a"}, {"type": "tokens", "token_ids": [5]}],
            "sampling": {"max_tokens": 5, "temperature": 1.0, "stop_regex": ["a+b"]},
            "logprobs": {"output": True, "prompt_start": 0, "top": 1},
            "timeout_s": 5.0,
            "namespace": "n",
        },
    ),
    (
        "/v1/ramify/score",
        {
            "rid": "r",
            "prompt": [{"type": "text", "text": "a"}],
            "continuations": [
                [{"type": "text", "text": "b"}],
                [{"type": "tokens", "token_ids": [6]}],
            ],
            "unconditional": True,
        },
    ),
    ("/tokenize", {"prompt": "hello"}),
    ("/detokenize", {"tokens": [5, 6, 300]}),
    ("/abort_request", {"rid": "r"}),
    ("/flush_cache", {}),
)
NUMBERS = (0, -1, 1, 2, 3, 0.5, -0.0, 1e-320, 1e308, 2**31, 2**63, -(2**63), 2**64, 10**400)
STRANGE_NUMBERS = (float("nan"), float("inf"), -float("inf"))
TEXTS = (
    "",
    "a",
    "\x00",
    "é",
    "\U0001f600",
    "\ud800",
    "a\nb",
    "x" * 600,
    "{",
    "[a",
    "null",
    "0" * 99,
)
OTHERS = (None, True, False, [], {}, [[]], [None], {"a": None}, {"": {}}, {"type": "text"})
DEEP = "nested"  # stands for 5,000 lists in each other, which Python's encoder cannot write
SPECS = {
    "regex": ("(", "(a+)+b", "a{1000000}", "(?=a)b", "[z-a]", "\\", ".*"),
    "json_schema": ("{}", "false", "[1]", "{", '{"type": 5}', '{"$ref": "#/a"}', '{"enum": []}'),
    "ebnf": ('root ::= "a" root', "root ::= b", 'root ::= "a"', ""),
    "structural_tag": ("{}", "[]", '{"type": "structural_tag"}'),
    "guided_choice": ([], [""], ["a", "ab"], ["a"] * 3000),
    "schema": ({}, False, {"type": 5}, {"$ref": "#"}, {"maxLength": 10**9}, {"type": "string"}),
}


class Attack(NamedTuple):
    """One request, and what the client does with it."""

    path: str
    body: bytes
    leaves: bool  # before the reply


def attacks(seed: int, count: int) -> list[Attack]:
    """`count` requests; the same for the same seed."""
    rng = random.Random(seed)
    return [attack(rng) for _ in range(count)]


def attack(rng: random.Random) -> Attack:
    path, body = copy.deepcopy(rng.choice(BODIES))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        mutate(rng, body)
    raw = json.dumps(body).encode().replace(b'"%b"' % DEEP.encode(), b"[" * 5000 + b"]" * 5000)
    if rng.random() < 0.15:
        raw = torn(rng, raw)
    if rng.random() < 0.05:
        path, _ = rng.choice(BODIES)
    return Attack(path, raw, rng.random() < 0.2)


def mutate(rng: random.Random, body: Any) -> None:
    """Change one place, at any depth, of a dict or list."""
    while True:
        keys = list(body) if isinstance(body, dict) else list(range(len(body)))
        if not keys or rng.random() < 0.1:
            if isinstance(body, dict):
                names = (rng.choice(list(SPECS)), rng.choice(TEXTS), "sampling_params", "lora_path")
                key = rng.choice(names)
                body[key] = value(rng, key)
            else:
                body.append(value(rng))
            return
        key = rng.choice(keys)
        if isinstance(body[key], dict | list) and rng.random() < 0.7:
            body = body[key]
            continue
        if rng.random() < 0.15:
            del body[key]
        else:
            body[key] = value(rng, key)
        return


def value(rng: random.Random, key: str | int = "") -> Any:
    """Any JSON; where `key` is a constraint's, most often one that is wrong or costs much."""
    if key in SPECS and rng.random() < 0.7:
        return copy.deepcopy(rng.choice(SPECS[key]))
    kind = rng.randrange(12)
    if kind < 4:
        return rng.choice(NUMBERS)
    if kind < 5:
        return rng.choice(STRANGE_NUMBERS)
    if kind < 8:
        return rng.choice(TEXTS)
    if kind < 10:
        return copy.deepcopy(rng.choice(OTHERS))
    if kind < 11:
        return [rng.choice((*NUMBERS, *TEXTS)) for _ in range(rng.choice((1, 2, 40)))]
    return DEEP


def torn(rng: random.Random, raw: bytes) -> bytes:
    """`raw` cut, doubled, or with bytes of it changed: seldom JSON, seldom UTF-8."""
    kind = rng.randrange(4)
    at = rng.randrange(len(raw))
    if kind == 0:
        return raw[:at]
    if kind == 1:
        return raw + raw[at:]
    changed = bytearray(raw)
    for _ in range(rng.choice((1, 3, 10))):
        changed[rng.randrange(len(raw))] = rng.randrange(256)
    return bytes(changed)


async def send(server: Served, one: Attack, rng: random.Random) -> str:
    """How it ended: "left", or the status and the code of the error."""
    headers = {"Content-Type": "application/json"}
    if one.leaves:
        await leave(server, one, rng)
        return "left"
    try:
        reply = await server.client.post(one.path, content=one.body, headers=headers)
    except httpx.HTTPError as error:
        raise AssertionError(f"{error!r}: {one}, {server.engine.stats()}") from error
    if reply.status_code != 200:
        assert reply.status_code in MAY_FAIL, (one, reply.status_code, reply.text)
        code = reply.json()["error"]["code"]
        assert_error(reply, reply.status_code, code)
        return f"{reply.status_code} {code}"
    if reply.headers["content-type"].startswith("text/event-stream"):
        last = parse_events(reply.text)[-1]
        if last != "[DONE]":
            assert "error" in last and last["error"]["code"] != "EngineError", (one, last)
            return f"stream {last['error']['code']}"
    return "200"


async def leave(server: Served, one: Attack, rng: random.Random) -> None:
    """Send the request, or a part of it, and go away at some moment."""
    head = f"POST {one.path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    raw = head.encode() + b"Content-Length: %d\r\n\r\n" % len(one.body) + one.body
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(raw[: rng.randrange(len(raw))] if rng.random() < 0.3 else raw)
    await asyncio.sleep(rng.choice((0.0, 0.001, 0.01, 0.05)))
    if rng.random() < 0.5:
        writer.transport.abort()  # a reset, not an end
    writer.close()


async def fuzz(engine: Engine, seed: int, count: int) -> Counter[str]:
    """Send `count` requests, check each reply and what is left; how often each end came."""
    queue = list(enumerate(attacks(seed, count)))
    ends: Counter[str] = Counter()

    async def client(server: Served) -> None:
        while queue:
            number, one = queue.pop()
            ends[await send(server, one, random.Random(seed * 1_000_003 + number))] += 1

    async with served(engine) as server:
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(client(server))
        assert (await server.client.get("/health")).status_code == 200
        await nothing_is_left(engine)
        good = await server.post("/generate", {"text": "hi", "sampling_params": {"seed": 1}})
        assert good.status_code == 200
    return ends


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--worker", default="thread")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = make_tiny_model("llama", Path(folder))
        limits = {"dtype": "float32", "max_total_tokens": 4096}
        with Engine(str(model), worker=options.worker, **limits) as engine:
            ends = asyncio.run(fuzz(engine, options.seed, options.count))
    for end, number in ends.most_common():
        print(f"{number:7} {end}")


if __name__ == "__main__":
    main()
