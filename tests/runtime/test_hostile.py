"""Constraints made to cost much do no harm to others, and leave no memory behind.

RAMIFY_NIGHTLY=1 compiles 100,000 distinct schemas instead of 1,500.
"""

import asyncio
import gc
import os
import tracemalloc

import pytest

from ramify.grammars import EbnfSpec, JsonSchemaSpec, Matcher, RegexSpec, compile, lexer
from ramify.grammars.vocabulary import Vocabulary
from ramify.lang.errors import InvalidRequest
from ramify.lang.protocol import GenerateRequest, Sampling, text_prompt
from ramify.runtime.answer import collect
from ramify.runtime.constraint import GrammarCache
from ramify.runtime.engine import Engine
from tests.grammars.hostile_specs import HOSTILE

NIGHTLY = os.environ.get("RAMIFY_NIGHTLY") == "1"
NUM_SCHEMAS = 100_000 if NIGHTLY else 1_500
ARENA_STATES = 50_000 if NIGHTLY else 1_000  # small: shared tables are replaced many times
VOCABULARY = Vocabulary([*(bytes([byte]) for byte in range(256)), None], [256])
GROWTH = (96 if NIGHTLY else 12) << 20  # bytes: shared tables are filled, then replaced
OUTCOMES = {
    *("stop", "length"),
    *("grammar_too_complex", "invalid_json_schema", "max_tokens_too_small"),
}
CANARIES = (
    Sampling(max_tokens=40, temperature=0.0, ignore_eos=True),
    Sampling(max_tokens=40, seed=1, regex=r"([a-z]{1,5} ){3}[0-9]+!"),
)


def sampling_of(spec, max_tokens=6) -> Sampling:
    match spec:
        case RegexSpec(pattern):
            return Sampling(max_tokens=max_tokens, regex=pattern)
        case JsonSchemaSpec(schema):
            return Sampling(max_tokens=max_tokens, json_schema=schema)
        case EbnfSpec(grammar):
            return Sampling(max_tokens=max_tokens, ebnf=grammar)
        case _:
            return Sampling(max_tokens=max_tokens, choices=spec.choices)


async def answer(engine, rid: str, sampling: Sampling):
    request = GenerateRequest(rid=rid, prompt=text_prompt("go on"), sampling=sampling)
    return collect(rid, [delta async for delta in engine.async_generate(request)])


async def attack(engine, name: str) -> str:
    """The refusal's code, or how the answer ended."""
    try:
        found = await answer(engine, name, sampling_of(HOSTILE[name][0]))
    except InvalidRequest as error:
        return error.code if len(error.message) < 2000 else error.message
    return found.completions[0].finish.type


@pytest.mark.slow
def test_others_are_answered_as_ever(tiny_model_dir):
    with Engine(str(tiny_model_dir("llama")), dtype="float32", max_total_tokens=4096) as engine:
        alone = [engine.generate("go on", sampling).token_ids for sampling in CANARIES]

        async def beside() -> tuple[list[str], list[tuple[int, ...]]]:
            attacks = asyncio.gather(*(attack(engine, name) for name in HOSTILE))
            found = []
            for turn in range(4):
                for at, sampling in enumerate(CANARIES):
                    found.append((await answer(engine, f"canary {turn} {at}", sampling)).token_ids)
            return await attacks, found

        outcomes, found = asyncio.run(beside())
        assert set(outcomes) <= OUTCOMES
        assert found == alone * 4
        stats = engine.stats()
        assert stats.num_leaked_slots == stats.num_running == stats.num_waiting == 0


def test_memory_is_flat_over_distinct_schemas(monkeypatch):
    monkeypatch.setattr(compile, "ARENA_STATES", ARENA_STATES)
    monkeypatch.setattr(lexer, "DENSE_ROWS", 64)  # pages never written would count here
    limit = 4 << 20
    cache = GrammarCache(lambda: VOCABULARY, max_bytes=limit)

    async def use(first: int, last: int) -> None:
        for number in range(first, last):
            schema = f'{{"properties": {{"k{number}": {{"maxLength": {number}}}}}}}'
            grammar = await asyncio.wrap_future(cache.future_of(Sampling(json_schema=schema)))
            matcher = Matcher(grammar)
            matcher.accept_text(f'{{"k{number}'.encode())
            matcher.mask()
            assert cache.stats().cached_bytes <= limit

    try:
        asyncio.run(use(0, NUM_SCHEMAS // 3))
        gc.collect()
        tracemalloc.start()
        asyncio.run(use(NUM_SCHEMAS // 3, NUM_SCHEMAS))
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0]
        print(f"{grown:,} bytes more after {NUM_SCHEMAS:,} schemas")
    finally:
        tracemalloc.stop()
        cache.close()
    assert cache.stats().num_compiled == NUM_SCHEMAS
    assert grown < GROWTH
