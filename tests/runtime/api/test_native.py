"""`POST /generate`: SGLang's dialect."""

import itertools

import pytest

from tests.runtime.api.fake_engine import FakeEngine
from tests.runtime.api.serving import assert_error, served


async def test_text_prompt_gets_text_ids_and_meta_info():
    async with served() as server:
        reply = await server.post("/generate", {"text": "abc", "rid": "r1"})
        found = reply.json()
    assert found["text"] == "[0] abc"
    assert bytes(found["output_ids"]) == b"[0] abc"
    meta = found["meta_info"]
    assert meta["id"] == "r1"
    assert meta["finish_reason"] == {"type": "stop", "matched": 256}
    assert (meta["prompt_tokens"], meta["completion_tokens"], meta["cached_tokens"]) == (3, 7, 1)
    assert meta["e2e_latency"] >= 0


async def test_ids_and_segments_are_prompts_too():
    async with served() as server:
        ids = await server.post("/generate", {"input_ids": [97, 98]})
        segments = [{"type": "text", "text": "a"}, {"type": "tokens", "token_ids": [98]}]
        mixed = await server.post("/generate", {"segments": segments})
    assert ids.json()["text"] == mixed.json()["text"] == "[0] ab"


async def test_batches_and_n_give_lists_in_order():
    async with served() as server:
        batch = await server.post("/generate", {"text": ["a", "b"], "rid": "q"})
        several = await server.post(
            "/generate", {"input_ids": [[97], [98]], "sampling_params": {"n": 2}}
        )
    assert [one["text"] for one in batch.json()] == ["[0] a", "[0] b"]
    assert [one["meta_info"]["id"] for one in batch.json()] == ["q-0", "q-1"]
    assert [one["text"] for one in several.json()] == ["[0] a", "[1] a", "[0] b", "[1] b"]


async def test_sglang_client_fields_with_nulls_are_accepted():
    """What SGLang's own RuntimeEndpoint sends for a gen."""
    params = {
        "skip_special_tokens": True,
        "spaces_between_special_tokens": True,
        "max_new_tokens": 3,
        "min_new_tokens": 0,
        "n": 1,
        "stop": [],
        "stop_token_ids": None,
        "stop_regex": [],
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "ignore_eos": False,
        "regex": None,
        "json_schema": None,
    }
    async with served() as server:
        reply = await server.post("/generate", {"text": "abc", "sampling_params": params})
        assert reply.json()["meta_info"]["finish_reason"] == {"type": "length", "length": 3}
        sampling = server.engine.requests[0].sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.stop) == (3, 0.0, ())


async def test_stream_is_cumulative_and_ends_as_the_plain_reply():
    body = {"text": "héllo", "sampling_params": {"stop": "o"}, "return_logprob": True}
    async with served() as server:
        plain = (await server.post("/generate", body)).json()
        events = await server.events("/generate", {**body, "stream": True})
    assert events.pop() == "[DONE]"
    for before, after in itertools.pairwise(events):
        assert after["text"].startswith(before["text"])
        assert before["meta_info"]["finish_reason"] is None
    last = events[-1]
    for reply in (plain, last):
        for volatile in ("e2e_latency", "id"):
            del reply["meta_info"][volatile]
    assert last == plain
    assert plain["text"] == "[0] héll"


async def test_stream_of_a_batch_numbers_its_sequences():
    async with served() as server:
        body = {"text": ["a", "b"], "sampling_params": {"n": 2}, "stream": True}
        events = await server.events("/generate", body)
    final = {event["index"]: event["text"] for event in events[:-1]}
    assert final == {0: "[0] a", 1: "[1] a", 2: "[0] b", 3: "[1] b"}


async def test_logprobs_line_up_with_tokens_and_start_with_null():
    body = {
        "text": "abcd",
        "return_logprob": True,
        "logprob_start_len": 2,
        "top_logprobs_num": 2,
        "return_text_in_logprobs": True,
        "sampling_params": {"max_new_tokens": 0},
    }
    async with served() as server:
        found = (await server.post("/generate", body)).json()
    meta = found["meta_info"]
    assert meta["input_token_logprobs"] == [[None, 99, "c"], [-101 / 64, 100, "d"]]
    assert meta["input_top_logprobs"][0] is None
    assert meta["input_top_logprobs"][1][0] == [-101 / 64, 100, "d"]
    assert meta["output_token_logprobs"] == []
    assert meta["prompt_tokens"] == 4
    assert found["text"] == ""


async def test_duplicate_rid_is_a_conflict():
    engine = FakeEngine()
    engine.gate.clear()
    async with served(engine) as server:
        body = {"text": ["a", "b"], "rid": ["same", "same"]}
        assert_error(await server.post("/generate", body), 409, "duplicate_rid")


async def test_abort_ends_only_the_exact_rid():
    engine = FakeEngine(delay=0.01)
    async with (
        served(engine) as server,
        server.client.stream(
            "POST", "/generate", json={"text": "x" * 100, "rid": "a10", "stream": True}
        ) as response,
    ):
        lines = response.aiter_lines()
        await anext(lines)
        other = await server.post("/abort_request", {"rid": "a1"})
        assert other.json() == {"aborted": 0}
        exact = await server.post("/abort_request", {"rid": "a10"})
        assert exact.json() == {"aborted": 1}
        text = "\n".join([line async for line in lines])
    assert '"finish_reason":{"type":"abort"' in text


async def test_timeout_is_504():
    async with served(FakeEngine(delay=0.02)) as server:
        reply = await server.post("/generate", {"text": "a" * 50, "timeout": 0.05})
    assert_error(reply, 504, "deadline_exceeded")


async def test_server_wide_timeout_holds_where_none_is_given():
    async with served(request_timeout=7.0) as server:
        await server.post("/generate", {"text": "a"})
        await server.post("/generate", {"text": "a", "timeout": 3})
        assert [one.timeout_s for one in server.engine.requests] == [7.0, 3.0]


@pytest.mark.parametrize(
    ("name", "closest"),
    [("max_tokens", "max_new_tokens"), ("temprature", "temperature"), ("qqqq", None)],
)
async def test_unknown_sampling_field_is_named_with_the_closest_right_one(name, closest):
    async with served() as server:
        reply = await server.post("/generate", {"text": "a", "sampling_params": {name: 1}})
    message = assert_error(reply, 400, "unknown_field", f"sampling_params.{name}")
    assert (f"did you mean '{closest}'" in message) if closest else ("mean" not in message)


@pytest.mark.parametrize(
    ("field", "value"),
    [("lora_path", "x"), ("image_data", ["x"]), ("custom_logit_processor", "gASV")],
)
async def test_what_is_not_served_is_refused_by_name(field, value):
    async with served() as server:
        refused = await server.post("/generate", {"text": "a", field: value})
        assert_error(refused, 400, "not_supported", field)
        trivial = await server.post("/generate", {"text": "a", field: None})
        assert trivial.status_code == 200
