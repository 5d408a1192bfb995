"""The only door out of the interpreter: what every backend offers."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from ramify.lang.protocol import (
    GenerateDelta,
    GenerateRequest,
    ModelInfo,
    ScoreRequest,
    ScoreResult,
)


class Backend(ABC):
    """A place that continues and scores prompts. All methods are safe on any event loop."""

    @abstractmethod
    async def model_info(self) -> ModelInfo:
        """What is served here. Every run that uses roles asks; remember it if it is far."""

    @abstractmethod
    def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateDelta]:
        """Deltas of all sequences of `request`, interleaved, each ending with its final delta.

        A request refused as a whole raises a `RamifyError` from the first step of the iterator.
        Closing the iterator early aborts what still runs.
        """

    @abstractmethod
    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Log-probabilities of the given continuations. Cancelling it aborts the work."""

    @abstractmethod
    async def flush_cache(self) -> None:
        """Forget every cached prefix that no running request uses."""

    @abstractmethod
    async def close(self) -> None:
        """Release what the backend holds. Requests still running end with `Aborted`."""
