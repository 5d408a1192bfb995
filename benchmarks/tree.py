"""Tree of thought: how much of what could come from the cache does come from it?

    ramify bench tree [--depth 3] [--fan-out 4] [--tokens 16]

Every thought is expanded: a tree of `fan-out` branches to `depth` levels below one prompt of about
200 tokens. The best possible is counted from the tokens themselves: each distinct prefix of all
prompts is computed once, by prefill or, where a model generated it, by decode. Prints the table;
asserts nothing.
"""

import argparse
import time
from collections.abc import AsyncIterator

import ramify
from ramify.interpreter.backends.engine import EngineBackend
from ramify.lang.protocol import GenerateDelta, GenerateRequest, TokenSegment

QUESTION = "How can a small town by the sea become a better place to live, work and grow old in?\n"
EXAMPLES = "".join(
    f"Step {number}: think of one thing that the town has, ask who uses it and when, then say in "
    "a sentence what would make it better and who would have to pay for that.\n"
    for number in range(1, 7)
)


class Recorder(EngineBackend):
    """An engine as a backend, with the tokens of every prompt and answer."""

    def __init__(self, engine: ramify.Engine) -> None:
        super().__init__(engine)
        self.requests: list[tuple[list[int], list[int]]] = []

    async def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateDelta]:
        prompt: list[int] = []
        for segment in request.prompt:
            is_tokens = isinstance(segment, TokenSegment)
            prompt += segment.token_ids if is_tokens else self.engine.tokenize(segment.text)
        output: list[int] = []
        self.requests.append((prompt, output))
        async for delta in super().generate(request):
            output += delta.token_ids
            yield delta


def best_cached(requests: list[tuple[list[int], list[int]]]) -> int:
    """Prompt tokens that need no prefill if each prefix is computed once."""
    nodes: dict[tuple[int, int], int] = {}

    def walk(tokens: list[int]) -> list[int]:
        node, path = 0, []
        for token in tokens:
            node = nodes.setdefault((node, token), len(nodes) + 1)
            path.append(node)
        return path

    prefilled: set[int] = set()
    decoded: set[int] = set()
    for prompt, output in requests:
        path = walk(prompt + output[:-1])  # the last token generated is never computed
        prefilled.update(path[: len(prompt)])
        decoded.update(path[len(prompt) :])
    return sum(len(prompt) for prompt, _ in requests) - len(prefilled - decoded)


@ramify.function
def tree(s, depth, fan_out, num_tokens):
    s += EXAMPLES + QUESTION
    level = [s]
    for height in range(depth + 1):
        for number, state in enumerate(level):
            state += f"Thought {height}.{number}:"
            state += ramify.gen("thought", max_tokens=num_tokens, ignore_eos=True)
        if height < depth:
            level = [child for state in level for child in state.fork(fan_out)]
    for state in level:
        state.sync()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", help="default: the bundled model")
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--fan-out", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=16, help="of each thought")
    options = parser.parse_args()
    with ramify.Engine(options.model) as engine:
        recorder = Recorder(engine)
        started = time.perf_counter()
        state = tree.run(
            options.depth, options.fan_out, options.tokens, backend=recorder, temperature=0
        )
        seconds = time.perf_counter() - started
        stats = engine.stats()
    calls = [node.usage for node in state.graph if node.usage is not None]
    asked = sum(usage.prompt_tokens for usage in calls)
    cached = sum(usage.cached_tokens for usage in calls)
    assert (asked, cached) == (stats.prompt_tokens, stats.cached_tokens), "graph and engine differ"
    best = best_cached(recorder.requests)
    print(f"tree: {len(calls)} calls, depth {options.depth}, fan-out {options.fan_out}")
    print(f"  prompt tokens          {asked:>8,}")
    print(f"  from the cache         {cached:>8,}   hit rate {cached / asked:.1%}")
    print(f"  best possible          {best:>8,}   hit rate {best / asked:.1%}")
    print(f"  share of the best      {cached / best:>8.1%}")
    print(f"  computed by the engine {stats.computed_tokens:>8,}   in {seconds:.1f} s")


if __name__ == "__main__":
    main()
