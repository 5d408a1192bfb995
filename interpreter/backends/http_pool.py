"""HTTP connections that stay cheap when a thousand programs run at once.

One `httpx.AsyncClient` walks all its connections at every request, idle ones several times over:
with hundreds of them it spends seconds on that alone. So each connection here is a client of its
own, and a request takes whichever was used last.
"""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

import httpx

MAX_CONNECTIONS = 256  # per event loop; requests beyond wait their turn
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class HttpPool:
    """Clients for one server, safe on any number of event loops: a connection belongs to one."""

    def __init__(self, base_url: str, headers: Mapping[str, str]) -> None:
        url = httpx.URL(base_url)
        self._headers = dict(headers)
        self._verify = ssl.create_default_context() if url.scheme == "https" else False
        self._trust_env = url.host not in _LOOPBACK  # no proxy on the way to this machine
        self._lock = threading.Lock()
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopPool] = WeakKeyDictionary()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client for one request at a time, on the running loop."""
        with self._lock:
            pool = self._loops.setdefault(asyncio.get_running_loop(), _LoopPool())
        async with pool.turns:
            client = pool.idle.pop() if pool.idle else self._make()
            pool.open.add(client)
            try:
                yield client
            except (asyncio.CancelledError, GeneratorExit):
                # A request that was cut off can leave the client's one connection taken for good:
                # whoever came next would wait for it for ever.
                pool.open.discard(client)
                await client.aclose()
                raise
            finally:
                if not client.is_closed:
                    pool.idle.append(client)

    async def close(self) -> None:
        """Close every connection of every loop that still runs."""
        with self._lock:
            pools = list(self._loops.items())
            self._loops.clear()
        for loop, pool in pools:
            if loop is asyncio.get_running_loop():
                await pool.close()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(pool.close(), loop))

    def _make(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=self._headers,
            verify=self._verify,
            trust_env=self._trust_env,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
        )


class _LoopPool:
    """What belongs to one event loop."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(MAX_CONNECTIONS)
        self.idle: list[httpx.AsyncClient] = []
        self.open: set[httpx.AsyncClient] = set()

    async def close(self) -> None:
        for client in tuple(self.open):  # it changes while one is closed
            await client.aclose()
