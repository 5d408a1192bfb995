"""openai-python against the server: what its users see."""

from contextlib import asynccontextmanager

import openai
import pytest

from ramify.lang.errors import ErrorInfo, Unavailable
from tests.runtime.api.fake_engine import FakeEngine
from tests.runtime.api.serving import assert_error, served

HELLO = [{"role": "user", "content": "hi"}]
ANSWER = "[0] <user>hi\n<assistant>"


@asynccontextmanager
async def openai_client(engine=None, **options):
    async with served(engine, **options) as server:
        key = options.get("api_key", "none")
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key=key, max_retries=0
        ) as client:
            yield client, server


async def test_chat():
    async with openai_client() as (client, server):
        reply = await client.chat.completions.create(model="org/fake-model", messages=HELLO)
        sampling = server.engine.requests[0].sampling
    assert reply.choices[0].message.content == ANSWER
    assert reply.choices[0].message.role == "assistant"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.prompt_tokens == len("<user>hi\n<assistant>")
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.prompt_tokens_details.cached_tokens == 10
    assert sampling.max_tokens == 4096 - len("<user>hi\n<assistant>"), "all the context there is"


async def test_chat_stream_adds_up_to_the_plain_reply():
    options = {
        "model": "org/fake-model",
        "messages": [{"role": "user", "content": "héé\u2028o"}],
        "n": 2,
        "logprobs": True,
        "top_logprobs": 2,
        "stop": "assist",
    }
    async with openai_client() as (client, _):
        plain = await client.chat.completions.create(**options)
        stream = await client.chat.completions.create(
            **options, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    *content, last = chunks
    assert last.choices == [] and last.usage == plain.usage
    assert all(chunk.usage is None for chunk in content)
    for choice in plain.choices:
        own = [c for chunk in content for c in chunk.choices if c.index == choice.index]
        assert own[0].delta.role == "assistant"
        assert "".join(c.delta.content or "" for c in own) == choice.message.content
        assert [c.finish_reason for c in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1].finish_reason == choice.finish_reason == "stop"
        assert own[-1].matched_stop == choice.matched_stop == "assist"
        logprobs = [entry for c in own if c.logprobs for entry in c.logprobs.content]
        assert logprobs == choice.logprobs.content


async def test_chat_options_reach_the_engine():
    async with openai_client() as (client, server):
        await client.chat.completions.create(
            model="org/fake-model",
            messages=[
                {"role": "developer", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "a"}] * 2},
            ],
            max_tokens=5,
            max_completion_tokens=7,
            temperature=0.5,
            top_p=0.9,
            seed=-(2**63),
            logit_bias={"97": -100},
            presence_penalty=1.0,
            stop=["x", "y"],
            tools=[],
            response_format={"type": "text"},
            extra_body={"top_k": 4, "ignore_eos": True, "min_tokens": 2, "priority": 3},
        )
        request = server.engine.requests[0]
    sampling = request.sampling
    assert server.engine.encode(request.prompt) == b"<system>be brief\n<user>aa\n<assistant>"
    assert sampling.max_tokens == 7, "max_completion_tokens wins"
    assert (sampling.temperature, sampling.top_p, sampling.seed) == (0.5, 0.9, -(2**63))
    assert (sampling.logit_bias, sampling.presence_penalty) == ({97: -100.0}, 1.0)
    assert (sampling.stop, sampling.top_k, sampling.ignore_eos) == (("x", "y"), 4, True)
    assert (sampling.min_tokens, request.priority) == (2, 3)


async def test_completions_take_every_form_of_prompt():
    prompts = ["ab", ["ab", "c"], [97, 98], [[97, 98], [99]]]
    async with openai_client() as (client, _):
        found = [
            await client.completions.create(model="org/fake-model", prompt=prompt, n=2)
            for prompt in prompts
        ]
    one, two = ["[0] ab", "[1] ab"], ["[0] ab", "[1] ab", "[0] c", "[1] c"]
    assert [[c.text for c in reply.choices] for reply in found] == [one, two, one, two]
    assert [[c.index for c in reply.choices] for reply in found][1] == [0, 1, 2, 3]
    assert found[1].usage.prompt_tokens == 3, "each prompt is counted once"


async def test_echo_with_logprobs_scores_the_prompt():
    """What lm-eval's loglikelihood asks for."""
    async with openai_client() as (client, _):
        reply = await client.completions.create(
            model="org/fake-model", prompt="abc", max_tokens=0, echo=True, logprobs=1
        )
    choice = reply.choices[0]
    assert choice.text == "abc"
    assert choice.finish_reason == "length"
    assert choice.logprobs.tokens == ["a", "b", "c"]
    assert choice.logprobs.token_logprobs == [None, -99 / 64, -100 / 64]
    assert choice.logprobs.text_offset == [0, 1, 2]
    assert choice.logprobs.top_logprobs == [None, {"b": -99 / 64}, {"c": -100 / 64}]


async def test_completion_stream_adds_up_to_the_plain_reply():
    options = {
        "model": "org/fake-model",
        "prompt": ["abc", "d"],
        "echo": True,
        "logprobs": 2,
        "max_tokens": 4,
        "n": 2,
    }
    async with openai_client() as (client, _):
        plain = await client.completions.create(**options)
        stream = await client.completions.create(
            **options, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage == plain.usage
    for choice in plain.choices:
        own = [c for chunk in chunks for c in chunk.choices if c.index == choice.index]
        assert "".join(c.text for c in own) == choice.text
        assert own[-1].finish_reason == choice.finish_reason == "length"
        for name in ("tokens", "token_logprobs", "text_offset", "top_logprobs"):
            joined = [entry for c in own for entry in getattr(c.logprobs, name)]
            assert joined == getattr(choice.logprobs, name), name


async def test_models():
    async with openai_client() as (client, _):
        assert [model.id async for model in client.models.list()] == ["org/fake-model"]
        assert (await client.models.retrieve("org/fake-model")).max_model_len == 4096
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("org/other")
        assert caught.value.code == "model_not_found"
    async with openai_client(served_model_name="mine") as (client, _):
        assert [model.id async for model in client.models.list()] == ["mine"]
        await client.chat.completions.create(model="mine", messages=HELLO)


async def test_errors_become_the_clients_classes():
    async with openai_client(api_key="k") as (client, server):
        create = client.chat.completions.create
        with pytest.raises(openai.NotFoundError) as missing:
            await create(model="gpt-4", messages=HELLO)
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError) as bad:
            await create(model="org/fake-model", messages=HELLO, temperature=-1)
        assert (bad.value.code, bad.value.param) == ("out_of_range", "temperature")
        with pytest.raises(openai.BadRequestError) as long:
            await create(model="org/fake-model", messages=HELLO, max_tokens=10**6)
        assert long.value.code == "context_length_exceeded"
        wrong = client.with_options(api_key="wrong")
        with pytest.raises(openai.AuthenticationError):
            await wrong.models.list()
        server.engine.refusal = Unavailable("The request queue is full.", code="queue_full")
        with pytest.raises(openai.InternalServerError) as busy:
            await create(model="org/fake-model", messages=HELLO)
        assert busy.value.code == "queue_full"
        assert busy.value.response.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    "failure",
    [ErrorInfo(message="boom", type="EngineError", code="boom"), RuntimeError("secret /path")],
)
async def test_a_failure_in_mid_stream_is_an_error_for_the_client(failure):
    engine = FakeEngine(fail_after=3, failure=failure)
    async with openai_client(engine) as (client, server):
        stream = await client.chat.completions.create(
            model="org/fake-model", messages=HELLO, stream=True
        )
        text = ""

        async def read_all():
            nonlocal text
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""

        with pytest.raises(openai.APIError) as caught:
            await read_all()
        assert text == ANSWER[:3]
        assert "secret" not in str(caught.value)
        body = {"messages": HELLO, "stream": True}
        events = await server.events("/v1/chat/completions", body)
    assert "error" in events[-1] and "[DONE]" not in events


async def test_a_refusal_of_a_stream_is_a_plain_error_reply():
    async with served() as server:
        body = {"messages": HELLO, "stream": True, "max_tokens": 10**6}
        reply = await server.post("/v1/chat/completions", body)
    assert_error(reply, 400, "context_length_exceeded")


async def test_unknown_fields_are_ignored_unless_strict():
    async with served() as server:
        body = {"messages": HELLO, "frobnicate": {"a": [1]}}
        assert (await server.post("/v1/chat/completions", body)).status_code == 200
        strict = await server.post("/v1/chat/completions", body, headers={"X-Ramify-Strict": "1"})
        assert_error(strict, 400, "unknown_field", "frobnicate")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("tool_choice", "required"),
        ("functions", [{}]),
        ("modalities", ["audio"]),
        ("chat_template", "{{ 1 }}"),
        ("chat_template_kwargs", {"tokenize": True}),
        ("lora_path", "x"),
    ],
)
async def test_what_would_change_the_answer_is_refused_by_name(field, value):
    async with served() as server:
        reply = await server.post("/v1/chat/completions", {"messages": HELLO, field: value})
    assert_error(reply, 400, "not_supported", field)


async def test_a_model_without_a_template_says_so():
    async with served(FakeEngine(chat_template=None)) as server:
        reply = await server.post("/v1/chat/completions", {"messages": HELLO})
    assert_error(reply, 400, "not_supported", "messages")
