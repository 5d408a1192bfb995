"""From a loaded front to a running worker: weights, KV pool, scheduler. Imports torch."""

import os
from functools import partial

import torch

from ramify.lang.errors import ConfigError
from ramify.runtime.cache.kv_pool import KVPool, kv_bytes_per_slot
from ramify.runtime.cache.radix_tree import RadixTree
from ramify.runtime.cache.slot_pool import SlotPool
from ramify.runtime.config import EngineConfig
from ramify.runtime.constraint import GrammarCache, vocabulary_of
from ramify.runtime.executor.executor import Executor
from ramify.runtime.guide import Guide, forcing_of
from ramify.runtime.loader.resolve import ModelFiles
from ramify.runtime.loader.weights import iterate_weights
from ramify.runtime.models.llama import LlamaModel, load_model
from ramify.runtime.scheduler.scheduler import Scheduler
from ramify.runtime.startup import Clock, Front
from ramify.runtime.step_loop import OverlapLoop, PlainLoop, StepLoop
from ramify.runtime.thread_worker import ThreadWorker
from ramify.runtime.worker import Sink

CPU_MEMORY = 4 << 30  # bytes the KV pool may take on a CPU at most, before mem_fraction_static
MIN_SLOTS = 16


def build_worker(config: EngineConfig, front: Front, sink: Sink, clock: Clock) -> ThreadWorker:
    """Load the weights and start a worker in this process; `LoadError` or `ConfigError` if not."""
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    files, tokenizer, context_length = front
    with clock.phase("weights"):
        model = _load(config, files, context_length)
        clock.detail = f"{str(model.dtype).removeprefix('torch.')} on {model.device}"
    with clock.phase("kv pool"):
        kv_pool = _make_kv_pool(config, model, context_length)
        clock.detail = f"{kv_pool.num_slots:,} slots, {kv_pool.num_bytes / 2**20:,.0f} MiB"
    slots = SlotPool(kv_pool.num_slots)
    scheduler = Scheduler(
        config,
        slots,
        RadixTree(slots),
        context_length=context_length,
        guide=partial(Guide, forcing=forcing_of(tokenizer)),
    )
    with clock.phase("executor"):
        loop = _make_loop(config, scheduler, model, kv_pool)
        clock.detail = type(loop).__name__
    return ThreadWorker(scheduler, loop, GrammarCache(partial(vocabulary_of, tokenizer)), sink)


def _load(config: EngineConfig, files: ModelFiles, context_length: int) -> LlamaModel:
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda': torch sees no CUDA device here; use auto or cpu")
    dtype = torch.bfloat16 if config.dtype == "auto" else getattr(torch, config.dtype)
    return load_model(
        files.config,
        iterate_weights(files, device),
        dtype,
        device,
        context_length,
        config.num_threads,
    )


def _make_loop(
    config: EngineConfig, scheduler: Scheduler, model: LlamaModel, kv_pool: KVPool
) -> StepLoop:
    if model.device.type == "cpu":
        return PlainLoop(scheduler, Executor(model, kv_pool))
    from ramify.runtime.executor.gpu_executor import GPUExecutor  # imports Triton

    executor = GPUExecutor(model, kv_pool, max_requests=config.max_running_requests)
    kind = PlainLoop if config.disable_overlap_schedule else OverlapLoop
    return kind(scheduler, executor)


def _make_kv_pool(config: EngineConfig, model: LlamaModel, context_length: int) -> KVPool:
    shape = model.config
    per_slot = kv_bytes_per_slot(shape.num_layers, shape.num_kv_heads, shape.head_dim, model.dtype)
    num_slots = config.max_total_tokens
    if num_slots is None:
        budget = _memory_budget(config, model)
        # More than every request at full length could never be used.
        num_slots = min(budget // per_slot, config.max_running_requests * context_length)
        if num_slots < MIN_SLOTS:
            raise ConfigError(
                f"mem_fraction_static={config.mem_fraction_static} leaves "
                f"{budget / 2**20:,.0f} MiB for the KV pool, and a slot takes {per_slot:,} bytes: "
                "raise the fraction, free memory, or serve a smaller model"
            )
    return KVPool(
        num_layers=shape.num_layers,
        num_slots=num_slots,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        dtype=model.dtype,
        device=model.device,
    )


def _memory_budget(config: EngineConfig, model: LlamaModel) -> int:
    """Bytes the KV pool may take, with the weights already loaded."""
    if model.device.type == "cuda":
        free, total = torch.cuda.mem_get_info()
        return max(0, int(free - (1.0 - config.mem_fraction_static) * total))
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(min(CPU_MEMORY, free) * config.mem_fraction_static)
