"""From logits to tokens: argmax, sample, masks and log-probabilities; float32, 152k tokens.

Rows are peaked (three times normal logits) or flat (normal logits, as random weights give), where
top-p keeps most of the vocabulary.
"""

import torch

from benchmarks.kernels.measure import Bench
from ramify.runtime.kernels.argmax import argmax, argmax_ref
from ramify.runtime.kernels.bitmask import apply_bitmask, apply_bitmask_ref
from ramify.runtime.kernels.logprobs import logprobs, logprobs_ref
from ramify.runtime.kernels.sample import sample, sample_ref

# temperature, top_k, top_p, min_p
SAMPLINGS = {
    "temperature": (0.8, -1, 1.0, 0.0),
    "top-p": (0.8, -1, 0.95, 0.0),
    "top-k 50": (0.8, 50, 1.0, 0.0),
    "top-k 50, top-p": (0.8, 50, 0.95, 0.0),
    "min-p": (0.8, -1, 1.0, 0.05),
    "top-k 50, top-p, min-p": (0.8, 50, 0.95, 0.05),
}


def bench_sampling(bench: Bench) -> None:
    """Times of one launch; the limit is one read of the logits."""
    vocab = 300 if bench.smoke else 151936
    for rows in (2,) if bench.smoke else (1, 64, 256):
        flat = torch.randn(rows, vocab, device=bench.device)
        logits = flat * 3
        _bench_argmax(bench, logits)
        for name, params in SAMPLINGS.items():
            _bench_sample(bench, logits, name, params)
        for name in ("top-p", "top-k 50, top-p, min-p"):
            _bench_sample(bench, flat, f"flat, {name}", SAMPLINGS[name])
        _bench_bitmask(bench, logits)
        _bench_logprobs(bench, logits)


def _bench_argmax(bench: Bench, logits: torch.Tensor) -> None:
    rows = logits.shape[0]
    token, expected = (
        torch.full((rows,), -7, dtype=torch.int32, device=bench.device) for _ in range(2)
    )
    argmax(logits, token)
    argmax_ref(logits, expected)
    ours, theirs = (logits.gather(1, t[:, None].long()) for t in (token, expected))
    assert torch.equal(ours, theirs)  # of equal logits torch may name another
    us = bench.time_us([lambda: argmax(logits, token)])
    torch_us = round(bench.time_us([lambda: logits.argmax(-1)]), 1)
    limit = bench.bytes_us(logits.numel() * 4.0)
    bench.add("argmax", f"B={rows}", us, limit_us=limit, error=0.0, torch_us=torch_us)


def _bench_sample(
    bench: Bench, logits: torch.Tensor, name: str, params: tuple[float, int, float, float]
) -> None:
    rows = logits.shape[0]
    columns = [torch.full((rows,), p, device=bench.device, dtype=torch.float32) for p in params]
    columns[1] = columns[1].int()
    uniform = torch.rand(rows, device=bench.device)
    token, expected = (
        torch.full((rows,), -7, dtype=torch.int32, device=bench.device) for _ in range(2)
    )
    sample(logits, *columns, uniform, token)
    head = slice(0, 8)
    sample_ref(logits[head], *[c[head] for c in columns], uniform[head], expected[head])
    # Sums are rounded in another order: a draw next to a boundary may fall on the other side.
    differ = int((token[head] != expected[head]).sum())
    assert differ <= 1, (token[head], expected[head])
    us = bench.time_us([lambda: sample(logits, *columns, uniform, token)])
    limit = bench.bytes_us(logits.numel() * 4.0)
    bench.add("sample", f"{name}, B={rows}", us, limit_us=limit, error=0.0, differ=differ)


def _bench_bitmask(bench: Bench, logits: torch.Tensor) -> None:
    rows, vocab = logits.shape
    table = torch.randint(
        -(2**31), 2**31, (64, -(-vocab // 32)), dtype=torch.int32, device=bench.device
    )
    ids = (torch.arange(rows, device=bench.device) % 64).int()
    ours, theirs = logits.clone(), logits.clone()
    apply_bitmask(ours, table, ids)
    apply_bitmask_ref(theirs, table, ids)
    assert torch.equal(ours, theirs)
    us = bench.time_us([lambda: apply_bitmask(ours, table, ids)])
    limit = bench.bytes_us(rows * vocab * 8.125)  # logits read and written, bits read
    bench.add("apply_bitmask", f"B={rows}", us, limit_us=limit, error=0.0)


def _bench_logprobs(bench: Bench, logits: torch.Tensor) -> None:
    rows = logits.shape[0]
    token = torch.randint(0, logits.shape[1], (rows,), dtype=torch.int32, device=bench.device)
    for top in (0, 5, 20):
        outs = [
            (
                torch.full((rows,), float("nan"), device=bench.device),
                torch.full((rows, top), float("nan"), device=bench.device),
                torch.full((rows, top), -7, dtype=torch.int32, device=bench.device),
            )
            for _ in range(2)
        ]
        logprobs(logits, token, *outs[0])
        logprobs_ref(logits, token, *outs[1])
        error = (outs[0][0] - outs[1][0]).abs().max().item()
        torch.testing.assert_close(outs[0][:2], outs[1][:2], atol=1e-3, rtol=1e-4)
        us = bench.time_us([lambda out=outs[0]: logprobs(logits, token, *out)])
        limit = bench.bytes_us(logits.numel() * 4.0)
        bench.add("logprobs", f"top {top}, B={rows}", us, limit_us=limit, error=error)
