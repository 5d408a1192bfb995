"""The loop on a GPU: nothing waits but where it may, both loops give equal tokens, what the host
takes of a step.

- Under the alarm (`set_sync_debug_mode("error")`) every launch and choice of a step runs, of free,
  constrained and penalised requests with and without log-probabilities.
- Requests held by grammars and by penalties give the same tokens in the plain loop and in the
  overlapped one, from CUDA graphs and without; the rates stand beside those of free requests. All
  are equally long, so that steps hold the same rows and the device sums in the same order; only
  where grammars force spans does the overlapped loop need steps of its own.
- Of each workload, the host's time by part of a step, for decode steps and for those with prefill.
"""

import random
import time
from collections import defaultdict
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from ramify.grammars import RegexSpec, compile_grammar
from ramify.grammars.matcher import TokenGrammar
from ramify.grammars.vocabulary import Vocabulary
from ramify.lang.protocol import LogprobOptions, Sampling
from ramify.runtime.core import BatchPlan, RowResult, TokenRequest
from ramify.runtime.executor.gpu_executor import GPUExecutor, Launched
from ramify.runtime.guide import Forcing, Guide
from ramify.runtime.step_loop import OverlapLoop, PlainLoop

if TYPE_CHECKING:
    from benchmarks.gpu.serve import Core
    from benchmarks.gpu.workloads import Ask

KINDS = ("free", "grammar", "penalties", "all three", "forced spans")
BYTES = Forcing(lambda token: bytes([token]), lambda text: list(text.encode()))
PARTS = ("plan", "launch", "wait", "commit")  # of a turn of the loop


def check_loop(
    make_core: "Callable[..., Core]", workloads: "dict[str, list[Ask]]", scale: int
) -> dict[str, Any]:
    """Everything above, printed; `scale` divides lengths."""
    core, plain = make_core(loop=OverlapLoop), make_core(loop=PlainLoop)
    eager = make_core(loop=PlainLoop, graphs=False)
    for one in (core, plain, eager):
        one.guide = partial(Guide, forcing=BYTES)
    count, length = (8, 16) if scale > 1 else (64, 128)
    found: dict[str, Any] = {}
    for kind in KINDS:
        specs = _specs(kind, count, length, core)
        expected, eager_rate = _rate(eager, specs)
        replayed, plain_rate = _rate(plain, specs)
        ahead, rate = _rate(core, specs)
        found[kind] = {
            "graphs_equal": sum(map(list.__eq__, expected, replayed)) / count,
            "overlap_equal": sum(map(list.__eq__, replayed, ahead)) / count,
            "steps": [one.scheduler.stats().num_steps for one in (eager, plain, core)],
            "tok_s": {"no graphs": eager_rate, "plain": plain_rate, "overlap": rate},
        }
        print(f"{kind}: {found[kind]}", flush=True)
    specs = _specs("all three", count, length, core)
    scored = LogprobOptions(output=True, top=2, prompt_start=0)
    specs[:4] = [msgspec.structs.replace(spec, logprobs=scored) for spec in specs[:4]]
    _rate(core, specs)  # compiles and captures, which waits
    core.executor = _Alarmed(core.executor)
    _rate(core, specs)
    found["launches under the alarm"] = core.executor.num_launched
    print(f"launches under the alarm, none of which waited: {core.executor.num_launched}")
    core.executor = core.executor.executor
    for name, asks in workloads.items():
        core.run(asks[:64])
        core.reset()
        core.add(asks)
        found[name] = host_times(core)
        core.reset()
        print(f"{name}: {found[name]}", flush=True)
    return found


def _specs(kind: str, count: int, length: int, core: "Core") -> list[TokenRequest]:
    """Requests of 64 tokens for `length` more."""
    rng = random.Random(kind)
    vocab_size = core.executor._vocab_size
    specs = []
    for number in range(count):
        one = KINDS[number % 3] if kind == "all three" else kind
        penalties = {"repetition_penalty": 1.2, "frequency_penalty": 0.3, "presence_penalty": 0.1}
        sampling = Sampling(
            temperature=0.0 if number % 2 else 0.7,
            max_tokens=length,
            ignore_eos=True,
            seed=number,
            **(penalties if one == "penalties" else {}),
        )
        ids = tuple(rng.randrange(10, min(vocab_size, 50000)) for _ in range(64))
        grammar = None
        if one == "grammar":
            grammar = _letters(vocab_size, f"[a-f]{{{length // 2}}}[g-z]{{{length - length // 2}}}")
        if one == "forced spans":
            grammar = _letters(vocab_size, f"([a-f]{{4}}, name: ){{{length // 12}}}")
        specs.append(
            TokenRequest(str(number), 0, ids, sampling, LogprobOptions(), (2,), grammar=grammar)
        )
    return specs


@cache
def _letters(vocab_size: int, pattern: str) -> TokenGrammar:
    """Over a vocabulary whose texts are single bytes."""
    pieces = [*(bytes([byte]) for byte in range(256)), *[None] * (vocab_size - 256)]
    return compile_grammar(RegexSpec(pattern), Vocabulary(pieces, [vocab_size - 1]))


def _rate(core: "Core", specs: list[TokenRequest]) -> tuple[list[list[int]], float]:
    """The tokens, and how many a second; the better of two runs."""
    rates = []
    for _ in range(2):
        core.reset()
        for spec in specs:
            core.scheduler.add(spec)
        started = time.perf_counter()
        outputs = core.answers(len(specs))
        rates.append(sum(map(len, outputs)) / (time.perf_counter() - started))
    return outputs, round(max(rates), 1)


class _Alarmed:
    """An executor whose launches and choices may not wait."""

    def __init__(self, executor: GPUExecutor) -> None:
        self.executor = executor
        self._vocab_size = executor._vocab_size
        self.num_launched = 0

    def launch(self, plan: BatchPlan) -> "_AlarmedStep":
        self.num_launched += 1
        return _AlarmedStep(_without_waiting(lambda: self.executor.launch(plan)))


class _AlarmedStep:
    def __init__(self, step: Launched) -> None:
        self._step = step
        self.results = step.results

    def choose(self) -> None:
        _without_waiting(self._step.choose)


def _without_waiting(call: Callable[[], Any]) -> Any:
    if not torch.cuda.is_available():
        return call()
    torch.cuda.set_sync_debug_mode("error")
    try:
        return call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def host_times(core: "Core") -> dict[str, Any]:
    """Median milliseconds of the host by kind of step and part; `wait` is the device's lead."""
    times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    scheduler, executor = core.scheduler, core.executor
    under_way: tuple[BatchPlan, Launched] | None = None
    while scheduler.has_work or under_way is not None:
        marks = [time.perf_counter()]
        plan = scheduler.plan()
        marks.append(time.perf_counter())
        before, under_way = under_way, None
        if plan is not None:
            under_way = plan, executor.launch(plan)
            scheduler.advance(plan)
        marks.append(time.perf_counter())
        results: list[RowResult] = [] if before is None else before[1].results()
        marks.append(time.perf_counter())
        if before is not None:
            scheduler.commit(before[0], results)
        if under_way is not None:
            under_way[1].choose()
        marks.append(time.perf_counter())
        if plan is not None:
            rows, count = len(plan.rows), plan.num_tokens
            part = times["decode" if rows == count else f"prefill <= {1 << count.bit_length()}"]
            for name, (start, end) in zip(PARTS, pairwise(marks), strict=True):
                part[name].append(1000 * (end - start))
    return {
        kind: {"steps": len(part["plan"])}
        | {name: round(sorted(values)[len(values) // 2], 3) for name, values in part.items()}
        for kind, part in times.items()
    }
