"""The life of a server: listen, load, serve, drain, stop.

It listens before the model is loaded, so that `/health` says 503 from the first second. SIGTERM or
SIGINT drains: no new requests, running ones go on for at most `drain_timeout`. A second signal
ends the process at once.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable

from ramify.lang.errors import ConfigError
from ramify.runtime import garbage
from ramify.runtime.api.app import Runner, build_app
from ramify.runtime.api.state import ServedEngine, ServerState
from ramify.runtime.config import EngineConfig, ServerConfig

EngineFactory = Callable[[EngineConfig], ServedEngine]
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
FORCED_EXIT = 130


def serve(
    engine_config: EngineConfig,
    server_config: ServerConfig,
    make_engine: EngineFactory | None = None,
) -> int:
    """Serve until a signal ends it; the exit code. Raises `RamifyError` if it cannot start."""
    logging.basicConfig(
        level=server_config.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    return asyncio.run(_serve(engine_config, server_config, make_engine or _load_engine))


async def _serve(
    engine_config: EngineConfig, config: ServerConfig, make_engine: EngineFactory
) -> int:
    started = time.monotonic()
    stopping = asyncio.Event()
    _watch_signals(stopping)
    state = ServerState(config)
    runner = Runner(build_app(state))
    await runner.setup()
    engine: ServedEngine | None = None
    try:
        url = await _listen(runner, config)
        _say(f"[{time.monotonic() - started:5.1f}s] listening on {url} (503 until ready)")
        engine = await _load(make_engine, engine_config, stopping)
        for name, seconds, detail in engine.phases:
            _say(f"[{seconds:5.1f}s] {name} {detail}")
        await state.set_ready(engine)
        _say(_ready_line(state, engine, url, time.monotonic() - started))
        await stopping.wait()
        await _drain(state)
    finally:
        if engine is not None:
            await engine.async_close()
        await runner.cleanup()
    return 0


async def _load(
    make_engine: EngineFactory, engine_config: EngineConfig, stopping: asyncio.Event
) -> ServedEngine:
    """The engine, made in a thread while `/health` answers; a signal ends the process meanwhile."""
    loading = asyncio.ensure_future(asyncio.to_thread(make_engine, engine_config))
    stopped = asyncio.ensure_future(stopping.wait())
    await asyncio.wait((loading, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not loading.done():
        _say("stopped while loading")
        os._exit(
            0
        )  # nothing was accepted yet, and a thread in the midst of loading cannot be ended
    stopped.cancel()
    return loading.result()


def _load_engine(config: EngineConfig) -> ServedEngine:
    from ramify.runtime.engine import Engine  # torch: only when a server really starts

    engine = Engine(config=config)
    garbage.settle(engine.stats)
    return engine


async def _listen(runner: Runner, config: ServerConfig) -> str:
    """Open the port; the URL to reach it from this machine."""
    try:
        port = await runner.listen(config.host, config.port)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {config.host}:{config.port}: {error.strerror or error}; choose "
            "another --port or --host"
        ) from None
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.host, config.host)
    return f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{port}"


async def _drain(state: ServerState) -> None:
    """Take nothing new; wait for what runs, as long as the options allow."""
    state.is_draining = True
    limit = state.config.drain_timeout
    _say(f"draining: {state.num_open} requests running, at most {limit:g} s")
    try:
        async with asyncio.timeout(limit):
            await state.wait_idle()
    except TimeoutError:
        _say(f"{state.num_open} requests still running after {limit:g} s: aborting them")


def _ready_line(state: ServerState, engine: ServedEngine, url: str, seconds: float) -> str:
    info = state.loaded().info
    stats = engine.stats()
    return (
        f"Ready in {seconds:.1f} s: {url}   model {state.model_name}   "
        f"context {info.context_length:,}   kv pool {stats.num_slots:,} tokens\n"
        f"try: curl {url}/generate -H 'Content-Type: application/json' "
        """-d '{"text": "The capital of France is", "sampling_params": {"max_new_tokens": 16}}'"""
    )


def _watch_signals(stopping: asyncio.Event) -> None:
    """Set `stopping` at the first signal; end the process at the second."""

    def on_signal() -> None:
        if stopping.is_set():
            os._exit(FORCED_EXIT)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
