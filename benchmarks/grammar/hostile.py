"""What specs made to cost much do to a running engine: `tests/grammars/hostile_specs.py`, in turn.

    python -m benchmarks.grammar.hostile [--model DIR] [NAME ...]

Each is sent as the constraint of one request while a timer ticks every 5 ms on the same event loop
and another request streams. Printed: the outcome and its time, the longest the loop stood still,
and the longest the stream waited for a token. Asserts nothing.
"""

import argparse
import asyncio
import time

import ramify
from ramify.lang.errors import InvalidRequest
from ramify.lang.protocol import GenerateRequest, Sampling, text_prompt
from ramify.runtime import garbage
from tests.grammars.hostile_specs import HOSTILE
from tests.runtime.test_hostile import sampling_of

TICK_S = 0.005
MAX_TOKENS = 24


class Watch:
    """The longest time between two beats."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = time.perf_counter()

    def beat(self, expected: float = 0.0) -> None:
        now = time.perf_counter()
        self.longest = max(self.longest, now - self._last - expected)
        self._last = now

    def reset(self) -> None:
        self.longest, self._last = 0.0, time.perf_counter()


async def tick(watch: Watch) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        watch.beat(TICK_S)


async def stream(engine: ramify.Engine, watch: Watch) -> None:
    """One answer after another, for ever."""
    sampling = Sampling(max_tokens=100, temperature=0.0, ignore_eos=True)
    for number in range(1_000_000):
        prompt = text_prompt("Once upon a time")
        request = GenerateRequest(rid=f"stream {number}", prompt=prompt, sampling=sampling)
        async for _ in engine.async_generate(request):
            watch.beat()


async def attack(engine: ramify.Engine, name: str) -> str:
    sampling = sampling_of(HOSTILE[name][0], MAX_TOKENS)
    request = GenerateRequest(rid=name, prompt=text_prompt("go on"), sampling=sampling)
    try:
        last = [delta async for delta in engine.async_generate(request)][-1]
    except InvalidRequest as error:
        return error.code
    if last.error is not None:
        return last.error.code
    return last.finish.type if last.finish is not None else "no end"


async def measure(engine: ramify.Engine, names: list[str]) -> None:
    loop, tokens = Watch(), Watch()
    beside = [asyncio.create_task(tick(loop)), asyncio.create_task(stream(engine, tokens))]
    await asyncio.sleep(2)
    usual = loop.longest, tokens.longest
    print(f"{'ms':<32}{'outcome after':>14}{'loop still':>12}{'no token':>10}")
    print(f"{'(nothing)':<32}{'':>14}{usual[0] * 1e3:12.0f}{usual[1] * 1e3:10.0f}")
    for name in names:
        loop.reset()
        tokens.reset()
        started = time.perf_counter()
        outcome = await attack(engine, name)
        seconds = time.perf_counter() - started
        print(
            f"{name:<32}{seconds * 1e3:14.0f}{loop.longest * 1e3:12.0f}{tokens.longest * 1e3:10.0f}"
            f"  {outcome}",
            flush=True,
        )
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--model", help="default: the bundled model")
    options = parser.parse_args()
    unknown = set(options.names) - set(HOSTILE)
    if unknown:
        raise SystemExit(f"{unknown.pop()!r}: must be one of {', '.join(HOSTILE)}")
    with ramify.Engine(options.model) as engine:
        garbage.settle(engine.stats)  # as the server does
        asyncio.run(measure(engine, options.names or list(HOSTILE)))


if __name__ == "__main__":
    main()
