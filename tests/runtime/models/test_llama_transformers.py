"""Logits equal transformers': prefill in chunks, then 200 decode steps, float32."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from ramify.runtime.loader.resolve import resolve_model
from ramify.runtime.loader.weights import iterate_weights
from ramify.runtime.models.llama import load_model
from tests.runtime.executor.plans import make_model, make_pool, make_request, plan, run
from tests.tiny_models import TINY_MODELS, VOCAB_SIZE

TOLERANCE = 2e-3
PROMPT, DECODED = 100, 200


def _largest_difference(model, directory, vocab_size, reference=False):
    """Over the chunks of a prompt and DECODED single tokens, with a neighbour in every step."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, vocab_size, (2, PROMPT + DECODED))
    theirs = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.inference_mode():
        expected = theirs(torch.from_numpy(tokens)).logits
    slots = rng.permutation(1024)[: 2 * (PROMPT + DECODED)].reshape(2, -1)
    pool, worst = make_pool(model), 0.0
    ends = [1, 33, PROMPT, *range(PROMPT + 1, PROMPT + DECODED + 1)]
    for start, end in zip([0, *ends], ends, strict=False):
        requests = [make_request(row[:end], own) for row, own in zip(tokens, slots, strict=True)]
        logits = run(model, pool, plan(*((r, start, end) for r in requests)), reference=reference)
        worst = max(worst, (logits - expected[:, end - 1]).abs().max().item())
    return worst


@pytest.mark.parametrize("name", TINY_MODELS)
@pytest.mark.parametrize("reference", [False, True])
def test_tiny_models_equal_transformers(tiny_model_dir, name, reference):
    directory = tiny_model_dir(name)
    model = make_model(directory)
    assert _largest_difference(model, directory, VOCAB_SIZE, reference) < TOLERANCE


@pytest.mark.weights
def test_bundled_model_equals_transformers():
    files = resolve_model("smollm2-135m-instruct")
    model = load_model(files.config, iterate_weights(files), torch.float32, "cpu", 1024)
    assert _largest_difference(model, files.directory, files.config.vocab_size) < TOLERANCE
