"""The engine against transformers' `generate` on this CPU: same weights, same dtype, one run.

    ramify bench cpu [--repeats 3] [--dtype bfloat16] [--threads N]

single    one prompt of 32 tokens, 128 out, greedy: output tokens per second
forks     8 continuations of one prompt of 1,024 tokens (+16 own each), 33 out, all sent at once and
          the prompt in no cache; transformers gets them as one batch. Output tokens per second,
          prefill included
prefill   a prompt of 1,024 tokens, one token out: prompt tokens per second

Both take turns, `repeats` times after one round of warm-up; printed are the medians, with lowest
and highest. Below them the budget: what a token must read, how fast this machine reads, and what
share of a token's time is not the model. Asserts nothing.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import AutoModelForCausalLM

import ramify
from ramify.lang.protocol import Sampling
from ramify.runtime.cache.kv_pool import kv_bytes_per_slot
from ramify.runtime.kernels.cpu.linear import linear
from ramify.runtime.kernels.cpu.team import ThreadTeam
from ramify.runtime.loader.resolve import resolve_model
from ramify.runtime.loader.weights import iterate_weights
from ramify.runtime.models.llama import LlamaModel
from ramify.runtime.models.weights import load_weights

SINGLE_PROMPT, SINGLE_OUT = 32, 128
PREFILL = 1024
FORKS, OWN, FORK_OUT = 8, 16, 33


def prompts(seed: int, vocab_size: int) -> dict[str, list[list[int]]]:
    """Random token ids for each case, new for each round: nothing is cached from the last one."""
    rng = np.random.default_rng(seed)

    def ids(count: int) -> list[int]:
        return rng.integers(100, vocab_size, count).tolist()

    shared = ids(PREFILL)
    return {
        "single": [ids(SINGLE_PROMPT)],
        "forks": [shared + ids(OWN) for _ in range(FORKS)],
        "prefill": [ids(PREFILL)],
    }


NUM_OUT = {"single": SINGLE_OUT, "forks": FORK_OUT, "prefill": 1}
COUNTED = {"single": SINGLE_OUT, "forks": FORKS * FORK_OUT, "prefill": PREFILL}


class Transformers:
    """`generate` as its documentation uses it."""

    def __init__(self, directory: str, dtype: torch.dtype, num_threads: int) -> None:
        self.num_threads = num_threads
        self.model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()

    @torch.inference_mode()
    def run(self, rows: list[list[int]], num_out: int) -> None:
        torch.set_num_threads(self.num_threads)  # the engine's worker wants none of torch's threads
        input_ids = torch.tensor(rows)
        done = self.model.generate(
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            max_new_tokens=num_out,
            min_new_tokens=num_out,
            do_sample=False,
            pad_token_id=0,
        )
        assert done.shape[1] == input_ids.shape[1] + num_out, done.shape


class Ours:
    """The engine, with the time spent in the model kept apart."""

    def __init__(self, dtype: str, num_threads: int) -> None:
        self.model_seconds = 0.0
        for name in ("forward", "logits"):
            self._time(name)
        self.engine = ramify.Engine(dtype=dtype, num_threads=num_threads)

    def _time(self, name: str) -> None:
        inner = getattr(LlamaModel, name)

        def timed(*args: object) -> torch.Tensor:
            started = time.perf_counter()
            result = inner(*args)
            self.model_seconds += time.perf_counter() - started
            return result

        setattr(LlamaModel, name, timed)

    def run(self, rows: list[list[int]], num_out: int) -> None:
        self.engine.flush_cache()
        sampling = Sampling(temperature=0.0, max_tokens=num_out, ignore_eos=True)
        answers = self.engine.generate_batch(rows, sampling)
        assert all(len(answer.token_ids) == num_out for answer in answers)


def measure(
    sides: dict[str, Callable[[list[list[int]], int], None]], repeats: int, vocab_size: int
) -> dict[tuple[str, str], list[float]]:
    """Tokens per second by (case, side), taking turns; round 0 is warm-up."""
    rates: dict[tuple[str, str], list[float]] = {}
    for number in range(repeats + 1):
        for case, rows in prompts(number, vocab_size).items():
            for side, run in sides.items():
                started = time.perf_counter()
                run(rows, NUM_OUT[case])
                seconds = time.perf_counter() - started
                if number:
                    rates.setdefault((case, side), []).append(COUNTED[case] / seconds)
    return rates


def read_rate(num_threads: int) -> float:
    """Bytes per second this machine streams a 512 MiB matrix through the same kernel."""
    team = ThreadTeam(num_threads)
    weight = torch.ones(1 << 19, 512, dtype=torch.bfloat16)
    row = torch.ones(1, 512, dtype=torch.bfloat16)
    best = min(_seconds(lambda: linear(row, weight, team)) for _ in range(20))
    team.close()
    return weight.nbytes / best


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def print_budget(ours: Ours, files, dtype: torch.dtype, rate: float, ceiling: float) -> None:
    """What a token of the single stream reads, and where its time goes."""
    config = files.config
    weights = load_weights(config, iterate_weights(files), dtype, torch.device("cpu"))
    per_slot = kv_bytes_per_slot(config.num_layers, config.num_kv_heads, config.head_dim, dtype)
    untied = 0 if config.tie_word_embeddings else weights.embed.nbytes
    read = weights.num_bytes - untied + per_slot * (SINGLE_PROMPT + SINGLE_OUT // 2)
    ours.model_seconds = 0.0
    wall = _seconds(lambda: ours.run(prompts(99, config.vocab_size)["single"], SINGLE_OUT))
    token, model = wall / SINGLE_OUT, ours.model_seconds / SINGLE_OUT
    print("\nbudget of a single-stream token")
    print(f"  read            {read / 1e6:8.1f} MB: weights once, K and V of the context")
    print(f"  machine reads   {ceiling / 1e9:8.1f} GB/s: at least {read / ceiling * 1e3:.2f} ms")
    print(f"  median token    {1e3 / rate:8.2f} ms: {read * rate / 1e9:.1f} GB/s")
    print(f"  in the model    {model * 1e3:8.2f} ms of {token * 1e3:.2f} ms (one more run)")
    print(f"  around it       {(token - model) * 1e3:8.2f} ms: scheduler, sampler, deltas, loop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    files = resolve_model("smollm2-135m-instruct")
    theirs = Transformers(str(files.directory), dtype, options.threads)
    ours = Ours(options.dtype, options.threads)
    sides = {"transformers": theirs.run, "ramify": ours.run}
    rates = measure(sides, options.repeats, files.config.vocab_size)
    print(
        f"{files.name}, {options.dtype}, {options.threads} threads, {options.repeats} repeats, "
        f"torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'tokens/s':<9}{'transformers':>26}{'ramify':>28}{'ratio':>9}")
    medians: dict[tuple[str, str], float] = {}
    for case in NUM_OUT:
        cells = []
        for side in sides:
            runs = rates[case, side]
            medians[case, side] = statistics.median(runs)
            spread = f"({min(runs):.1f} to {max(runs):.1f})"
            cells.append(f"{medians[case, side]:9.1f} {spread:<17}")
        ratio = medians[case, "ramify"] / medians[case, "transformers"]
        print(f"{case:<9}{cells[0]:>26} {cells[1]:>27}{ratio:8.2f}x")
    print_budget(ours, files, dtype, medians["single", "ramify"], read_rate(options.threads))
    ours.engine.close()


if __name__ == "__main__":
    main()
