"""What a constraint costs a running engine: constrained against free answers, in one run.

    ramify bench constrained [--streams 8] [--repeats 5] [--tokens 96]

Both sides answer the same prompts with the same number of tokens, all streams at once, taking
turns. Printed are medians of tokens per second with lowest and highest, and their ratio; and the
CPU time of this process per token, which depends less on what else the machine does.

regex        free text under a regex that never ends by itself: a mask for each token, none forced
json         an array of objects without an end: keys and punctuation are forced
json, steps  the same with jump-forward off: every forced token takes a step of its own

Below: steps, and the share of tokens that the grammar forced. Asserts nothing.
"""

import argparse
import json
import os
import statistics
import time
from typing import NamedTuple

import ramify
from ramify.lang.protocol import Sampling

PEOPLE = {
    "type": "array",
    "minItems": 1000,
    "items": {
        "type": "object",
        "properties": {
            "first_name": {"type": "string", "maxLength": 12},
            "last_name": {"type": "string", "maxLength": 12},
            "year_of_birth": {"type": "integer", "minimum": 1900, "maximum": 2020},
            "profession": {"enum": ["teacher", "engineer", "physician", "musician", "farmer"]},
        },
        "required": ["first_name", "last_name", "year_of_birth", "profession"],
        "additionalProperties": False,
    },
}
SIDES: dict[str, dict[str, str]] = {
    "free": {},
    "regex": {"regex": r"([A-Za-z]{1,12}[ ,.])*!"},
    "json": {"json_schema": json.dumps(PEOPLE)},
}
STEPWISE = "json, steps"


class Run(NamedTuple):
    """One side's answers in one round."""

    rate: float  # tokens per second
    cpu_ms: float  # of this process, per token
    num_steps: int
    num_forced: int
    num_tokens: int


def measure(engine: ramify.Engine, constraint: dict[str, str], prompts: list[str], num: int) -> Run:
    """Answer all prompts at once; the prompts themselves are in the cache."""
    samplings = [
        Sampling(max_tokens=num, seed=seed, ignore_eos=True, **constraint)
        for seed in range(len(prompts))
    ]
    before, started, cpu = engine.stats(), time.perf_counter(), time.process_time()
    answers = engine.generate_batch(prompts, samplings)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    after = engine.stats()
    num_tokens = sum(len(answer.token_ids) for answer in answers)
    return Run(
        num_tokens / seconds,
        1e3 * cpu / num_tokens,
        after.num_steps - before.num_steps,
        after.num_forced - before.num_forced,
        num_tokens,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    options = parser.parse_args()
    prompts = [f"List number {number} of people:\n" for number in range(options.streams)]
    runs: dict[str, list[Run]] = {}
    with (
        ramify.Engine(dtype=options.dtype) as jumping,
        ramify.Engine(dtype=options.dtype, disable_jump_forward=True) as stepping,
    ):
        for number in range(options.repeats + 1):
            sides = [(name, jumping, constraint) for name, constraint in SIDES.items()]
            sides.append((STEPWISE, stepping, SIDES["json"]))
            for name, engine, constraint in sides:
                run = measure(engine, constraint, prompts, options.tokens)
                if number:  # round 0 is warm-up
                    runs.setdefault(name, []).append(run)
    print(
        f"{options.streams} streams of {options.tokens} tokens, {options.dtype}, "
        f"{options.repeats} repeats, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':<12}{'tokens/s':>26}{'of free':>9}{'cpu ms/token':>14}{'steps':>7}{'forced':>8}")
    free = statistics.median(run.rate for run in runs["free"])
    for name, found in runs.items():
        rates = [run.rate for run in found]
        rate = statistics.median(rates)
        spread = f"({min(rates):.1f} to {max(rates):.1f})"
        share = sum(run.num_forced for run in found) / sum(run.num_tokens for run in found)
        steps = statistics.median(run.num_steps for run in found)
        cpu = statistics.median(run.cpu_ms for run in found)
        print(
            f"{name:<12}{rate:9.1f} {spread:>16}{rate / free:8.2f}x{cpu:14.2f}{steps:7.0f}"
            f"{share:8.1%}"
        )


if __name__ == "__main__":
    main()
