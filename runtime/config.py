"""Every option of the engine and the server, defined once.

Command-line flags, `RAMIFY_*` environment variables, the docs' table and `/server_info` are made
from these fields: name, type, default and `help`. Nothing is rewritten in silence: a value or a
combination that cannot work is a `ConfigError` that says what to change.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from ramify.lang.errors import ConfigError

Policy = Literal["lpm", "fcfs", "lof", "dfs-weight", "random", "priority"]
DType = Literal["auto", "bfloat16", "float16", "float32"]
LoadFormat = Literal["auto", "safetensors", "gguf", "dummy"]
Device = Literal["auto", "cpu", "cuda"]

BUNDLED_MODEL = "smollm2-135m-instruct"


def option(default: Any, help: str, *, choices: tuple[str, ...] = ()) -> Any:
    """A config field with its one help text."""
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Options of an `Engine`. Sizes are in tokens unless the name says otherwise."""

    model: str = option(BUNDLED_MODEL, "model directory, GGUF file, or the bundled model's name")
    load_format: LoadFormat = option("auto", "where weights come from; dummy = seeded random")
    dtype: DType = option("auto", "weights and activations; auto = bfloat16")
    device: Device = option("auto", "where the model runs; auto = cuda if there is one")
    context_length: int | None = option(None, "longest prompt plus answer; default: the model's")
    max_running_requests: int = option(256, "sequences decoded together at most")
    max_prefill_tokens: int = option(16384, "token budget of one step, decode tokens included")
    chunked_prefill_size: int = option(2048, "longest prompt chunk in one step; -1 = off")
    max_total_tokens: int | None = option(None, "slots in the KV pool; default: from memory")
    mem_fraction_static: float = option(
        0.85, "share of GPU memory for weights and KV pool; on CPU, of 8 GiB or free RAM"
    )
    schedule_policy: Policy = option("lpm", "order of waiting requests")
    max_queued_requests: int = option(2048, "waiting requests; beyond: 503 queue_full")
    disable_radix_cache: bool = option(False, "compute every prompt from its first token")
    random_seed: int = option(0, "seeds requests that bring none, and dummy weights")
    num_threads: int | None = option(None, "CPU threads of the model; default: the machine's cores")

    def __post_init__(self) -> None:
        """Raise `ConfigError` for the first value out of range."""
        for spec in fields(self):
            choices = spec.metadata["choices"]
            value = getattr(self, spec.name)
            if choices and value not in choices:
                raise ConfigError(f"{spec.name}={value!r}: must be one of {', '.join(choices)}")
        for name in ("max_running_requests", "max_prefill_tokens", "max_queued_requests"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.chunked_prefill_size != -1 and self.chunked_prefill_size < 16:
            raise ConfigError(
                f"chunked_prefill_size={self.chunked_prefill_size}: must be -1 (off) or at least "
                "16; try 2048"
            )
        if not 0.0 < self.mem_fraction_static <= 1.0:
            raise ConfigError(f"mem_fraction_static={self.mem_fraction_static}: must be in (0, 1]")
