"""Requests, plans and tiny models for the tests of models and executor."""

import numpy as np
import torch
from safetensors.torch import load_file

from ramify.lang.protocol import LogprobOptions, Sampling
from ramify.runtime.cache.kv_pool import KVPool
from ramify.runtime.core import BatchPlan, PlannedRows, Request, TokenRequest
from ramify.runtime.executor.batch import prepare
from ramify.runtime.models.config import load_model_config
from ramify.runtime.models.llama import load_model

GREEDY = Sampling(temperature=0.0, seed=0)
CPU = torch.device("cpu")


def make_request(token_ids, slots, *, num_prompt=None, sampling=GREEDY, logprobs=None, rid="r"):
    token_ids = [int(token) for token in token_ids]
    spec = TokenRequest(
        rid, 0, tuple(token_ids), sampling, logprobs or LogprobOptions(), eos_token_ids=(2,)
    )
    return Request(
        spec=spec,
        arrival=0.0,
        token_ids=token_ids,
        num_prompt=len(token_ids) if num_prompt is None else num_prompt,
        slots=np.asarray(slots, np.int32),
    )


def plan(*entries):
    """(request, start, end[, write_from[, first scored]]) each -> a plan that samples all."""
    rows = []
    for request, start, end, *rest in entries:
        write_from = rest[0] if rest else start
        last = min(end, request.num_prompt - 1)
        scored = range(max(start, rest[1]), last) if len(rest) > 1 else range(0)
        sample = end == request.num_tokens
        rows.append(PlannedRows(request, start, end, write_from, sample, scored))
    return BatchPlan(tuple(rows))


def make_model(directory, dtype=torch.float32, num_threads=2):
    tensors = load_file(directory / "model.safetensors")
    config = load_model_config(directory)
    return load_model(config, tensors.items(), dtype, "cpu", num_threads=num_threads)


def make_pool(model, num_slots=1024):
    config = model.config
    return KVPool(
        num_layers=config.num_layers,
        num_slots=num_slots,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        dtype=model.dtype,
        device="cpu",
    )


@torch.inference_mode()
def run(model, pool, step, *, reference=False):
    """Logits of the step's rows that choose a token: [rows, vocab_size]."""
    batch = prepare(step, CPU)
    forward = model.forward_torch if reference else model.forward
    return model.logits(forward(batch, pool))
