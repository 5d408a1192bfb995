"""Nothing leaks: random tiny requests by the hundred thousand, with aborts, deadlines and faults.

    python -m benchmarks.gpu.leak [--requests 100000] [--seed 0]

A tiny random model on the device, the real scheduler, overlapped loop and executor, a pool that is
too small for what runs at once. Prompts branch off each other; some requests are held by a grammar,
have penalties, ask for log-probabilities, are aborted at a random step or run into their deadline;
now and then so many have long answers that some are sent back to waiting, or a step fails. At the
end free and cached slots must make up the pool, every row of the executor's tables must be free,
and the memory of device and process must be what it was when a tenth of the requests were through.

Progress is printed every few seconds. SIGINT or SIGTERM ends it early: what is live is aborted, and
the same is checked of the requests so far.
"""

import argparse
import random
import resource
import signal
import time
from collections import Counter
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.gpu.serve import DEVICE, make_model, make_pool
from benchmarks.gpu.workloads import SHAPES
from ramify.grammars import RegexSpec, compile_grammar
from ramify.grammars.matcher import TokenGrammar
from ramify.grammars.vocabulary import Vocabulary
from ramify.lang.protocol import LogprobOptions, Sampling
from ramify.runtime.cache.radix_tree import RadixTree
from ramify.runtime.cache.slot_pool import SlotPool
from ramify.runtime.config import EngineConfig
from ramify.runtime.core import BatchPlan, TokenDelta, TokenRequest
from ramify.runtime.executor.gpu_executor import GPUExecutor, Launched
from ramify.runtime.scheduler.scheduler import Scheduler
from ramify.runtime.step_loop import OverlapLoop

NUM_SLOTS = 12_000
MAX_RUNNING = 512
VOCAB = 512
LIVE = 700  # requests at once, running or waiting
NUM_LONG = 200  # of 20,000 requests, one after the other: their answers outgrow the pool
TELL_S = 5.0  # between two lines of progress
MAY_GROW = {"device_mib": 64.0, "process_mib": 256.0}  # after a tenth of the requests


class Faulty:
    """An executor that fails now and then."""

    def __init__(self, executor: GPUExecutor, rng: random.Random, one_in: int) -> None:
        self.executor, self._rng, self._one_in = executor, rng, one_in
        self.num_launched = 0

    def launch(self, plan: BatchPlan) -> Launched:
        self.num_launched += 1
        if self._rng.randrange(self._one_in) == 0:
            raise RuntimeError("a fault of this step, made on purpose")
        return self.executor.launch(plan)

    def close(self) -> None:
        self.executor.close()


def grammars() -> list[TokenGrammar]:
    pieces = [*(bytes([byte]) for byte in range(256)), *[None] * (VOCAB - 256)]
    vocabulary = Vocabulary(pieces, [VOCAB - 1])
    patterns = ("[ab]{2,9}", "(yes|no|perhaps)", "[0-9]+(\\.[0-9]+)?")
    return [compile_grammar(RegexSpec(pattern), vocabulary) for pattern in patterns]


class Requests:
    """Random requests, one after the other."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._grammars = grammars()
        self._prompts: list[list[int]] = [[]]

    def next(self, number: int) -> TokenRequest:
        rng = self._rng
        base = rng.choice(self._prompts)
        prompt = base[: rng.randint(0, len(base))]
        prompt = (prompt + [rng.randrange(3, VOCAB) for _ in range(rng.randint(1, 30))])[:120]
        self._prompts[rng.randrange(len(self._prompts))] = prompt
        if len(self._prompts) < 64:
            self._prompts.append(prompt)
        grammar = rng.choice(self._grammars) if rng.random() < 0.1 else None
        is_long = number % 20_000 < NUM_LONG
        has_penalty = rng.random() < 0.1
        sampling = Sampling(
            temperature=rng.choice((0.0, 1.0)),
            max_tokens=rng.randint(120, 180) if is_long else rng.randint(10 if grammar else 0, 12),
            frequency_penalty=0.5 if has_penalty else 0.0,
            repetition_penalty=1.1 if has_penalty else 1.0,
            ignore_eos=grammar is None,
            seed=number,
        )
        start = 0 if rng.random() < 0.05 else None
        return TokenRequest(
            str(number),
            0,
            tuple(prompt),
            sampling,
            LogprobOptions(output=rng.random() < 0.05, top=1, prompt_start=start),
            eos_token_ids=(VOCAB - 1,),
            deadline=time.monotonic() + rng.random() if rng.random() < 0.02 else None,
            grammar=grammar,
        )


class Run:
    """Requests on their way through a scheduler and an executor."""

    def __init__(self, executor: GPUExecutor, seed: int) -> None:
        self._rng = random.Random(seed)
        self._pool = SlotPool(NUM_SLOTS)
        config = EngineConfig(
            max_running_requests=MAX_RUNNING,
            max_prefill_tokens=4096,
            chunked_prefill_size=64,
            schedule_policy="fcfs",  # so that long answers run together
        )
        tree = RadixTree(self._pool)
        self._scheduler = Scheduler(config, self._pool, tree, context_length=512)
        self._loop = OverlapLoop(self._scheduler, Faulty(executor, self._rng, one_in=400))
        self._requests = Requests(self._rng)
        self._live: dict[str, None] = {}  # in order of arrival
        self._ends: Counter[str] = Counter()
        self._num_sent = 0
        self._early: dict[str, float] = {}
        self._started = self._told = time.perf_counter()
        self._is_stopped = False

    def stop(self, *_: object) -> None:
        """Send no more, and end what is live."""
        self._is_stopped = True

    def serve(self, count: int) -> dict[str, Any]:
        """Serve `count` requests; what they ended with, and what was left over."""
        while not self._is_stopped and (self._num_sent < count or self._scheduler.has_work):
            while self._num_sent < count and len(self._live) < LIVE:
                self._send()
            self._turn()
            if not self._early and self._num_sent >= count // 10:
                self._early = memory()
            self._tell()
        if self._is_stopped:
            self._count(self._scheduler.abort_all())
        while self._loop.is_under_way:
            self._turn()
        return self._check()

    def _send(self) -> None:
        self._scheduler.add(self._requests.next(self._num_sent))
        self._live[str(self._num_sent)] = None
        self._num_sent += 1

    def _turn(self) -> None:
        for deltas in self._loop.turn():
            self._count(deltas)
        if self._live:
            self._count(self._scheduler.abort(self._rng.choice(list(self._live))))

    def _count(self, deltas: list[TokenDelta]) -> None:
        for delta in deltas:
            if delta.finish is not None or delta.error is not None:
                del self._live[delta.rid]
                self._ends[delta.finish.type if delta.finish else delta.error.code] += 1

    def _tell(self) -> None:
        now = time.perf_counter()
        if now - self._told > TELL_S:
            self._told = now
            stats = self._scheduler.stats()
            print(
                f"{now - self._started:4.0f} s: {self._ends.total():,} requests, "
                f"{stats.num_steps:,} steps, leaked slots {stats.num_leaked_slots}",
                flush=True,
            )

    def _check(self) -> dict[str, Any]:
        assert not self._live and self._ends.total() == self._num_sent, (self._live, self._ends)
        late = memory()
        for name, most in MAY_GROW.items() if self._early else ():
            assert late[name] <= self._early[name] + most, (self._early, late)
        scheduler = self._scheduler
        scheduler.check_invariants()
        stats = scheduler.stats()
        assert stats.num_leaked_slots == 0, stats
        assert stats.num_free_slots + stats.num_cached_slots == NUM_SLOTS, stats
        assert stats.num_evictable_slots == stats.num_cached_slots, stats
        scheduler.flush_cache()
        assert self._pool.num_free == NUM_SLOTS, self._pool.num_free
        return {
            "requests": self._num_sent,
            "ends": dict(self._ends),
            "steps": stats.num_steps,
            "retracted": stats.num_retracted,
            "early": self._early,
            "late": late,
            "free + cached": stats.num_free_slots + stats.num_cached_slots,
            "slots": NUM_SLOTS,
        }


def check_tables(executor: GPUExecutor) -> None:
    """Every row of the executor's tables can be had again."""
    table, penalties = executor._table, executor._sampler._penalties
    table._sweep()
    penalties._sweep()
    assert len(table._free_rows) == MAX_RUNNING and not table._places, len(table._free_rows)
    assert len(penalties._free) == len(penalties._seen), len(penalties._free)


def memory() -> dict[str, float]:
    """MiB of the device's tensors, and of the process at most so far."""
    on_device = torch.cuda.memory_allocated() if DEVICE.type == "cuda" else 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"device_mib": round(on_device / 2**20, 1), "process_mib": round(peak, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shape = SHAPES["0.6B"] | {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    shape |= {"vocab_size": VOCAB, "max_position_embeddings": 512}
    with TemporaryDirectory() as folder:
        model = make_model(shape, folder)
    executor = GPUExecutor(model, make_pool(model, NUM_SLOTS), max_requests=MAX_RUNNING)
    started = time.perf_counter()
    run = Run(executor, options.seed)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, run.stop)
    found = run.serve(options.requests)
    check_tables(executor)
    seconds = time.perf_counter() - started
    print(found)
    early = "" if found["requests"] == options.requests else ", stopped early"
    print(
        f"{found['requests']:,} requests in {seconds:.0f} s{early}: free + cached slots are "
        f"{found['free + cached']:,} of {found['slots']:,}; no row of a table is held",
        flush=True,
    )


if __name__ == "__main__":
    main()
