"""Greedy choice: the index of each row's largest logit, the lowest one of equals.

B rows, V vocabulary. -1 where there is no choice: a row with NaN, or whose maximum is infinite
(all tokens are banned, or the model overflowed). A program for each chunk of a row; whoever
finishes a row's last chunk compares them.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl

from ramify.runtime.kernels.sample_bracket import arrive, cut_rows, scan_chunk


def argmax_ref(logits_BV, token_B) -> None:
    """The same in torch."""
    best, index = logits_BV.float().max(-1)
    fits = torch.isfinite(best)  # NaN wins a maximum
    token_B.copy_(torch.where(fits, index, -1))


# fmt: off
@triton.jit
def _argmax_kernel(
    logits_ptr, token_ptr, peaks_ptr, indices_ptr, arrived_ptr, stride_b, V, BLOCK: tl.constexpr,
    STRIP: tl.constexpr, CHUNKS: tl.constexpr,
):
    chunk, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    num_chunks = tl.num_programs(0)
    peak, index, _, _, _ = scan_chunk(logits_ptr + row * stride_b, chunk * BLOCK, V, BLOCK, STRIP)
    tl.store(peaks_ptr + row * CHUNKS + chunk, peak)
    tl.store(indices_ptr + row * CHUNKS + chunk, index)
    if arrive(arrived_ptr + row, num_chunks):
        c = tl.arange(0, CHUNKS)
        at = row * CHUNKS + c
        peak_C = tl.load(peaks_ptr + at, mask=c < num_chunks, other=float("-inf"))
        index_C = tl.load(indices_ptr + at, mask=c < num_chunks, other=2147483647)
        peak = tl.max(peak_C, 0)
        index = tl.min(tl.where(peak_C == peak, index_C, 2147483647), 0)
        tl.store(token_ptr + row, tl.where(tl.abs(peak) < float("inf"), index, -1))


@lru_cache(maxsize=64)
def _scratch(
    rows: int, most_chunks: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Peak and index of each chunk, and the count of those that arrived, for one stream's calls."""
    return (
        torch.empty(rows * most_chunks, dtype=torch.float32, device=device),
        torch.empty(rows * most_chunks, dtype=torch.int32, device=device),
        torch.zeros(rows, dtype=torch.int32, device=device),
    )


def argmax(logits_BV, token_B) -> None:
    """logits_BV [B, V] of any float dtype, rows may be strided -> token_B [B] int32.

    Calls share scratch memory: run them on one stream.
    """
    rows, vocab = logits_BV.shape
    if logits_BV.stride(1) != 1:
        raise ValueError("the vocabulary must be contiguous")
    if not rows:
        return
    chunks = cut_rows(vocab)
    scratch = _scratch(triton.next_power_of_2(rows), chunks.most, logits_BV.device)
    _argmax_kernel[(chunks.num, rows)](
        logits_BV, token_B, *scratch, logits_BV.stride(0), vocab, BLOCK=chunks.block,
        STRIP=chunks.strip, CHUNKS=chunks.most, num_warps=4,
    )
# fmt: on
