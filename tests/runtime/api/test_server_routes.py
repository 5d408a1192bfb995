"""Routes about the server itself."""

import asyncio
import re

from ramify.lang.errors import Unavailable
from ramify.lang.protocol import GenerateRequest, ModelInfo, text_prompt
from ramify.runtime.api.app import Runner, build_app
from ramify.runtime.api.state import ServerState
from ramify.runtime.config import ServerConfig
from tests.runtime.api.fake_engine import FakeEngine
from tests.runtime.api.serving import assert_error, served

# Dashboards and alerts are written against these: a name may be added, never changed.
METRICS = {
    "ramify:e2e_request_latency_seconds": "histogram",
    "ramify:generation_tokens_total": "counter",
    "ramify:http_requests_total": "counter",
    "ramify:inter_token_latency_seconds": "histogram",
    "ramify:kv_cache_usage_perc": "gauge",
    "ramify:forced_tokens_total": "counter",
    "ramify:grammar_cache_bytes": "gauge",
    "ramify:grammar_cache_hits_total": "counter",
    "ramify:grammar_compile_seconds": "histogram",
    "ramify:grammars_refused_total": "counter",
    "ramify:kv_leaked_tokens": "gauge",
    "ramify:num_aborted_requests_total": "counter",
    "ramify:num_failed_requests_total": "counter",
    "ramify:num_preemptions_total": "counter",
    "ramify:num_requests_running": "gauge",
    "ramify:num_requests_waiting": "gauge",
    "ramify:prefix_cache_hits_total": "counter",
    "ramify:prefix_cache_queries_total": "counter",
    "ramify:prompt_tokens_total": "counter",
    "ramify:request_queue_time_seconds": "histogram",
    "ramify:request_success_total": "counter",
    "ramify:time_to_first_token_seconds": "histogram",
    "ramify:worker_restarts_total": "counter",
}


async def test_metric_names_are_frozen():
    async with served() as server:
        await server.post("/generate", {"text": "abc", "sampling_params": {"n": 2}})
        reply = await server.client.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    found = dict(re.findall(r"^# TYPE (ramify:\S+) (\S+)$", reply.text, re.MULTILINE))
    found = {name: kind for name, kind in found.items() if not name.endswith("_created")}
    assert found == METRICS
    assert "process_start_time_seconds" in reply.text
    for line in (
        'ramify:request_success_total{finished_reason="stop"} 2.0',
        'ramify:http_requests_total{route="/generate",status="200"} 1.0',
        "ramify:time_to_first_token_seconds_count 2.0",
        "ramify:e2e_request_latency_seconds_count 2.0",
        "ramify:kv_cache_usage_perc 0.1",
        "ramify:kv_leaked_tokens 0.0",
    ):
        assert line in reply.text, line


async def test_each_application_has_its_own_registry():
    async with served() as one, served() as other:
        await one.post("/generate", {"text": "a"})
        assert "request_success_total{" in (await one.client.get("/metrics")).text
        assert "request_success_total{" not in (await other.client.get("/metrics")).text


async def test_model_info_is_the_struct_and_has_sglangs_names():
    async with served(served_model_name="mine") as server:
        reply = (await server.client.get("/get_model_info")).json()
        assert reply == (await server.client.get("/model_info")).json()
    assert set(ModelInfo.__struct_fields__) <= set(reply)
    assert (reply["model"], reply["model_path"]) == ("mine", "org/fake-model")
    assert reply["is_generation"] is True


async def test_server_info_shows_options_without_secrets():
    async with served(api_key="s3cret", admin_api_key="r00t") as server:
        reply = await server.client.get("/server_info", headers={"Authorization": "Bearer s3cret"})
    assert reply.json()["server"]["api_key"] == "***"
    assert reply.json()["engine"]["chunked_prefill_size"] == 2048
    assert reply.json()["stats"]["num_slots"] == 1000
    assert "s3cret" not in reply.text and "r00t" not in reply.text


async def test_tokenize_and_detokenize():
    async with served() as server:
        tokens = await server.post("/tokenize", {"prompt": "hé"})
        assert tokens.json() == {"tokens": [104, 195, 169], "count": 3, "max_model_len": 4096}
        text = await server.post("/detokenize", {"tokens": [104, 195, 169]})
        assert text.json()["text"] == "hé"


async def test_flush_cache_takes_an_empty_post():
    async with served() as server:
        assert (await server.client.post("/flush_cache")).is_success
        assert server.engine.num_flushed == 1


async def test_while_loading_only_the_probes_and_metrics_answer():
    state = ServerState(ServerConfig())
    runner = Runner(build_app(state))
    await runner.setup()
    port = await runner.listen("127.0.0.1", 0)
    import httpx

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        health = await client.get("/health")
        assert (health.status_code, health.json()) == (503, {"status": "loading"})
        assert (await client.get("/metrics")).status_code == 200
        for path in ("/v1/models", "/model_info"):
            assert_error(await client.get(path), 503, "loading")
        body = {"text": "a"}
        refused = await client.post("/generate", json=body)
        assert_error(refused, 503, "loading")
        assert refused.headers["retry-after"]
        await state.set_ready(FakeEngine())
        assert (await client.get("/health")).status_code == 200
        assert (await client.post("/generate", json=body)).status_code == 200
    await runner.cleanup()


async def test_health_says_why_the_engine_takes_no_requests():
    engine = FakeEngine(down=Unavailable("another is being started", code="engine_restarting"))
    async with served(engine) as server:
        for path in ("/health", "/ready"):
            reply = await server.client.get(path)
            assert reply.status_code == 503
            assert reply.json() == {
                "status": "engine_restarting",
                "message": "another is being started",
            }
        engine.down = None
        assert (await server.client.get("/health")).json() == {"status": "ready"}


async def test_draining_refuses_what_is_new_and_finishes_what_runs():
    engine = FakeEngine()
    engine.gate.clear()
    async with served(engine) as server:
        running = asyncio.create_task(server.post("/generate", {"text": "a"}))
        while not engine.requests:
            await asyncio.sleep(0.005)
        server.state.is_draining = True
        for path in ("/health", "/ready"):
            assert (await server.client.get(path)).status_code == 503
        assert_error(await server.post("/generate", {"text": "b"}), 503, "draining")
        assert (await server.client.get("/metrics")).status_code == 200
        idle = asyncio.create_task(server.state.wait_idle())
        await asyncio.sleep(0.01)
        assert not idle.done()
        engine.gate.set()
        assert (await running).json()["text"] == "[0] a"
        await idle


async def test_ramifys_own_route_streams_the_structs():
    request = GenerateRequest(rid="r", prompt=text_prompt("a"))
    async with served() as server:
        body = {"rid": "r", "prompt": [{"type": "text", "text": "a"}]}
        events = await server.events("/v1/ramify/generate", body)
        assert server.engine.requests == [request]
        unknown = {**body, "sampling": {"max_new_tokens": 5}}
        assert_error(
            await server.post("/v1/ramify/generate", unknown),
            400,
            "unknown_field",
            "sampling.max_new_tokens",
        )
    assert events[-1] == "[DONE]"
    assert "".join(event.get("text", "") for event in events[:-1]) == "[0] a"
    assert events[-2]["finish"] == {"type": "stop", "matched": 256}
