"""A real server on a loopback port around a fake engine, in the test's own event loop."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import NamedTuple

import httpx

from ramify.runtime.api.app import Runner, build_app
from ramify.runtime.api.state import ServerState
from ramify.runtime.config import ServerConfig
from ramify.runtime.engine import Engine
from tests.runtime.api.fake_engine import FakeEngine


class Served(NamedTuple):
    url: str
    engine: FakeEngine
    state: ServerState
    client: httpx.AsyncClient

    async def post(self, path: str, body: object, **kwargs) -> httpx.Response:
        return await self.client.post(path, json=body, **kwargs)

    async def events(self, path: str, body: object) -> list[object]:
        """All events of a stream, decoded; "[DONE]" as it is."""
        response = await self.post(path, body)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        return parse_events(response.text)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def parse_events(text: str) -> list[object]:
    found = []
    for block in text.split("\n\n"):
        if block and not block.startswith(":"):
            assert block.startswith("data: ") and "\n" not in block, block
            raw = block.removeprefix("data: ")
            found.append(raw if raw == "[DONE]" else json.loads(raw))
    return found


@asynccontextmanager
async def served(engine: object | None = None, **options) -> AsyncIterator[Served]:
    engine = engine or FakeEngine()
    state = ServerState(ServerConfig(**options))
    runner = Runner(build_app(state))
    await runner.setup()
    port = await runner.listen("127.0.0.1", 0)
    await state.set_ready(engine)
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as client:
            yield Served(url, engine, state, client)
    finally:
        await runner.cleanup()


async def eventually(condition: Callable[[], bool]) -> None:
    """Return once `condition()` holds; fails after a minute, of which a busy machine takes many."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def nothing_is_left(engine: Engine) -> None:
    """Wait until no request is live (an abort may still be on its way), then count the slots."""
    await eventually(lambda: not engine.stats().num_running + engine.stats().num_waiting)
    await engine.async_flush_cache()
    stats = engine.stats()
    assert stats.num_leaked_slots == stats.num_running == stats.num_waiting == 0
    assert stats.num_free_slots == stats.num_slots


def assert_error(response: httpx.Response, status: int, code: str, param: str | None = None):
    """The one error shape, small, with an id and nothing of the machine in it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/json")
    assert response.headers["x-request-id"]
    assert len(response.content) <= 2048
    error = response.json()["error"]
    assert set(error) - {"pointer", "offset"} == {"message", "type", "param", "code"}
    assert error["code"] == code, error
    if param is not None:
        assert error["param"] == param, error
    assert "Traceback" not in error["message"] and "0x" not in error["message"]
    assert "/site-packages/" not in error["message"]
    return error["message"]


@contextmanager
def served_in_thread(engine: object, **options) -> Iterator[str]:
    """The URL of a server in a thread of its own, for tests that are not coroutines."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = served(engine, **options)
    try:
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(30).url
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
