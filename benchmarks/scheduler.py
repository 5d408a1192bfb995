"""CPU time of the scheduler alone, per step (plan + commit), with a model that costs nothing.

    python benchmarks/scheduler.py [--batch 256] [--waiting 1000] [--context 2048] [--steps 400]

`steady`: all requests decode. `churn`: requests end and are replaced from a queue all the time, as
in a busy server; prompts share half their tokens. Prints one line; asserts nothing.
"""

import argparse
import gc
import time
from collections.abc import Iterable

import numpy as np

from ramify.lang.protocol import LogprobOptions, Sampling
from ramify.runtime.cache.radix_tree import RadixTree
from ramify.runtime.cache.slot_pool import SlotPool
from ramify.runtime.config import EngineConfig
from ramify.runtime.core import RowResult, TokenRequest
from ramify.runtime.scheduler.scheduler import Scheduler

SAMPLED = RowResult(7, None, ())
NOT_SAMPLED = RowResult(None, None, ())


def requests(count: int, context: int, max_tokens: Iterable[int]) -> list[TokenRequest]:
    rng = np.random.default_rng(0)
    heads = [tuple(rng.integers(8, 1000, context // 2).tolist()) for _ in range(8)]
    return [
        TokenRequest(
            f"r{number}",
            0,
            heads[number % 8] + tuple(rng.integers(8, 1000, context - context // 2).tolist()),
            Sampling(max_tokens=tokens, seed=number),
            LogprobOptions(),
            eos_token_ids=(0,),
        )
        for number, tokens in zip(range(count), max_tokens, strict=False)
    ]


def make_scheduler(batch: int, context: int, longest: int) -> Scheduler:
    pool = SlotPool((batch + 8) * (context + longest))
    config = EngineConfig(max_running_requests=batch, max_queued_requests=1_000_000)
    return Scheduler(config, pool, RadixTree(pool), context_length=context + longest)


def step_ms(scheduler: Scheduler) -> float:
    """CPU milliseconds of one plan and commit; the model's results are made off the clock."""
    start = time.thread_time()
    plan = scheduler.plan()
    planned = time.thread_time()
    results = [SAMPLED if row.sample else NOT_SAMPLED for row in plan.rows]
    resumed = time.thread_time()
    scheduler.commit(plan, results)
    return 1000 * (planned - start + time.thread_time() - resumed)


def steady(batch: int, context: int, steps: int) -> list[float]:
    longest = steps + 2 * batch
    scheduler = make_scheduler(batch, context, longest)
    for spec in requests(batch, context, [longest] * batch):
        scheduler.add(spec)
    while (stats := scheduler.stats()).num_running < batch or stats.generated_tokens < 2 * batch:
        step_ms(scheduler)
    return [step_ms(scheduler) for _ in range(steps)]


def churn(batch: int, context: int, steps: int, waiting: int) -> list[float]:
    lengths = np.random.default_rng(1).integers(16, 256, batch + waiting + steps * 4).tolist()
    specs = requests(len(lengths), context, lengths)
    scheduler = make_scheduler(batch, context, 256)
    for _ in range(batch + waiting):
        scheduler.add(specs.pop())
    times = []
    for step in range(steps + batch):
        while specs and scheduler.stats().num_waiting < waiting:
            scheduler.add(specs.pop())
        elapsed = step_ms(scheduler)
        if step >= batch:
            times.append(elapsed)
    return times


def show(times: list[float]) -> str:
    middle, slow = np.percentile(times, (50, 99))
    return f"{middle:.2f} ms (p99 {slow:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU time of the scheduler per step")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--waiting", type=int, default=1000)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    gc.freeze()
    still = steady(args.batch, args.context, args.steps)
    busy = churn(args.batch, args.context, args.steps, args.waiting)
    print(
        f"scheduler step at batch {args.batch}, context {args.context}: steady {show(still)}, "
        f"churn with {args.waiting} waiting {show(busy)}"
    )


if __name__ == "__main__":
    main()
