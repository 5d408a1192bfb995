"""The life of a server process: start, drain, stop."""

import asyncio
import os
import re
import signal
import sys
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.runtime.api.serving import assert_error

SCRIPT = """
import os, sys, time
from ramify.lang.errors import ConfigError, LoadError
from ramify.runtime.api.launch import serve
from ramify.runtime.config import EngineConfig, ServerConfig
from tests.runtime.api.fake_engine import FakeEngine

def make(config):
    time.sleep(float(os.environ.get("LOAD_S", 0)))
    if "FAIL" in os.environ:
        raise LoadError("no such model")
    return FakeEngine(delay=float(os.environ.get("DELAY", 0)))

config = EngineConfig()
if model := os.environ.get("MODEL"):
    config = EngineConfig(model=model, worker="process", dtype="float32", max_total_tokens=2048)
    make = None
try:
    code = serve(
        config,
        ServerConfig(port=int(os.environ.get("PORT", 0)), drain_timeout=float(sys.argv[1])),
        make,
    )
except (ConfigError, LoadError) as error:
    print(error)
    code = 1
sys.exit(code)
"""


class Process:
    def __init__(self, process):
        self.process = process
        self.lines: list[str] = []

    async def line(self, start: str) -> str:
        async with asyncio.timeout(30):
            while True:
                raw = await self.process.stdout.readline()
                assert raw, self.lines
                self.lines.append(raw.decode().rstrip())
                if self.lines[-1].startswith(start):
                    return self.lines[-1]

    async def url(self) -> str:
        line = await self.line("[")
        return next(word for word in line.split() if word.startswith("http://"))

    async def exit_code(self) -> int:
        async with asyncio.timeout(30):
            return await self.process.wait()


@asynccontextmanager
async def launched(drain_timeout=20.0, **env):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, str(drain_timeout)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": ".", **{k: str(v) for k, v in env.items()}},
    )
    try:
        yield Process(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_start_says_where_it_listens_and_a_signal_ends_it(number):
    async with launched() as server:
        url = await server.url()
        ready = await server.line("Ready in")
        assert url in ready and "org/fake-model" in ready and "4,096" in ready
        curl = await server.line("try: curl")
        assert f"{url}/generate" in curl
        server.process.send_signal(number)
        assert await server.exit_code() == 0


async def test_health_is_503_while_loading_and_a_signal_ends_that_too():
    async with launched(LOAD_S=60) as server, httpx.AsyncClient() as client:
        health = await client.get(await server.url() + "/health")
        assert (health.status_code, health.json()["status"]) == (503, "loading")
        server.process.terminate()
        assert await server.exit_code() == 0


async def test_what_runs_is_finished_and_what_is_new_refused():
    async with launched(DELAY=0.05) as server:
        url = await server.url()
        await server.line("Ready in")
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            body = {"text": "a" * 20, "sampling_params": {"max_new_tokens": 24}}
            running = asyncio.create_task(client.post("/generate", json=body))
            await is_running(client)
            server.process.terminate()
            await server.line("draining: 1 requests")
            assert (await client.get("/health")).json() == {"status": "draining"}
            assert_error(await client.post("/generate", json=body), 503, "draining")
            assert (await running).json()["text"] == "[0] " + "a" * 20
        assert await server.exit_code() == 0


async def test_what_still_runs_at_the_limit_gets_an_error():
    async with launched(drain_timeout=0.2, DELAY=0.2) as server:
        url = await server.url()
        await server.line("Ready in")
        async with httpx.AsyncClient(base_url=url, timeout=20) as client:
            body = {"prompt": "a" * 400, "max_tokens": 400}
            whole = asyncio.create_task(client.post("/v1/completions", json=body))
            stream = asyncio.create_task(
                client.post("/v1/completions", json=body | {"stream": True})
            )
            await is_running(client, 2)
            server.process.terminate()
            assert_error(await whole, 503, "draining")
            assert '"code":"draining"' in (await stream).text
            assert "[DONE]" not in (await stream).text
        assert await server.exit_code() == 0


async def test_a_second_signal_ends_it_at_once():
    async with launched(drain_timeout=1000, DELAY=10) as server:
        url = await server.url()
        await server.line("Ready in")
        async with httpx.AsyncClient(base_url=url) as client:
            task = asyncio.create_task(client.post("/generate", json={"text": "a"}))
            await is_running(client)
            server.process.terminate()
            await server.line("draining")
            server.process.terminate()
            assert await server.exit_code() == 130
            with pytest.raises(httpx.HTTPError):
                await task


async def test_a_taken_port_and_a_failed_load_are_one_line():
    async with launched() as first:
        port = (await first.url()).rpartition(":")[2]
        async with launched(PORT=port) as second:
            line = await second.line("cannot listen")
            assert f"127.0.0.1:{port}" in line and "--port" in line
            assert await second.exit_code() == 1
    async with launched(FAIL=1) as failed:
        await failed.line("no such model")
        assert await failed.exit_code() == 1


async def test_a_worker_process_that_dies_is_replaced_and_ends_with_the_server(tiny_model_dir):
    async with launched(MODEL=tiny_model_dir("llama")) as server:
        url = await server.url()
        await server.line("Ready in")
        pid = next(int(line.split()[-1]) for line in server.lines if "worker process" in line)
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            params = {"max_new_tokens": 400, "ignore_eos": True, "n": 16}  # runs for seconds
            body = {"text": "a", "sampling_params": params}
            running = asyncio.create_task(client.post("/generate", json=body))
            await is_running(client)
            os.kill(pid, signal.SIGKILL)
            assert_error(await running, 500, "worker_died")
            health = await client.get("/health")
            assert (health.status_code, health.json()["status"]) == (503, "engine_restarting")
            refused = await client.post("/generate", json=body)
            assert_error(refused, 503, "engine_restarting")
            assert "retry-after" in refused.headers
            async with asyncio.timeout(60):
                while (await client.get("/health")).status_code != 200:
                    await asyncio.sleep(0.05)
            assert "ramify:worker_restarts_total 1.0" in (await client.get("/metrics")).text
            running = asyncio.create_task(client.post("/generate", json=body))
            await is_running(client)
            server.process.terminate()
            answers = (await running).json()
            assert [one["meta_info"]["completion_tokens"] for one in answers] == [400] * 16
        assert await server.exit_code() == 0


async def is_running(client: httpx.AsyncClient, count: int = 1) -> None:
    """Wait until at least `count` sequences run."""
    gauge = re.compile(r"^ramify:num_requests_running (\S+)$", re.MULTILINE)
    async with asyncio.timeout(60):
        while float(gauge.search((await client.get("/metrics")).text)[1]) < count:
            await asyncio.sleep(0.01)
