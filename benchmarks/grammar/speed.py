"""Ramify, llguidance and xgrammar side by side, in one run, on a folder of JSON Schemas.

    python -m benchmarks.grammar.speed --schemas DIR --tokenizer tokenizer.json --eos "<|im_end|>"

A file of the folder is `{"schema": ..., "tests": [{"data": ..., "valid": true}, ...]}` (the format
of MaskBench). Every engine has a process of its own; for each schema they take turns, so that what
else the machine does meets all of them. Measured:

compile          the schema to a grammar, nothing of it cached
first mask       from a grammar to the first mask of a matcher
first walk       each mask along the instances (spaced JSON), met for the first time
repeated walk    the same instances again, where they are accepted
verdict          right: every instance accepted if and only if valid; over: a valid one is not;
                 loose: an invalid one is; refused: no grammar; failed: died or past --timeout
memory           of a grammar where the engine says so; of the process for all schemas in turn

Asserts nothing. With --out the numbers are kept as JSON.
"""

import argparse
import gc
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grammar.engines import ENGINES, Engine, Tokens, load

Clock = Callable[[], int]  # ns
START_LIMIT_S = 300


@dataclass
class Result:
    """One engine on one schema; times in ns."""

    verdict: str
    compile: int = 0
    first_mask: int = 0
    first_walk: list[int] = field(default_factory=list)
    repeated_walk: list[int] = field(default_factory=list)
    num_bytes: int | None = None


def measure(engine: Engine, tokens: Tokens, case: dict[str, Any], now: Clock) -> Result:
    """Compile, first mask, walks."""
    instances = [
        (tokens.encode(json.dumps(test["data"], ensure_ascii=False)), test["valid"])
        for test in case["tests"]
    ]
    engine.forget()
    gc.collect()
    gc.disable()
    try:
        started = now()
        try:
            grammar = engine.compile(case["schema"])
        except (ValueError, RuntimeError):
            return Result("refused", now() - started)
        result = Result("right", now() - started)
        started = now()
        engine.mask(engine.start(grammar))
        result.first_mask = now() - started
        for ids, valid in instances:
            fits = walk(engine, grammar, ids, result.first_walk, now)
            if fits and valid:
                walk(engine, grammar, ids, result.repeated_walk, now)
            if fits != valid and result.verdict != "loose":
                result.verdict = "loose" if fits else "over"
        result.num_bytes = engine.num_bytes(grammar)
        return result
    finally:
        gc.enable()


def walk(engine: Engine, grammar: Any, ids: list[int], times: list[int], now: Clock) -> bool:
    """Is every token in the mask, accepted, and the text complete?"""
    matcher = engine.start(grammar)
    for token_id in ids:
        started = now()
        row = engine.mask(matcher)
        times.append(now() - started)
        if not int(row[token_id >> 5]) >> (token_id & 31) & 1:
            return False
        if not engine.accept(matcher, token_id):
            return False
    return engine.is_complete(matcher)


# -- one process per engine


def resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    return 0


def work(pipe: Connection, name: str, options: argparse.Namespace) -> None:
    """The engine's process: cases in, results out, the process's memory at the end."""
    tokens = Tokens(options.tokenizer, options.eos)
    try:
        started = time.perf_counter_ns()
        engine = load(name, tokens, options.xgrammar_preview)
        warm_up(engine, tokens)
        pipe.send((engine.version, time.perf_counter_ns() - started))
    except ImportError as error:
        pipe.send((None, str(error)))
        return
    now = time.thread_time_ns if options.cpu_time else time.perf_counter_ns
    before = resident_bytes()
    while (case := pipe.recv()) is not None:
        pipe.send((measure(engine, tokens, case, now), resident_bytes() - before))


def warm_up(engine: Engine, tokens: Tokens) -> None:
    """The tables that an engine makes once for a vocabulary."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}}
    data = {"a": "b", "b": 1.5}
    measure(
        engine,
        tokens,
        {"schema": schema, "tests": [{"data": data, "valid": True}]},
        time.perf_counter_ns,
    )


class Worker:
    """An engine in its process; started again when a schema kills it or takes too long."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name = name
        self.results: list[Result] = []
        self.grown = 0  # bytes of the process since its start
        self._options = options
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=work, args=(theirs, self.name, self._options))
        self._process.start()
        theirs.close()
        if not self._pipe.poll(START_LIMIT_S):
            raise SystemExit(f"{self.name}: not ready after {START_LIMIT_S} s")
        self.version, self.start_ns = self._pipe.recv()

    def run(self, case: dict[str, Any]) -> None:
        """Measure one schema."""
        self._pipe.send(case)
        try:
            if self._pipe.poll(self._options.timeout):
                result, self.grown = self._pipe.recv()
                self.results.append(result)
                return
        except (EOFError, ConnectionError):
            pass
        self.results.append(Result("failed"))
        self._process.kill()
        self._process.join()
        self._start()

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join()


# -- the table


def summary(worker: Worker) -> dict[str, Any]:
    """The numbers of one engine."""
    served = [result for result in worker.results if result.verdict not in ("refused", "failed")]

    def spread(values: list[int], scale: float, *percents: float) -> dict[str, float]:
        found = np.array(values or [0]) / scale
        names: dict[float, str] = {50: "p50", 95: "p95", 99: "p99", 100: "max"}
        out = {"mean": float(found.mean())}
        return out | {names[at]: float(np.percentile(found, at)) for at in percents}

    sizes = [result.num_bytes for result in served if result.num_bytes is not None]
    return {
        "engine": worker.name,
        "version": worker.version,
        "start_s": worker.start_ns / 1e9,
        "verdicts": dict(Counter(result.verdict for result in worker.results)),
        "compile_ms": spread([result.compile for result in served], 1e6, 50, 95, 100),
        "first_mask_ms": spread([result.first_mask for result in served], 1e6, 50, 95, 100),
        "first_walk_us": spread(
            [ns for result in served for ns in result.first_walk], 1e3, 50, 99, 100
        ),
        "repeated_walk_us": spread(
            [ns for result in served for ns in result.repeated_walk], 1e3, 50, 99, 100
        ),
        "grammar_kb": spread(sizes, 1e3, 50, 95, 100) if sizes else None,
        "process_mb": worker.grown / 1e6,
    }


ROWS = (
    ("compile ms", "compile_ms", ("p50", "p95", "max")),
    ("first mask ms", "first_mask_ms", ("p50", "p95", "max")),
    ("first walk us", "first_walk_us", ("mean", "p50", "p99", "max")),
    ("repeated walk us", "repeated_walk_us", ("mean", "p50", "p99", "max")),
    ("grammar kB", "grammar_kb", ("p50", "p95", "max")),
)
VERDICTS = ("right", "over", "loose", "refused", "failed")


def table(summaries: list[dict[str, Any]]) -> str:
    """Markdown: engines side by side."""
    heads = [f"{each['engine']} {each['version']}" for each in summaries]
    lines = ["| | " + " | ".join(heads) + " |", "| --- " * (len(heads) + 1) + "|"]

    def add(title: str, cells: list[str]) -> None:
        lines.append(f"| {title} | " + " | ".join(cells) + " |")

    for title, key, parts in ROWS:
        cells = [
            " / ".join(f"{each[key][part]:.3g}" for part in parts) if each[key] else "not told"
            for each in summaries
        ]
        add(f"{title}, {' / '.join(parts)}", cells)
    add("process grew by, MB", [f"{each['process_mb']:.1f}" for each in summaries])
    add("ready after, s", [f"{each['start_s']:.2f}" for each in summaries])
    for verdict in VERDICTS:
        add(verdict, [str(each["verdicts"].get(verdict, 0)) for each in summaries])
    return "\n".join(lines)


def common(workers: list[Worker]) -> int:
    """Keep only the schemas that all engines serve; how many those are."""
    kept = [
        at
        for at in range(len(workers[0].results))
        if all(worker.results[at].verdict not in ("refused", "failed") for worker in workers)
    ]
    for worker in workers:
        worker.results = [worker.results[at] for at in kept]
    return len(kept)


def read(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The cases of the folder."""
    cases = [json.loads(path.read_text("utf-8")) for path in sorted(options.schemas.glob("*.json"))]
    cases = [case for case in cases if "schema" in case]
    random.Random(0).shuffle(cases)  # whatever is measured of them is a fair part
    cases = cases[: options.limit]
    if not cases:
        raise SystemExit(f"--schemas {options.schemas}: no file with a 'schema' in it")
    return cases


def git_commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--schemas", type=Path, required=True, help="folder of MaskBench files")
    parser.add_argument("--tokenizer", type=Path, required=True, help="a tokenizer.json")
    parser.add_argument("--eos", required=True, help="its end-of-sequence token")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--xgrammar-preview", type=Path, help="folder of another xgrammar")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for one schema")
    parser.add_argument("--limit", type=int, help="only so many schemas, drawn at random")
    parser.add_argument("--budget", type=float, default=1e9, help="seconds after which to stop")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="time by the thread's CPU time, for a machine that others load; adds some 0.3 us",
    )
    parser.add_argument("--out", type=Path, help="keep the numbers in this JSON file")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    cases = read(options)
    workers = [Worker(name, options) for name in options.engines]
    for worker in workers:
        if worker.version is None:
            print(f"{worker.name} is left out: {worker.start_ns}", file=sys.stderr)
    workers = [worker for worker in workers if worker.version is not None]
    started = time.monotonic()
    num_cases = 0
    for case in cases:
        if time.monotonic() - started > options.budget:
            break
        num_cases += 1
        for worker in workers:
            worker.run(case)
    summaries = [summary(worker) for worker in workers]
    num_tokens = Tokens(options.tokenizer, options.eos).num_tokens
    print(
        f"\n{num_cases} of {len(cases)} schemas, {num_tokens:,} tokens, commit {git_commit()}, "
        f"{'CPU' if options.cpu_time else 'wall'} time\n"
    )
    print(table(summaries))
    num_common = common(workers)
    paired = [summary(worker) for worker in workers]
    if len(workers) > 1:
        print(f"\nThe {num_common} schemas that all of them serve:\n")
        print(table(paired))
    for worker in workers:
        worker.close()
    if options.out is not None:
        head = {
            "commit": git_commit(),
            "cpu_time": options.cpu_time,
            "num_schemas": num_cases,
            "num_tokens": num_tokens,
        }
        body = {"engines": summaries, "num_common": num_common, "common": paired}
        options.out.write_text(json.dumps(head | body, indent=1) + "\n")


if __name__ == "__main__":
    main()
