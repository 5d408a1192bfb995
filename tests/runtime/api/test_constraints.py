"""Every way that clients have to constrain an answer, on a real engine behind the server."""

import asyncio
import json
import re

import pytest

from ramify.interpreter.backends.endpoint import RuntimeEndpoint
from ramify.lang.errors import InvalidRequest
from ramify.lang.protocol import GenerateRequest, Sampling, text_prompt
from tests.runtime.api.serving import assert_error, parse_events

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
BAD_SCHEMA = {"properties": {"a": {"$ref": "#/nowhere"}}}
REGEX = r"[ab]{3}-\d\d"
EBNF = 'root ::= "(" root ")" | "x"'


def is_json(text: str) -> bool:
    return set(json.loads(text)) == {"ok"}


def is_object(text: str) -> bool:
    return isinstance(json.loads(text), dict)


def matches(text: str) -> bool:
    return re.fullmatch(REGEX, text) is not None


def is_nested(text: str) -> bool:
    depth = text.count("(")
    return text == "(" * depth + "x" + ")" * depth


CALL = {"begin": "<call>", "schema": SCHEMA, "end": "</call>"}
LEGACY_TAG = {"type": "structural_tag", "structures": [CALL], "triggers": ["<call>"]}
TAG = {
    "type": "structural_tag",
    "format": {
        "type": "triggered_tags",
        "triggers": ["<call"],
        "tags": [
            {
                "type": "tag",
                "begin": "<call>",
                "content": {"type": "json_schema", "json_schema": SCHEMA},
                "end": "</call>",
            }
        ],
        "at_least_one": True,
        "stop_after_first": True,
    },
}


def is_call(text: str) -> bool:
    found = re.fullmatch("<call>(.*)</call>", text, re.DOTALL)
    return found is not None and is_json(found[1])


def is_choice(text: str) -> bool:
    return text in ("left", "right")


OPENAI = [
    ({"response_format": {"type": "text"}}, lambda text: True),
    ({"response_format": {"type": "json_object", "schema": SCHEMA}}, is_json),
    (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True},
            }
        },
        is_json,
    ),
    ({"json_schema": json.dumps(SCHEMA)}, is_json),
    ({"guided_json": SCHEMA}, is_json),
    ({"guided_json": json.dumps(SCHEMA)}, is_json),
    ({"structured_outputs": {"json": SCHEMA}}, is_json),
    ({"regex": REGEX}, matches),
    ({"guided_regex": REGEX}, matches),
    ({"structured_outputs": {"regex": REGEX}}, matches),
    ({"guided_choice": ["left", "right"]}, is_choice),
    ({"structured_outputs": {"choice": ["left", "right"]}}, is_choice),
    ({"ebnf": EBNF}, is_nested),
    ({"guided_grammar": EBNF}, is_nested),
    ({"structured_outputs": {"grammar": EBNF}}, is_nested),
    ({"response_format": TAG}, is_call),
    ({"structural_tag": json.dumps(TAG)}, is_call),
    ({"structured_outputs": {"structural_tag": TAG}}, is_call),
    ({"structured_outputs": {"structural_tag": json.dumps(TAG)}}, is_call),
]


@pytest.mark.parametrize(("fields", "fits"), OPENAI)
@pytest.mark.parametrize("route", ["/v1/completions", "/v1/chat/completions"])
async def test_openai_routes(server, fields, fits, route):
    asks = {"prompt": "go"} if route == "/v1/completions" else {"messages": [_user("go")]}
    body = {**asks, **fields, "max_tokens": 200, "seed": 3}
    reply = await server.post(route, body)
    assert reply.status_code == 200, reply.text
    choice = reply.json()["choices"][0]
    text = choice["text"] if "text" in choice else choice["message"]["content"]
    assert fits(text), text
    if "response_format" not in fields or fields["response_format"]["type"] != "text":
        assert choice["finish_reason"] == "stop"


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("params", "fits"),
    [
        ({"regex": REGEX}, matches),
        ({"json_schema": json.dumps(SCHEMA)}, is_json),
        ({"ebnf": EBNF}, is_nested),
        ({"structural_tag": json.dumps(TAG)}, is_call),
    ],
)
async def test_native_route(server, params, fits):
    body = {"text": "go", "sampling_params": {**params, "max_new_tokens": 200, "seed": 3, "n": 2}}
    for reply in (await server.post("/generate", body)).json():
        assert fits(reply["text"]), reply
        assert reply["meta_info"]["finish_reason"]["type"] == "stop"


HARD = {**SCHEMA, "properties": {"ok": {"enum": [True], "$ref": "http://example.com/elsewhere"}}}
LEFT_OUT = {"pointer": "/properties/ok", "keyword": "$ref"}


def _said(entry) -> bool:
    (found,) = entry["relaxed"]
    return found["why"] != "" and {**found, "why": 0} == {**LEFT_OUT, "why": 0}


def _last(text: str):
    return [event for event in parse_events(text) if event != "[DONE]"][-1]


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_relaxed_is_said_by_every_route(server, stream):
    params = {"json_schema": json.dumps(HARD), "strict": False, "max_new_tokens": 200}
    reply = await server.post(
        "/generate", {"text": "go", "sampling_params": params, "stream": stream}
    )
    last = _last(reply.text) if stream else reply.json()
    assert json.loads(last["text"]) == {"ok": True}
    assert _said(last["meta_info"])
    named = {"name": "reply", "schema": HARD, "strict": False}
    form = {"type": "json_schema", "json_schema": named}
    for route, asks in (
        ("/v1/completions", {"prompt": "go"}),
        ("/v1/chat/completions", {"messages": [_user("go")]}),
    ):
        body = {**asks, "response_format": form, "max_tokens": 200, "stream": stream}
        reply = await server.post(route, body)
        found = _last(reply.text) if stream else reply.json()
        assert _said(found["choices"][0])


async def test_what_is_relaxed_is_said_to_programs(server):
    endpoint = RuntimeEndpoint(server.url)
    sampling = Sampling(json_schema=json.dumps(HARD), strict=False, max_tokens=200)
    asked = GenerateRequest(rid="relaxed", prompt=text_prompt("go"), sampling=sampling)
    try:
        deltas = [delta async for delta in endpoint.generate(asked)]
    finally:
        await endpoint.close()
    assert [entry.keyword for entry in deltas[-1].relaxed] == ["$ref"]


async def test_strict_is_what_is_meant_where_nothing_is_said(server):
    form = {"type": "json_schema", "json_schema": {"name": "reply", "schema": HARD}}
    body = {"prompt": "go", "response_format": form, "max_tokens": 200}
    reply = await server.post("/v1/completions", body)
    assert_error(reply, 400, "unsupported_keyword", "response_format.json_schema.schema")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"response_format": {"type": "xml"}}, "invalid_type", "response_format.type"),
        ({"response_format": {}}, "missing_field", "response_format.type"),
        (
            {"response_format": {"type": "json_schema"}},
            "missing_field",
            "response_format.json_schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "missing_field",
            "response_format.json_schema.schema",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "missing_field",
            "response_format.json_schema.name",
        ),
        ({"structured_outputs": {}}, "conflicting_constraints", "structured_outputs"),
        (
            {"structured_outputs": {"regex": "a", "json": {}}},
            "conflicting_constraints",
            "structured_outputs.regex",
        ),
        ({"guided_regex": "a", "guided_json": {}}, "conflicting_constraints", "guided_regex"),
        ({"guided_regex": "["}, "invalid_regex", "guided_regex"),
        ({"guided_regex": r"(a)\1"}, "unsupported_regex", "guided_regex"),
        ({"guided_choice": []}, "invalid_grammar", "guided_choice"),
        ({"guided_grammar": 'root ::= "a" root'}, "invalid_grammar", "guided_grammar"),
        ({"guided_json": "{"}, "invalid_json_schema", "guided_json"),
        ({"guided_json": 5}, "invalid_json_schema", "guided_json"),
        ({"regex": "a", "min_tokens": 2}, "conflicting_constraints", "min_tokens"),
        ({"structural_tag": "{"}, "invalid_structural_tag", "structural_tag"),
        ({"response_format": {**TAG, "extra": 1}}, "unknown_field", "response_format.extra"),
        ({"response_format": TAG, "regex": "a"}, "conflicting_constraints", "response_format"),
        (
            {"structured_outputs": {"structural_tag": {**TAG, "format": {"type": "x"}}}},
            "unsupported_keyword",
            "structured_outputs.structural_tag",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_refused_by_name(server, fields, code, param, stream):
    body = {"prompt": "go", "max_tokens": 9, "stream": stream, **fields}
    reply = await server.post("/v1/completions", body)
    message = assert_error(reply, 400, code, param)
    assert param in message


async def test_an_error_in_a_schema_carries_its_pointer(server):
    format = {"type": "json_schema", "json_schema": {"name": "x", "schema": BAD_SCHEMA}}
    reply = await server.post("/v1/completions", {"prompt": "go", "response_format": format})
    message = assert_error(reply, 400, "invalid_json_schema", "response_format.json_schema.schema")
    assert reply.json()["error"]["pointer"] == "/properties/a/$ref"
    assert "/properties/a/$ref" in message
    params = {"regex": "ab(c"}
    reply = await server.post("/generate", {"text": "go", "sampling_params": params})
    assert_error(reply, 400, "invalid_regex", "sampling_params.regex")
    assert isinstance(reply.json()["error"]["offset"], int)


async def test_an_error_in_a_structural_tag_carries_its_pointer(server):
    call = {**CALL, "schema": BAD_SCHEMA}
    body = {"prompt": "go", "response_format": {**LEGACY_TAG, "structures": [call]}}
    reply = await server.post("/v1/completions", body)
    message = assert_error(reply, 400, "invalid_json_schema", "response_format")
    assert reply.json()["error"]["pointer"] == "/structures/0/schema/properties/a/$ref"
    assert "/structures/0/schema" in message
    tag = {"type": "structural_tag", "format": {"type": "regex", "pattern": "ab(c"}}
    params = {"structural_tag": json.dumps(tag)}
    reply = await server.post("/generate", {"text": "go", "sampling_params": params})
    assert_error(reply, 400, "invalid_regex", "sampling_params.structural_tag")
    error = reply.json()["error"]
    assert error["pointer"] == "/format/pattern" and isinstance(error["offset"], int)


@pytest.mark.parametrize("text", ["go", "<call", "<call>"])
async def test_free_text_goes_on_between_calls(server, text):
    params = {"structural_tag": json.dumps(LEGACY_TAG), "max_new_tokens": 120, "temperature": 1.0}
    for seed in range(4):
        body = {"text": text, "sampling_params": {**params, "seed": seed}}
        found = (await server.post("/generate", body)).json()
        whole = found["meta_info"]["finish_reason"]["type"] == "stop"
        calls = [part.partition("</call>") for part in found["text"].split("<call>")[1:]]
        assert all(is_json(call) for call, end, _ in calls if whole or end)


@pytest.mark.parametrize("skip", [True, False])
async def test_a_special_token_is_written_where_the_structure_names_it(server, skip):
    start = 1  # <|im_start|>, and likelier than all others wherever it is allowed
    content = {"type": "json_schema", "json_schema": SCHEMA}
    tag = {"type": "tag", "begin": "<|im_start|>x", "content": content, "end": "<|im_start|>"}
    spec = {"type": "structural_tag", "format": tag}
    params = {"structural_tag": json.dumps(spec), "max_new_tokens": 60, "skip_special_tokens": skip}
    params["logit_bias"] = {start: 100}
    found = (await server.post("/generate", {"text": "go", "sampling_params": params})).json()
    text = found["text"] if skip else found["text"].replace("<|im_start|>", "", 2)
    assert text[0] == "x" and is_json(text[1:])
    token_ids = found["output_ids"]
    assert token_ids.count(start) == 2 and token_ids[0] == token_ids[-1] == start


async def test_a_stream_of_constrained_text_adds_up(server):
    body = {"text": "go", "stream": True}
    body["sampling_params"] = {"json_schema": json.dumps(SCHEMA), "max_new_tokens": 60, "seed": 1}
    reply = await server.post("/generate", body)
    last = [event for event in parse_events(reply.text) if event != "[DONE]"][-1]
    assert is_json(last["text"])


async def test_an_endpoint_gives_what_the_engine_gives(server, engine):
    endpoint = RuntimeEndpoint(server.url)
    try:
        for number, field in enumerate(
            (
                {"regex": REGEX},
                {"choices": ("left", "right")},
                {"ebnf": EBNF},
                {"structural_tag": json.dumps(TAG)},
            )
        ):
            sampling = Sampling(max_tokens=200, seed=number, **field)
            request = GenerateRequest(rid=f"r{number}", prompt=text_prompt("go"), sampling=sampling)
            remote = "".join([delta.text async for delta in endpoint.generate(request)])
            local = await asyncio.to_thread(engine.generate, "go", sampling)
            assert remote == local.text
        bad = GenerateRequest(rid="b", prompt=text_prompt("go"), sampling=Sampling(regex="a(b"))
        with pytest.raises(InvalidRequest) as error:
            [delta async for delta in endpoint.generate(bad)]
        assert error.value.code == "invalid_regex" and error.value.offset is not None
    finally:
        await endpoint.close()


async def test_compile_times_are_measured(server):
    await server.post("/generate", {"text": "go", "sampling_params": {"regex": "xy?z"}})
    text = (await server.client.get("/metrics")).text
    count = re.search(r"^ramify:grammar_compile_seconds_count (\S+)", text, re.MULTILINE)
    assert float(count[1]) >= 1


@pytest.mark.parametrize(
    ("route", "body", "param"),
    [
        ("/v1/completions", {"prompt": "go", "max_tokens": 3}, "max_tokens"),
        (
            "/v1/chat/completions",
            {"messages": [_user("go")], "max_completion_tokens": 3},
            "max_completion_tokens",
        ),
    ],
)
async def test_a_limit_no_answer_fits_in_is_refused_by_its_name(server, route, body, param):
    reply = await server.post(route, {**body, "structured_outputs": {"regex": "[0-9]{20}"}})
    assert_error(reply, 400, "max_tokens_too_small", param)
    assert reply.json()["error"]["message"].startswith(f"{param}: 3 is too few")


async def test_the_native_route_names_its_own_limit(server):
    params = {"regex": "[0-9]{20}", "max_new_tokens": 3}
    reply = await server.post("/generate", {"text": "go", "sampling_params": params})
    assert_error(reply, 400, "max_tokens_too_small", "sampling_params.max_new_tokens")
