"""The server around a real engine with a tiny random model."""

import asyncio

import pytest

from ramify.interpreter.backends.endpoint import RuntimeEndpoint
from ramify.lang.errors import ContextLengthExceeded, InvalidRequest
from ramify.lang.protocol import (
    GenerateRequest,
    LogprobOptions,
    Sampling,
    ScoreRequest,
    TextSegment,
    TokenSegment,
    text_prompt,
    token_prompt,
)
from tests.runtime.api.serving import assert_error, eventually

PARAMS = {"temperature": 0, "max_new_tokens": 12, "ignore_eos": True}


async def test_native_reply_is_the_engines_answer(server, engine):
    sampling = Sampling(temperature=0, max_tokens=12, ignore_eos=True)
    answer = await asyncio.to_thread(engine.generate, "hello there", sampling)
    found = (
        await server.post("/generate", {"text": "hello there", "sampling_params": PARAMS})
    ).json()
    assert (found["text"], tuple(found["output_ids"])) == (answer.text, answer.token_ids)
    assert found["meta_info"]["prompt_tokens"] == answer.completions[0].usage.prompt_tokens


async def test_sglangs_select_works(server, engine):
    """The three calls of SGLang's client: prompt length, choices, choices alone."""
    prefix, choices = "the answer is", [" he", " she"]
    none = {"max_new_tokens": 0, "temperature": 0}
    body = {"text": prefix, "sampling_params": none}
    length = (await server.post("/generate", body)).json()["meta_info"]["prompt_tokens"]
    body = {
        "text": [prefix + choice for choice in choices],
        "sampling_params": none,
        "return_logprob": True,
        "return_text_in_logprobs": True,
        "logprob_start_len": max(length - 2, 0),
    }
    for reply, choice in zip((await server.post("/generate", body)).json(), choices, strict=True):
        entries = reply["meta_info"]["input_token_logprobs"]
        assert "".join(text for _, _, text in entries).endswith(choice)
        assert entries[0][0] is None and all(lp < 0 for lp, _, _ in entries[1:])
        assert len(entries) == len(engine.tokenize(prefix + choice)) - max(length - 2, 0)
        assert reply["meta_info"]["output_token_logprobs"] == []
    ids = [engine.tokenize(choice) for choice in choices]
    body = {"input_ids": ids, "sampling_params": none, "return_logprob": True}
    assert (await server.post("/generate", body)).status_code == 200


async def test_chat_and_completions_agree_on_the_rendered_prompt(server, engine):
    messages = [{"role": "user", "content": "hi"}]
    rendered = engine.chat_template.render(messages, add_generation_prompt=True)
    extra = {"temperature": 0, "max_tokens": 8, "ignore_eos": True}
    chat = (await server.post("/v1/chat/completions", {"messages": messages, **extra})).json()
    plain = (await server.post("/v1/completions", {"prompt": rendered, **extra})).json()
    assert chat["choices"][0]["message"]["content"] == plain["choices"][0]["text"]
    assert chat["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"]


async def test_chat_without_a_limit_stops_at_the_context(server):
    body = {"messages": [{"role": "user", "content": "hi"}], "ignore_eos": True, "seed": 1}
    reply = (await server.post("/v1/chat/completions", body)).json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["total_tokens"] == 512


async def test_streams_add_up_with_stops_logprobs_and_n(server):
    body = {
        "prompt": ["the hand", "and"],
        "n": 2,
        "seed": 3,
        "max_tokens": 40,
        "logprobs": 2,
        "echo": True,
        "stop": ["a", "\n"],
    }
    plain = (await server.post("/v1/completions", body)).json()
    events = await server.events("/v1/completions", {**body, "stream": True})
    assert events.pop() == "[DONE]"
    for choice in plain["choices"]:
        own = [c for e in events for c in e["choices"] if c["index"] == choice["index"]]
        assert "".join(c["text"] for c in own) == choice["text"]
        assert own[-1]["finish_reason"] == choice["finish_reason"]
        for name in ("tokens", "token_logprobs", "text_offset"):
            assert [x for c in own for x in c["logprobs"][name]] == choice["logprobs"][name]


@pytest.mark.parametrize("ids", [[-1], [288], [2**31], [2**63]])
async def test_token_ids_outside_the_vocabulary(server, ids):
    reply = await server.post("/generate", {"input_ids": [5, *ids]})
    message = assert_error(reply, 400, reply.json()["error"]["code"])
    assert str(ids[0]) in message and "287" in message


async def test_a_prompt_beyond_the_context_names_both_numbers(server):
    reply = await server.post("/generate", {"text": "x" * 600, "sampling_params": PARAMS})
    message = assert_error(reply, 400, "context_length_exceeded")
    assert "512" in message and "600" in message


async def test_a_deadline_is_504(server):
    body = {"text": "a", "sampling_params": {**PARAMS, "max_new_tokens": 400}, "timeout": 0.001}
    assert_error(await server.post("/generate", body), 504, "deadline_exceeded")


async def test_a_duplicate_rid_is_409(server):
    body = {"text": ["a", "b"], "rid": ["same", "same"], "sampling_params": PARAMS}
    assert_error(await server.post("/generate", body), 409, "duplicate_rid")


async def test_a_client_that_leaves_frees_the_engine(server, engine):
    before = engine.stats().num_aborted
    body = {"text": "a", "sampling_params": {**PARAMS, "max_new_tokens": 480}, "stream": True}
    async with server.client.stream("POST", "/generate", json=body) as reply:
        await anext(reply.aiter_lines())
    await eventually(lambda: engine.stats().num_aborted == before + 1)
    await eventually(lambda: engine.stats().num_running == 0)


async def test_the_endpoint_gets_what_the_engine_gives(server, engine):
    backend = RuntimeEndpoint(server.url)
    request = GenerateRequest(
        rid="r",
        prompt=(TextSegment("hello é"), TokenSegment((70, 71)), TextSegment(" the")),
        sampling=Sampling(n=3, seed=4, max_tokens=30, stop=("a",), logit_bias={75: 2.0}),
        logprobs=LogprobOptions(output=True, prompt_start=0, top=2),
    )

    async def whole(deltas):
        found = {}
        async for delta in deltas:
            text, ids, logprobs = found.get(delta.index, ("", (), ()))
            found[delta.index] = (
                text + delta.text,
                ids + delta.token_ids,
                logprobs + (delta.prompt_logprobs or ()) + delta.logprobs,
            )
        return found

    here, there = (
        await whole(engine.async_generate(request)),
        await whole(backend.generate(request)),
    )
    assert sorted(here) == [0, 1, 2]
    for index, (text, ids, logprobs) in here.items():
        assert there[index][:2] == (text, ids)
        for ours, theirs in zip(logprobs, there[index][2], strict=True):
            assert ours.token_id == theirs.token_id
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)

    asked = ScoreRequest(
        rid="s",
        prompt=text_prompt("the"),
        continuations=(text_prompt(" hand"), token_prompt((80, 81, 82))),
        unconditional=True,
    )
    ours, theirs = await engine.async_score(asked), await backend.score(asked)
    for a, b in zip(ours.scores, theirs.scores, strict=True):
        assert a.token_ids == b.token_ids
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
        assert a.unconditional_logprobs == pytest.approx(b.unconditional_logprobs, abs=1e-4)
    with pytest.raises(ContextLengthExceeded):
        await whole(backend.generate(GenerateRequest(rid="x", prompt=text_prompt("x" * 600))))
    with pytest.raises(InvalidRequest):
        await backend.score(ScoreRequest(rid="x", prompt=text_prompt("x"), continuations=()))
    await backend.close()
