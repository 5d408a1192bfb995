"""The whole model on one GPU: correctness first, then every workload of the targets.

    python -m benchmarks.gpu.serve --out DIR [--shapes 8B 0.6B] [--only single nano ...]
    python -m benchmarks.gpu.serve --loop       # the loop's checks alone: loop_checks.py

Random bf16 weights, greedy, token ids in, `ignore_eos`, an empty cache before each run; two runs
of each workload, the better one counts. Correctness: logits of a prompt and of decode steps beside
transformers on the same device, both held against float32; then equal tokens with shared items and
without, with CUDA graphs and without. Prints one table, with the share of the limit; saves JSON.
`--smoke` runs tiny shapes on any machine, so that nothing but the numbers is left to the GPU.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.gpu.loop_checks import check_loop
from benchmarks.gpu.profile import profile_steps
from benchmarks.gpu.workloads import SHAPES, WORKLOADS, Ask
from benchmarks.kernels.measure import environment
from ramify.grammars.matcher import TokenGrammar
from ramify.lang.protocol import LogprobOptions, Sampling
from ramify.runtime.cache.kv_pool import KVPool, kv_bytes_per_slot
from ramify.runtime.cache.radix_tree import RadixTree
from ramify.runtime.cache.slot_pool import SlotPool
from ramify.runtime.config import EngineConfig
from ramify.runtime.core import TokenRequest
from ramify.runtime.executor.gpu_executor import GPUExecutor
from ramify.runtime.guide import Guide
from ramify.runtime.loader.resolve import ModelFiles
from ramify.runtime.loader.weights import iterate_weights
from ramify.runtime.models.config import load_model_config
from ramify.runtime.models.llama import LlamaModel, load_model
from ramify.runtime.scheduler.scheduler import Scheduler
from ramify.runtime.step_loop import OverlapLoop, PlainLoop

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPE = torch.bfloat16 if torch.cuda.is_available() else torch.float32
MAX_RUNNING = 512


class Core:
    """Scheduler and executor, stepped by hand."""

    def __init__(
        self,
        model: LlamaModel,
        kv_pool: KVPool,
        loop: type = OverlapLoop,
        keep_gaps: bool = False,
        **options: Any,
    ) -> None:
        self.loop = loop
        self.guide: Callable[[TokenGrammar, int], Guide] = Guide
        self.keep_gaps = keep_gaps
        self.gaps: dict[int, list[float]] = defaultdict(list)  # of the two likeliest, by request
        self.executor = GPUExecutor(model, kv_pool, max_requests=MAX_RUNNING, **options)
        self.num_slots = kv_pool.num_slots
        self.context = model.config.max_position_embeddings
        self.reset()

    def reset(self) -> None:
        """An empty cache."""
        pool = SlotPool(self.num_slots)
        config = EngineConfig(
            max_running_requests=MAX_RUNNING, max_prefill_tokens=16384, chunked_prefill_size=8192
        )
        self.scheduler = Scheduler(
            config, pool, RadixTree(pool), context_length=self.context, guide=self.guide
        )

    def add(self, asks: Sequence[Ask]) -> None:
        """All at once."""
        for number, ask in enumerate(asks):
            sampling = Sampling(
                temperature=0.0, max_tokens=ask.num_out, ignore_eos=True, seed=number
            )
            ids = tuple(ask.token_ids)
            logprobs = LogprobOptions(output=True, top=2) if self.keep_gaps else LogprobOptions()
            self.scheduler.add(
                TokenRequest(str(number), 0, ids, sampling, logprobs, eos_token_ids=(2,))
            )

    def run(self, asks: Sequence[Ask]) -> list[list[int]]:
        """The tokens of every request."""
        self.add(asks)
        return self.answers(len(asks))

    def answers(self, count: int) -> list[list[int]]:
        """The tokens of the requests that were added, `count` of them with numbers for ids."""
        outputs: list[list[int]] = [[] for _ in range(count)]
        loop = self.loop(self.scheduler, self.executor)
        while self.scheduler.has_work or loop.is_under_way:
            for delta in (delta for deltas in loop.turn() for delta in deltas):
                assert delta.error is None, delta.error
                outputs[int(delta.rid)] += delta.token_ids
                for (best, _), (second, _) in (one.top for one in delta.logprobs):
                    self.gaps[int(delta.rid)].append(best - second)
        return outputs


def make_model(shape: dict[str, Any], folder: str) -> LlamaModel:
    """The shape with random weights, drawn on the device."""
    (Path(folder) / "config.json").write_text(json.dumps(shape))
    config = load_model_config(Path(folder))
    files = ModelFiles(
        name="random", directory=Path(folder), config=config, weights=(), dummy_seed=0
    )
    return load_model(config, iterate_weights(files, DEVICE), DTYPE, DEVICE, num_threads=1)


def make_pool(model: LlamaModel, num_slots: int | None) -> KVPool:
    """As many slots as fit, or as many as asked for."""
    config = model.config
    if num_slots is None:
        per_slot = kv_bytes_per_slot(config.num_layers, config.num_kv_heads, config.head_dim, DTYPE)
        free, total = torch.cuda.mem_get_info()
        num_slots = int(free - 0.12 * total) // per_slot
    return KVPool(
        num_layers=config.num_layers,
        num_slots=num_slots,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        dtype=DTYPE,
        device=DEVICE,
    )


@torch.inference_mode()
def check_logits(model: LlamaModel, folder: str, length: int, decoded: int) -> dict[str, float]:
    """Our relative error and transformers', both against transformers in float32: over the last
    position of a prompt and `decoded` steps after it, with given tokens."""
    config = AutoConfig.from_pretrained(folder)
    with DEVICE:
        theirs = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    files = ModelFiles(
        name="random", directory=Path(folder), config=model.config, weights=(), dummy_seed=0
    )
    for name, weight in iterate_weights(files, DEVICE):
        theirs.get_parameter(name).copy_(weight.to(DTYPE))
    vocab = model.config.vocab_size
    generator = torch.Generator(DEVICE).manual_seed(1)
    ids = torch.randint(3, vocab, (1, length + decoded), device=DEVICE, generator=generator)
    exact = theirs(ids).logits[0, length - 1 :]
    with DEVICE:  # made anew: `to` would round the rotation's frequencies too
        rounded = AutoModelForCausalLM.from_config(config, dtype=DTYPE).eval()
    rounded.load_state_dict(theirs.state_dict())
    del theirs
    half = rounded(ids).logits[0, length - 1 :].float()
    del rounded
    ours = _our_logits(model, ids[0].tolist(), length)
    norm = exact.norm()
    return {
        "ours": float((ours - exact).norm() / norm),
        "transformers": float((half - exact).norm() / norm),
        "greedy_equal": float((ours.argmax(-1) == half.argmax(-1)).float().mean()),
    }


def _our_logits(model: LlamaModel, ids: list[int], length: int) -> torch.Tensor:
    """By the executor, launch by launch: the prompt, then one given token a step."""
    pool = make_pool(model, len(ids) + 64)
    core = Core(model, pool, graphs=False)
    seen: list[torch.Tensor] = []
    runner = core.executor._runner
    logits = runner.logits

    def record(hidden: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        out = logits(hidden, out)
        if len(hidden):
            seen.append(out[:1].clone())
        return out

    runner.logits = record  # type: ignore[method-assign]  # to see what it gives
    sampling = Sampling(temperature=0.0, max_tokens=len(ids) - length + 1, ignore_eos=True, seed=0)
    core.scheduler.add(
        TokenRequest("0", 0, tuple(ids[:length]), sampling, LogprobOptions(), eos_token_ids=(2,))
    )
    step = 0
    while (plan := core.scheduler.plan()) is not None:
        results = core.executor.execute(plan)
        if results[0].next_token is not None:  # the given token instead of the sampled one
            token = ids[length + step] if length + step < len(ids) else 3
            core.executor._table.last_token.fill_(token)
            results = [results[0]._replace(next_token=token)]
            step += 1
        core.scheduler.commit(plan, results)
    return torch.cat(seen)


def check_tokens(model: LlamaModel, pool: KVPool, asks: list[Ask]) -> dict[str, float]:
    """Of each way against the plainest: the share of requests with equal tokens, and the largest
    gap between the two likeliest tokens where a request first differs (in log-probability)."""
    plain = Core(model, pool, graphs=False, share_min=None, loop=PlainLoop).run(asks)
    found = {}
    ways: dict[str, dict[str, Any]] = {
        "graphs": {"graphs": True, "share_min": None, "loop": PlainLoop},
        "shared": {"graphs": False, "share_min": 1, "loop": PlainLoop},
        "overlap": {"graphs": False, "share_min": None, "loop": OverlapLoop},
        "all": {"graphs": True},
    }
    for name, options in ways.items():
        core = Core(model, pool, keep_gaps=True, **options)
        pairs = enumerate(zip(core.run(asks), plain, strict=True))
        gaps = [_first_gap(one, other, core.gaps[row]) for row, (one, other) in pairs]
        found[name] = gaps.count(0.0) / len(gaps)
        found[f"{name}_gap"] = max(gaps)
    # Without log-probabilities tokens are chosen within the graphs.
    core = Core(model, pool, graphs=True, share_min=None)
    same = [one == other for one, other in zip(core.run(asks), plain, strict=True)]
    found["chosen in graphs"] = sum(same) / len(same)
    return found


def _first_gap(one: list[int], other: list[int], gaps: list[float]) -> float:
    return next((gap for a, b, gap in zip(one, other, gaps, strict=True) if a != b), 0.0)


def run_workload(core: Core, name: str, asks: list[Ask], repeats: int) -> dict[str, Any]:
    """Output tokens per second, and the share of the limit."""
    target = WORKLOADS[name]
    rates = []
    for _ in range(repeats):
        core.reset()
        started = time.perf_counter()
        outputs = core.run(asks)
        seconds = time.perf_counter() - started
        assert all(len(out) == ask.num_out for out, ask in zip(outputs, asks, strict=True))
        rates.append(sum(map(len, outputs)) / seconds)
    best = max(rates)
    stats = core.scheduler.stats()
    row = {
        "workload": name,
        "tok_s": round(best, 1),
        "runs": [round(rate, 1) for rate in rates],
        "limit": target.limit,
        "share": round(best / target.limit, 3),
        "must": target.must,
        "met": best >= target.must,
        "peer": target.peer,
        "ratio": round(best / target.peer, 2),
        "steps": stats.num_steps,
        "cached": stats.cached_tokens,
    }
    print(
        f"{name:<12} {best:>9,.0f} tok/s  {row['share']:>5.0%} of {target.limit:,}  must "
        f"{target.must:,} {'met' if row['met'] else 'MISSED'}  {row['ratio']}x of the best peer  "
        f"runs {row['runs']}  steps {row['steps']}",
        flush=True,
    )
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for the JSON")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--no-check", action="store_true")
    parser.add_argument("--loop", action="store_true", help="the loop's checks alone")
    parser.add_argument("--no-profile", action="store_true")
    parser.add_argument("--commit")
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, nothing to compare")
    options = parser.parse_args()
    about: dict[str, Any] = environment(options.commit)
    rows: list[dict[str, Any]] = []
    print(json.dumps(about), flush=True)

    def keep(row: dict[str, Any]) -> None:
        """Saved at once: what is over is kept if the rest is cut off."""
        rows.append(row)
        if options.out is not None:
            options.out.mkdir(parents=True, exist_ok=True)
            stem = f"serve-{about['gpu'].split()[-1].lower()}-{about['date']}"
            text = json.dumps({"about": about, "rows": rows}, indent=1)
            (options.out / f"{stem}.json").write_text(text + "\n")

    for shape in options.shapes:
        with TemporaryDirectory() as folder:
            _run_shape(shape, folder, options, keep)


def _run_shape(
    shape: str, folder: str, options: argparse.Namespace, keep: Callable[[dict[str, Any]], None]
) -> None:
    config = dict(SHAPES[shape])
    scale = 1
    if options.smoke:
        config |= {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
        config |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
        config |= {"vocab_size": 512, "max_position_embeddings": 1024}
        scale = 64
    started = time.perf_counter()
    model = make_model(config, folder)
    no_check = options.no_check or options.loop
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    print(f"-- {shape}: weights {time.perf_counter() - started:.1f} s", flush=True)
    if not no_check:
        errors = check_logits(model, folder, 1024 // scale, 32 // (8 if scale > 1 else 1))
        keep({"check": "logits", "shape": shape} | errors)
        print(f"logits, relative error against float32: {errors}", flush=True)
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
    pool = make_pool(model, 4096 if options.smoke else None)
    print(f"-- kv pool {pool.num_slots:,} slots", flush=True)
    if not no_check:
        asks = _scaled(WORKLOADS["forks2k"].asks()[:16], scale, config["vocab_size"])
        asks = [ask._replace(num_out=min(ask.num_out, 64)) for ask in asks]
        equal = check_tokens(model, pool, asks[: 4 if scale > 1 else 16])
        keep({"check": "tokens", "shape": shape} | equal)
        print(f"requests with equal tokens, against no graphs and no sharing: {equal}", flush=True)
    if options.loop:
        scaled = {
            name: _scaled(WORKLOADS[name].asks(), scale, config["vocab_size"])
            for name in options.only
            if WORKLOADS[name].shape == shape
        }
        found = check_loop(partial(Core, model, pool), scaled, scale)
        keep({"check": "loop", "shape": shape} | found)
        return
    core = Core(model, pool)
    started = time.perf_counter()
    core.run(_scaled([Ask(list(range(10, 266)), 8)] * 2, scale, config["vocab_size"]))
    print(f"-- first requests {time.perf_counter() - started:.1f} s", flush=True)
    for name in options.only:
        if WORKLOADS[name].shape == shape:
            asks = _scaled(WORKLOADS[name].asks(), scale, config["vocab_size"])
            keep(run_workload(core, name, asks, 1 if options.smoke else options.repeats))
            if not options.no_profile:
                core.reset()
                keep(profile_steps(core, name, asks))


def _scaled(asks: list[Ask], scale: int, vocab_size: int) -> list[Ask]:
    if scale == 1:
        return asks
    return [
        Ask([token % (vocab_size - 3) + 3 for token in ids[: max(4, len(ids) // scale)]], 4)
        for ids, _ in asks[:6]
    ]


if __name__ == "__main__":
    main()
