"""Every option of the engine and the server, defined once.

Command-line flags, `RAMIFY_*` environment variables, the docs' table and `/server_info` are made
from these fields: name, type, default and `help`. Nothing is rewritten in silence: a value or a
combination that cannot work is a `ConfigError` that says what to change.
"""
# ruff: noqa: RUF009 -- option() makes a dataclass field

from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ramify.lang.errors import ConfigError

Policy = Literal["lpm", "fcfs", "lof", "dfs-weight", "random", "priority"]
DType = Literal["auto", "bfloat16", "float16", "float32"]
LoadFormat = Literal["auto", "safetensors", "gguf", "dummy"]
Device = Literal["auto", "cpu", "cuda"]
WorkerKind = Literal["auto", "thread", "process"]

MIN_WATCHDOG_S = 3.0  # a worker process says once a second that it lives
BUNDLED_MODEL = "smollm2-135m-instruct"


def option(default: Any, help: str, *, secret: bool = False) -> Any:
    """A config field with its one help text; a secret one is never shown."""
    return field(default=default, repr=not secret, metadata={"help": help, "secret": secret})


def choices_of(config_class: type, name: str) -> tuple[str, ...]:
    """The allowed values of a `Literal` option; empty where any value of its type will do."""
    hint = get_type_hints(config_class)[name]
    return get_args(hint) if get_origin(hint) is Literal else ()


def _check_types(config: Any) -> None:
    hints = get_type_hints(type(config))
    for spec in fields(config):
        choices = choices_of(type(config), spec.name)
        value = getattr(config, spec.name)
        if choices and value not in choices:
            raise ConfigError(f"{spec.name}={value!r}: must be one of {', '.join(choices)}")
        kinds = () if choices else get_args(hints[spec.name]) or (hints[spec.name],)
        if float in kinds:
            kinds = (*kinds, int)
        if kinds and type(value) not in kinds:
            allowed = " or ".join(kind.__name__ for kind in kinds)
            raise ConfigError(
                f"{spec.name}={value!r}: must be {allowed.replace('NoneType', 'None')}"
            )


def _check_at_least_one(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name}={value}: must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Options of an `Engine`. Sizes are in tokens unless the name says otherwise."""

    model: str = option(BUNDLED_MODEL, "model directory, GGUF file, or the bundled model's name")
    load_format: LoadFormat = option("auto", "where weights come from; dummy = seeded random")
    dtype: DType = option("auto", "weights and activations; auto = bfloat16")
    device: Device = option("auto", "where the model runs; auto = cuda if there is one")
    worker: WorkerKind = option(
        "auto",
        "what runs the model's steps: a process of its own, or a thread; auto = a process on a GPU",
    )
    context_length: int | None = option(None, "longest prompt plus answer; default: the model's")
    max_running_requests: int = option(256, "sequences decoded together at most")
    max_prefill_tokens: int = option(16384, "token budget of one step, decode tokens included")
    chunked_prefill_size: int = option(2048, "longest prompt chunk in one step; -1 = off")
    max_total_tokens: int | None = option(None, "slots in the KV pool; default: from memory")
    mem_fraction_static: float = option(
        0.85, "share of GPU memory for weights and KV pool; on CPU, of 4 GiB or the free RAM"
    )
    schedule_policy: Policy = option("lpm", "order of waiting requests")
    max_queued_requests: int = option(2048, "waiting requests; beyond: 503 queue_full")
    disable_radix_cache: bool = option(False, "compute every prompt from its first token")
    disable_overlap_schedule: bool = option(
        False, "on a GPU, plan each step only once the one before it is done"
    )
    disable_jump_forward: bool = option(False, "decode tokens one by one that a grammar forces")
    watchdog_timeout: float = option(
        300.0,
        "seconds a worker process may be at one step; then it counts as hung: killed, restarted",
    )
    random_seed: int = option(0, "seeds requests that bring none, and dummy weights")
    num_threads: int | None = option(None, "CPU threads of the model; default: the machine's cores")

    def __post_init__(self) -> None:
        """Raise `ConfigError` for the first value out of range."""
        _check_types(self)
        _check_at_least_one(
            self,
            *("max_running_requests", "max_prefill_tokens", "max_queued_requests"),
            *("context_length", "max_total_tokens", "num_threads"),
        )
        if not -(2**63) <= self.random_seed < 2**63:
            raise ConfigError(f"random_seed={self.random_seed}: must be a signed 64-bit integer")
        if self.chunked_prefill_size != -1 and self.chunked_prefill_size < 16:
            raise ConfigError(
                f"chunked_prefill_size={self.chunked_prefill_size}: must be -1 (off) or at least "
                "16; try 2048"
            )
        if not self.watchdog_timeout >= MIN_WATCHDOG_S:
            raise ConfigError(
                f"watchdog_timeout={self.watchdog_timeout}: must be at least {MIN_WATCHDOG_S:g} "
                "seconds; the first step of a kind compiles kernels, which takes long: try 300"
            )
        if not 0.0 < self.mem_fraction_static <= 1.0:
            raise ConfigError(f"mem_fraction_static={self.mem_fraction_static}: must be in (0, 1]")


LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Options of the HTTP server around an `Engine`."""

    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0 = every interface")
    port: int = option(30000, "port to listen on; 0 = any free one")
    served_model_name: str | None = option(None, "name clients use; default: the model's own")
    api_key: str | None = option(None, "key that every request must bring", secret=True)
    admin_api_key: str | None = option(
        None, "key for admin calls such as /flush_cache; default: the api key", secret=True
    )
    allowed_hosts: str | None = option(
        None,
        "comma-separated Host names to answer to; default: any, or on a loopback address only "
        "loopback names",
    )
    max_body_mib: int = option(32, "largest request body, in MiB")
    request_timeout: float | None = option(
        None, "seconds from acceptance to the last token, for requests that bring no timeout"
    )
    client_stall_timeout: float = option(
        60.0, "seconds a client may leave its stream unread before its request is aborted"
    )
    drain_timeout: float = option(30.0, "seconds that running requests may go on after SIGTERM")
    log_level: LogLevel = option("info", "least severe log lines to print")

    def __post_init__(self) -> None:
        """Raise `ConfigError` for the first value out of range."""
        _check_types(self)
        _check_at_least_one(self, "max_body_mib")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port={self.port}: must be between 0 (any free port) and 65535")
        if not 0.0 <= self.drain_timeout < float("inf"):
            raise ConfigError(f"drain_timeout={self.drain_timeout}: must be >= 0 seconds")
        for name in ("request_timeout", "client_stall_timeout"):
            value = getattr(self, name)
            if value is not None and not 0.0 < value < float("inf"):
                raise ConfigError(f"{name}={value}: must be more than 0 seconds")
        for name in ("api_key", "admin_api_key", "served_model_name"):
            if getattr(self, name) == "":
                raise ConfigError(f"{name} is empty: leave it out or give a value")
