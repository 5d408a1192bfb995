"""Adding up the partial results of rows that several items of a work list attended for: see
`attention` for what they are, and for who does this when.
"""

import triton
import triton.language as tl

from ramify.runtime.kernels.dependent_launch import (
    dependent_launch,
    let_next_begin,
    wait_for_previous,
)


# fmt: off
@triton.jit
def _merge(
    out_ptr, parts_ptr, lse_ptr, row, kv_head, first, count, stride_ot, stride_oh, H: tl.constexpr,
    GROUP: tl.constexpr, BLOCK_G: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr,
    PARTS: tl.constexpr,
):
    """Add up one row's parts, PARTS at a time so that their loads are in flight together."""
    p = tl.arange(0, PARTS)
    g = tl.arange(0, BLOCK_G)
    d = tl.arange(0, BLOCK_D)
    head = kv_head * GROUP + g
    m = tl.full([BLOCK_G], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_G], tl.float32)
    acc = tl.zeros([BLOCK_G, BLOCK_D], tl.float32)
    for start in range(0, count, PARTS):
        live = (start + p < count)[:, None] & (g < GROUP)[None, :]
        at = (first + start + p).to(tl.int64)[:, None] * H + head[None, :]
        # .cg: other SMs wrote these; do not look in this one's L1
        s = tl.load(lse_ptr + at, mask=live, other=float("-inf"), cache_modifier=".cg")
        o = tl.load(
            parts_ptr + at[:, :, None] * D + d[None, None, :],
            mask=live[:, :, None] & (d < D)[None, None, :],
            other=0.0,
            cache_modifier=".cg",
        )
        m_new = tl.maximum(m, tl.max(s, 0))
        shift = tl.where(m_new == float("-inf"), 0.0, m_new)
        weight = tl.exp2(s - shift[None, :])
        shrink = tl.exp2(m - shift)
        acc = acc * shrink[:, None] + tl.sum(o * weight[:, :, None], 0)
        total = total * shrink + tl.sum(weight, 0)
        m = m_new
    o = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    at = out_ptr + row * stride_ot + head[:, None] * stride_oh + d[None, :]
    live = (g < GROUP)[:, None] & (d < D)[None, :]
    tl.store(at, o.to(out_ptr.dtype.element_ty), mask=live)


@triton.jit
def merge_finished(
    out_ptr, parts_ptr, lse_ptr, arrived_ptr, num_rows, kv_head, is_part, row, first_part,
    num_parts, stride_ot, stride_oh, K: tl.constexpr, GROUP: tl.constexpr, BLOCK_G: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr, PARTS: tl.constexpr,
):
    """Count an item's parts as arrived, and add up the rows whose last part it was."""
    i = tl.arange(0, ROWS)
    at_row = arrived_ptr + row * K + kv_head
    counts = is_part & (i % GROUP == 0)
    tl.debug_barrier()  # all threads' parts are written before any thread counts the arrival
    arrived = tl.atomic_add(at_row, 1, mask=counts, sem="acq_rel")
    is_last = counts & (arrived == num_parts - 1)
    if tl.max(is_last.to(tl.int32)) > 0:
        tl.debug_barrier()
        tl.store(at_row, 0, mask=is_last)
        for r in range(num_rows):
            is_r = is_last & (i == r * GROUP)
            count = tl.max(tl.where(is_r, num_parts, 0))
            if count > 0:
                _merge(
                    out_ptr, parts_ptr, lse_ptr, tl.max(tl.where(is_r, row, 0)), kv_head,
                    tl.max(tl.where(is_r, first_part, 0)), count, stride_ot, stride_oh, K * GROUP,
                    GROUP, BLOCK_G, D, BLOCK_D, PARTS,
                )


@triton.jit
def _merge_kernel(
    out_ptr, parts_ptr, lse_ptr, rows_ptr, row_parts_ptr, stride_ot, stride_oh, K: tl.constexpr,
    GROUP: tl.constexpr, BLOCK_G: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr,
    PARTS: tl.constexpr, DEPENDENT: tl.constexpr,
):
    """Add up the parts of one row and KV head."""
    let_next_begin(DEPENDENT)
    row = tl.load(rows_ptr + tl.program_id(0)).to(tl.int64)
    first = tl.load(row_parts_ptr + row * 2, mask=row >= 0, other=0)
    count = tl.load(row_parts_ptr + row * 2 + 1, mask=row >= 0, other=0)
    wait_for_previous(DEPENDENT)
    if count > 1:
        _merge(
            out_ptr, parts_ptr, lse_ptr, row, tl.program_id(1), first, count, stride_ot, stride_oh,
            K * GROUP, GROUP, BLOCK_G, D, BLOCK_D, PARTS,
        )


def merge_parts(work, out_THD, num_kv_heads: int) -> None:
    """Add up the parts of rows of `out_THD` [T, H, D]: a program for each such row and KV head."""
    num_rows, num_heads, head_size = out_THD.shape
    if work.num_merged is not None:
        num_rows = work.num_merged
    if not num_rows:
        return
    block_g = triton.next_power_of_2(num_heads // num_kv_heads)
    block_d = triton.next_power_of_2(head_size)
    _merge_kernel[(num_rows, num_kv_heads)](
        out_THD, work.parts, work.part_lse, work.merged_rows, work.row_parts,
        out_THD.stride(0), out_THD.stride(1),
        K=num_kv_heads,
        GROUP=num_heads // num_kv_heads,
        BLOCK_G=block_g,
        D=head_size,
        BLOCK_D=block_d,
        PARTS=parts_at_once(block_g * block_d, 1),
        num_warps=1,  # so that parts are added up within threads
        **dependent_launch(out_THD.device),
    )


def parts_at_once(size: int, num_warps: int) -> int:
    """Parts of `size` numbers that fit the registers of a program together."""
    return max(2, min(32, 32 * 128 * num_warps // size))
# fmt: on
