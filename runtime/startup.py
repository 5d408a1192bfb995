"""From options to an engine's parts, each phase timed: what was decided, and why.

The front is what every engine has in its own process: tokenizer, template, what is served. The
worker is a thread beside it or a process of its own; torch is imported where the worker is.
"""

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from ramify.lang.chat import ChatTemplate
from ramify.lang.errors import ConfigError
from ramify.lang.protocol import ModelInfo
from ramify.runtime.config import EngineConfig
from ramify.runtime.loader.resolve import ModelFiles, resolve_model
from ramify.runtime.models.config import ModelConfig
from ramify.runtime.tokenizer.tokenizer import Tokenizer, load_tokenizer
from ramify.runtime.worker import Sink, Worker


class Phase(NamedTuple):
    """One step of the start-up."""

    name: str
    seconds: float
    detail: str


class Clock:
    """Collects the phases, and tells each when it is over; its `detail` is set inside it."""

    def __init__(self, tell: Callable[[Phase], None] | None = None) -> None:
        self.phases: list[Phase] = []
        self.detail = ""
        self._tell = tell

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        started, self.detail = time.perf_counter(), ""
        yield
        self.phases.append(Phase(name, time.perf_counter() - started, self.detail))
        if self._tell is not None:
            self._tell(self.phases[-1])


class Front(NamedTuple):
    """What both the engine and its worker know of the model."""

    files: ModelFiles
    tokenizer: Tokenizer
    context_length: int

    def info(self) -> ModelInfo:
        """What is served."""
        return ModelInfo(
            model=self.files.name,
            context_length=self.context_length,
            vocab_size=self.files.config.vocab_size,
            eos_token_ids=self.tokenizer.eos_token_ids,
            chat_template=self.tokenizer.chat_template,
            special_tokens=self.tokenizer.special_tokens,
        )

    def chat_template(self) -> ChatTemplate | None:
        """The model's own template."""
        source = self.tokenizer.chat_template
        return None if source is None else ChatTemplate(source, self.tokenizer.special_tokens)


class Parts(NamedTuple):
    """What an engine is made of."""

    worker: Worker
    front: Front
    phases: tuple[Phase, ...]


def start(config: EngineConfig, sink: Sink) -> Parts:
    """Load everything `config` names and start the worker; `LoadError` or `ConfigError` if not."""
    if uses_process(config):
        return _start_process(config, sink)
    from ramify.runtime.build import build_worker  # torch

    clock = Clock()
    front = load_front(config, clock)
    worker = build_worker(config, front, sink, clock)
    return Parts(worker, front, tuple(clock.phases))


def _start_process(config: EngineConfig, sink: Sink) -> Parts:
    """The process loads what it needs while this one loads the front."""
    from ramify.runtime.process_worker import ProcessWorker  # ZeroMQ

    clock = Clock()
    worker = ProcessWorker(config, sink)
    try:
        front = load_front(config, clock)
        phases = worker.wait_ready()
    except BaseException:
        worker.close()
        raise
    return Parts(worker, front, (*clock.phases, *phases))


def load_front(config: EngineConfig, clock: Clock) -> Front:
    """Find the model and load its tokenizer."""
    with clock.phase("model"):
        files = resolve_model(config.model, config.load_format, seed=config.random_seed)
        context_length = _context_length(config, files.config)
        clock.detail = f"{files.name} from {files.directory}"
    with clock.phase("tokenizer"):
        tokenizer = load_tokenizer(files.directory, files.config)
        clock.detail = f"{tokenizer.vocab_size:,} tokens"
    return Front(files, tokenizer, context_length)


def uses_process(config: EngineConfig) -> bool:
    """Is the worker a process? By default where the model runs on a GPU."""
    if config.worker != "auto":
        return config.worker == "process"
    return config.device != "cpu" and has_gpu()


def has_gpu() -> bool:
    """Does NVIDIA's driver show a device? Asked without torch, which takes seconds to import."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int(0)
    return (
        driver.cuInit(0) == 0
        and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
        and count.value > 0
    )


def _context_length(config: EngineConfig, model: ModelConfig) -> int:
    longest = model.max_position_embeddings
    if config.context_length is None:
        return longest
    if not 1 < config.context_length <= longest:
        raise ConfigError(
            f"context_length={config.context_length}: must be between 2 and {longest}, what the "
            "model was trained for"
        )
    return config.context_length
