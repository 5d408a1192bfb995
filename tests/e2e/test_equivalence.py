"""Greedy tokens do not depend on batch, chunks, cache or retraction; and are transformers'."""

import pytest

from ramify.lang.protocol import Sampling
from ramify.runtime.engine import Engine

pytestmark = pytest.mark.weights

NUM_TOKENS = 64
GREEDY = Sampling(temperature=0.0, max_tokens=NUM_TOKENS, ignore_eos=True)
TOPICS = """
The capital of France is
Once upon a time, in a small village
def fibonacci(n):
Water boils at
The three primary colours are
In 1969, astronauts
Dear Sir or Madam,
To bake bread you need
The mitochondria is
A haiku about the sea:
SELECT name FROM
Photosynthesis is the process
Roses are red,
The quick brown fox
My favourite book
The speed of light
Ingredients: flour,
The president said
Chapter 1.
Why do cats
The history of Rome
If x is even, then
She opened the door and
Machine learning is
The largest ocean
Breaking news:
Q: What is gravity? A:
import numpy as np
He was born in
The recipe calls for
On a cold winter night
The theory of evolution
""".strip().splitlines()
INTRO = "The following text was written by a careful author for readers of all ages. " * 6


def prompts() -> list[str]:
    return [INTRO + topic for topic in TOPICS]


@pytest.fixture(scope="module")
def alone(exact_engine):
    exact_engine.flush_cache()
    return [exact_engine.generate(prompt, GREEDY).token_ids for prompt in prompts()]


def tokens_of(engine):
    return [answer.token_ids for answer in engine.generate_batch(prompts(), GREEDY)]


def test_alone_and_transformers(exact_engine, alone):
    import torch
    from transformers import AutoModelForCausalLM

    from ramify.runtime.config import BUNDLED_MODEL
    from ramify.runtime.loader.resolve import resolve_model

    directory = resolve_model(BUNDLED_MODEL).directory
    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    for prompt, ours in zip(prompts(), alone, strict=True):
        ids = [*exact_engine.tokenize(prompt), *ours]
        with torch.inference_mode():
            logits = reference(torch.tensor([ids])).logits[0]
        theirs = logits[-NUM_TOKENS - 1 : -1].argmax(dim=-1).tolist()
        assert tuple(theirs) == ours, prompt


def test_batched_and_cached(exact_engine, alone):
    assert tokens_of(exact_engine) == alone
    exact_engine.flush_cache()
    assert tokens_of(exact_engine) == alone


@pytest.mark.parametrize("chunk", [16, 64, -1])
def test_chunked_and_without_cache(alone, chunk):
    with Engine(
        dtype="float32",
        max_total_tokens=8192,
        chunked_prefill_size=chunk,
        disable_radix_cache=chunk == 64,
    ) as engine:
        assert tokens_of(engine) == alone


def test_retracted(alone, retract_often):
    with Engine(dtype="float32", max_total_tokens=8192) as engine:
        retract_often(engine, 20)
        assert tokens_of(engine) == alone
        assert engine.stats().num_retracted >= 3 * len(TOPICS)
        assert engine.stats().num_leaked_slots == 0
