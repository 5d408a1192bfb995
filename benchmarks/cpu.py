"""The engine against transformers' `generate`: same weights, dtype, prompts and greedy choice.

    ramify bench cpu [--repeats 3] [--dtype bfloat16]

Three workloads on the bundled model, the two taking turns: a single stream of 128 tokens; 8 forks
of a 1,024-token prompt with 16 tokens of their own and 33 answered (one batch for transformers,
prefill included); the prefill of 1,024 tokens. The cache is flushed before each run. Below the
table, the budget of a decode step: the bytes it has to read, what this machine reads in a second,
and where the rest of its time goes. Asserts nothing.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from ramify.lang.protocol import Sampling
from ramify.runtime.config import BUNDLED_MODEL
from ramify.runtime.engine import Engine
from ramify.runtime.loader.resolve import resolve_model

SINGLE_OUT, FORK_OUT = 128, 33
NUM_FORKS, SHARED_LEN, OWN_LEN = 8, 1024, 16
STORY = "The lighthouse keeper wrote down the weather, the ships and the birds of each day. "


class Workload(NamedTuple):
    name: str
    prompts: list[list[int]]
    num_out: int
    num_counted: int  # tokens that a run is rated by


def workloads(engine: Engine) -> list[Workload]:
    tokens = engine.tokenize(STORY * 100)
    shared = tokens[:SHARED_LEN]
    forks = [shared + engine.tokenize(f"Day {i}: " + STORY)[:OWN_LEN] for i in range(NUM_FORKS)]
    return [
        Workload("single stream", [tokens[:24]], SINGLE_OUT, SINGLE_OUT),
        Workload("8 forks of 1k", forks, FORK_OUT, NUM_FORKS * FORK_OUT),
        Workload("prefill 1k", [shared], 1, SHARED_LEN),
    ]


def run_ramify(engine: Engine, work: Workload) -> list[list[int]]:
    sampling = Sampling(temperature=0.0, max_tokens=work.num_out, ignore_eos=True)
    return [list(a.token_ids) for a in engine.generate_batch(work.prompts, sampling)]


def run_transformers(model, work: Workload) -> list[list[int]]:
    ids = torch.tensor(work.prompts)
    with torch.inference_mode():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=work.num_out,
            min_new_tokens=work.num_out,
            do_sample=False,
        )
    return out[:, ids.shape[1] :].tolist()


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def rate(work: Workload, times: Sequence[float]) -> str:
    rates = sorted(work.num_counted / t for t in times)
    return f"{statistics.median(rates):8,.1f} ({rates[0]:,.1f} to {rates[-1]:,.1f})"


def compare(engine: Engine, model, repeats: int) -> None:
    print(f"{'tok/s':<15} {'ramify':>26} {'transformers':>26} {'ratio':>7}  same tokens")
    for work in workloads(engine):
        ours, theirs = [], []
        for _ in range(repeats + 1):  # the first of each warms up
            engine.flush_cache()
            ours.append(seconds(lambda work=work: run_ramify(engine, work)))
            theirs.append(seconds(lambda work=work: run_transformers(model, work)))
        engine.flush_cache()
        pairs = zip(run_ramify(engine, work), run_transformers(model, work), strict=True)
        same = statistics.mean(common_prefix(a, b) / work.num_out for a, b in pairs)
        ratio = statistics.median(theirs[1:]) / statistics.median(ours[1:])
        print(
            f"{work.name:<15} {rate(work, ours[1:]):>26} {rate(work, theirs[1:]):>26} "
            f"{ratio:>6.2f}x  {same:.0%}"
        )
    print("(bfloat16 rounds differently in the two; in float32 tests/e2e hold all tokens equal)")


def common_prefix(one: list[int], other: list[int]) -> int:
    equal = (a == b for a, b in zip(one, other, strict=True))
    return next((i for i, same in enumerate(equal) if not same), len(one))


def read_bandwidth() -> float:
    """Bytes a second that all threads read together: the best of ten sums over 1 GiB."""
    block = torch.ones(1 << 28, dtype=torch.float32)
    return block.nbytes / min(seconds(block.sum) for _ in range(10))


def print_budget(engine: Engine) -> None:
    """Where a decode step's time goes: the model's own functions, timed inside the engine."""
    model = engine._worker._executor.model
    spent = {"forward": 0.0, "logits": 0.0}
    for name in spent:
        setattr(model, name, timed(getattr(model, name), spent, name))
    engine.flush_cache()
    prompt = engine.tokenize(STORY)
    sampling = Sampling(temperature=0.0, max_tokens=257, ignore_eos=True)
    engine.generate(prompt, Sampling(max_tokens=0))
    for name in spent:
        spent[name] = 0.0
    usage = engine.generate(prompt, sampling).completions[0].usage
    step = (usage.prefill_s + usage.decode_s) / 257
    bandwidth = read_bandwidth()
    num_bytes = model.weights.num_bytes
    inside = sum(spent.values()) / 257
    print(f"\none decode step, {step * 1e3:.2f} ms:")
    print(f"  weights read   {num_bytes / 1e6:8.1f} MB, {num_bytes / step / 1e9:.1f} GB/s in all")
    print(
        f"  at the machine's {bandwidth / 1e9:.1f} GB/s (read by torch's sum) "
        f"{num_bytes / bandwidth * 1e3:8.2f} ms"
    )
    print(f"  layers         {spent['forward'] / 257 * 1e3:8.2f} ms")
    print(f"  head           {spent['logits'] / 257 * 1e3:8.2f} ms")
    print(f"  plan, sample, commit, wake the caller {(step - inside) * 1e3:8.2f} ms")


def timed(function, spent: dict[str, float], name: str):
    def run(*args):
        started = time.perf_counter()
        result = function(*args)
        spent[name] += time.perf_counter() - started
        return result

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    options = parser.parse_args()
    import transformers

    transformers.logging.set_verbosity_error()
    directory = resolve_model(BUNDLED_MODEL).directory
    dtype = getattr(torch, options.dtype)
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    print(
        f"{BUNDLED_MODEL}, {options.dtype}, {os.cpu_count()} cores, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, {time.strftime('%Y-%m-%d')}, "
        f"median of {options.repeats} (lowest to highest)"
    )
    with Engine(dtype=options.dtype) as engine:
        compare(engine, model, options.repeats)
        print_budget(engine)


if __name__ == "__main__":
    main()
