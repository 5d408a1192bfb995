"""Grammar masks: logits[b, t] = -inf where bit t % 32 of table[row_ids[b], t // 32] is 0.

B rows of logits, V vocabulary, R rows of the table, W = ceil(V / 32) words. A mask is uploaded once
and then named by its row, by any request in that grammar state; -1 = this row has no grammar.
"""

import torch
import triton
import triton.language as tl


def apply_bitmask_ref(logits_BV, table_RW, row_ids_B) -> None:
    """The same in torch."""
    vocab = logits_BV.shape[1]
    shifts = torch.arange(32, dtype=torch.int32, device=logits_BV.device)
    for row, mask_id in enumerate(row_ids_B.tolist()):
        if mask_id >= 0:
            allowed = (table_RW[mask_id][:, None] >> shifts) & 1
            logits_BV[row].masked_fill_(allowed.flatten()[:vocab] == 0, float("-inf"))


@triton.jit
def _apply_bitmask_kernel(
    logits_ptr, table_ptr, row_ids_ptr, stride_b, stride_r, V, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    mask_id = tl.load(row_ids_ptr + row).to(tl.int64)
    if mask_id < 0:
        return
    word = tl.program_id(1) * (BLOCK // 32) + tl.arange(0, BLOCK // 32)
    bits = tl.load(table_ptr + mask_id * stride_r + word, mask=word * 32 < V, other=-1)
    if tl.min((bits == -1).to(tl.int32), 0) == 0:
        token = word[:, None] * 32 + tl.arange(0, 32)[None, :]
        at = logits_ptr + row * stride_b + token
        minus_inf = tl.full([BLOCK // 32, 32], float("-inf"), tl.float32)
        minus_inf = minus_inf.to(logits_ptr.dtype.element_ty)
        # Whole vectors are written: single logits under a mask take longer than reading them too.
        if tl.max((bits != 0).to(tl.int32), 0) == 0:
            tl.store(at, minus_inf, mask=token < V)
        else:
            banned = ((bits[:, None] >> tl.arange(0, 32)[None, :]) & 1) == 0
            x = tl.load(at, mask=token < V, other=0.0)
            tl.store(at, tl.where(banned, minus_inf, x), mask=token < V)


def apply_bitmask(logits_BV, table_RW, row_ids_B) -> None:
    """Mask logits_BV in place. table_RW int32 [R, W], row_ids_B int32 [B]; rows may be strided."""
    rows, vocab = logits_BV.shape
    if table_RW.shape[1] * 32 < vocab or table_RW.dtype != torch.int32:
        raise ValueError(
            f"bitmask table {tuple(table_RW.shape)} {table_RW.dtype}: must be int32 with at least "
            f"{-(-vocab // 32)} words a row"
        )
    if not rows:
        return
    block = 4096
    _apply_bitmask_kernel[(rows, triton.cdiv(vocab, block))](
        logits_BV, table_RW, row_ids_B, logits_BV.stride(0), table_RW.stride(0), vocab, BLOCK=block
    )
