"""What all handlers share: the engine, the options, the metrics and the server's phase of life."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from aiohttp import web

from ramify.lang.errors import NotFound, Unavailable
from ramify.lang.protocol import (
    GenerateDelta,
    GenerateRequest,
    ModelInfo,
    ScoreRequest,
    ScoreResult,
)
from ramify.runtime.api.metrics import Metrics
from ramify.runtime.config import EngineConfig, ServerConfig
from ramify.runtime.core import EngineStats

if TYPE_CHECKING:
    from ramify.lang.chat import ChatTemplate

Phase = Literal["loading", "ready", "draining"]


class ServedEngine(Protocol):
    """The part of an `Engine` that the server uses."""

    @property
    def config(self) -> EngineConfig:
        """The options it runs with."""

    @property
    def phases(self) -> Sequence[tuple[str, float, str]]:
        """Steps of its start-up: name, seconds, detail."""

    @property
    def chat_template(self) -> "ChatTemplate | None":
        """The model's own template; None = it has none."""

    async def model_info(self) -> ModelInfo:
        """What it serves."""

    def async_generate(self, request: GenerateRequest) -> AsyncIterator[GenerateDelta]:
        """Deltas of all sequences; refusals raise on the first step; closing it aborts."""

    async def async_score(self, request: ScoreRequest) -> ScoreResult:
        """Log-probabilities of given continuations."""

    async def async_flush_cache(self) -> None:
        """Forget cached prefixes that nothing running uses."""

    async def abort(self, rid: str) -> int:
        """End the request of exactly this id; the number of sequences ended."""

    def check(self) -> None:
        """Raise `Unavailable`, with the reason, unless requests are taken."""

    def stats(self) -> EngineStats:
        """Gauges of this moment and counters since start."""

    def tokenize(self, text: str) -> list[int]:
        """Token ids of `text`."""

    def detokenize(self, token_ids: list[int]) -> str:
        """Text of token ids."""

    def token_text(self, token_id: int) -> str:
        """Text of one token, for log-probability replies."""

    async def async_close(self) -> None:
        """End what runs with `Aborted` and release everything."""


class Loaded(NamedTuple):
    """An engine that is ready, and what it serves."""

    engine: ServedEngine
    info: ModelInfo


@dataclass(slots=True, eq=False)
class ServerState:
    """One per application."""

    config: ServerConfig
    metrics: Metrics = field(default_factory=Metrics)
    started: float = field(default_factory=time.time)  # Unix time, for /metrics and /v1/models
    is_draining: bool = False
    num_open: int = 0  # requests being handled, probes not counted
    _idle: asyncio.Event = field(default_factory=asyncio.Event)  # set when num_open falls to 0
    _loaded: Loaded | None = None

    async def set_ready(self, engine: ServedEngine) -> None:
        """Start to answer requests with `engine`."""
        self._loaded = Loaded(engine, await engine.model_info())
        self.metrics.watch(engine.stats)

    @property
    def phase(self) -> Phase:
        """Where the server is in its life."""
        if self.is_draining:
            return "draining"
        return "loading" if self._loaded is None else "ready"

    @contextmanager
    def open_request(self) -> Iterator[None]:
        """Count a request as open while its handler runs."""
        self.num_open += 1
        try:
            yield
        finally:
            self.num_open -= 1
            if self.num_open == 0:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Return once no request is open."""
        while self.num_open:
            self._idle.clear()
            await self._idle.wait()

    def loaded(self) -> Loaded:
        """The engine, or `Unavailable` while it loads."""
        if self._loaded is None:
            raise Unavailable("the model is still loading; try again", code="loading")
        return self._loaded

    @property
    def model_name(self) -> str:
        """The name under which clients ask for the model."""
        return self.config.served_model_name or self.loaded().info.model

    def check_model(self, name: str | None) -> None:
        """Raise `NotFound` unless `name` is the served model; None means the served one."""
        if name is not None and name != self.model_name:
            raise NotFound(
                f"model {name[:200]!r} is not served here; the model is {self.model_name!r}",
                code="model_not_found",
                param="model",
            )


@dataclass(slots=True, eq=False)
class Trace:
    """What the access log says of one HTTP request."""

    request_id: str  # the X-Request-Id of its reply; chosen by the client, so never used as a key
    rids: list[str] = field(default_factory=list)  # the engine's ids of what it started
    names: dict[str, str] = field(default_factory=dict)  # fields of `Sampling` as it spells them
    outcome: str = "client_closed"  # how it ended, so long as nothing else ends it


STATE = web.AppKey("state", ServerState)
TRACE = web.RequestKey("trace", Trace)
