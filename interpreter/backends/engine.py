"""A local `Engine` as a backend: the runtime in this process. Import it late; it loads torch."""

import os
from collections.abc import AsyncIterator
from typing import Any

from ramify.interpreter.backends.base import Backend
from ramify.interpreter.loop import io_loop
from ramify.lang.protocol import (
    GenerateDelta,
    GenerateRequest,
    ModelInfo,
    ScoreRequest,
    ScoreResult,
)
from ramify.runtime.config import EngineConfig
from ramify.runtime.engine import Engine
from ramify.runtime.options import resolve


class EngineBackend(Backend):
    """Passes every call on to an engine that its caller owns."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def model_info(self) -> ModelInfo:
        """What the engine serves."""
        return await self.engine.model_info()

    def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateDelta]:
        """Deltas of the engine."""
        return self.engine.async_generate(request)

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Log-probabilities of the given continuations."""
        return await self.engine.async_score(request)

    async def flush_cache(self) -> None:
        """Forget every cached prefix that no running request uses."""
        await self.engine.async_flush_cache()

    async def close(self) -> None:
        """Close the engine."""
        await self.engine.async_close()


class Runtime(EngineBackend):
    """An engine made for being a backend: `set_default_backend(Runtime(model_path))`.

    Takes the arguments of `Engine`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(Engine(*args, **options))

    def shutdown(self) -> None:
        """Close the engine; what still runs ends with `Aborted`."""
        io_loop().submit(self.close()).result()


def engine_from_env() -> Runtime:
    """An engine whose options are those that `RAMIFY_*` variables set."""
    return Runtime(config=resolve(EngineConfig, {}, os.environ).config)
