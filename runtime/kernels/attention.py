"""Attention over a work list: decode, shared prefixes and prefill by one kernel, launched for large
items and for small ones side by side.

out[t, h] = sum_j p[j] v[slot(j)],  p = softmax over j <= position[t] of scale q[t, h] . k[slot(j)]

An item (see `work_list`) is rows x positions; one program handles (item, KV head) with the query
heads of the group as extra rows, so a shared prefix is read once for all its forks. A row cut over
several items gets partial results o_i with their log-sum-exp s_i, which are added up in order of
position whatever the order of arrival:

    out = sum_i 2^(s_i - s) o_i,  s = log2 sum_i 2^s_i

Whoever finishes a row's last item does that, at once, where all items are small. Where one program
would have many rows to add up, at the end of all, a last launch does it with a program for each.

T query rows, H query heads, S slots, K KV heads, D head size, N entries of the slot table.
Options: a sliding window (position j is seen from t if t - j < window) and a soft cap on scores
(s -> cap * tanh(s / cap)). Rows that no item names are left as they are.
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from ramify.runtime.kernels.attention_merge import merge_finished, merge_parts, parts_at_once
from ramify.runtime.kernels.attention_tiles import StepTiles, Tiles
from ramify.runtime.kernels.dependent_launch import (
    dependent_launch,
    let_next_begin,
    wait_for_previous,
)
from ramify.runtime.kernels.work_buffers import MAX_PROGRAMS
from ramify.runtime.kernels.work_list import ITEM_FIELDS, SMALL_ROWS

LOG2E = tl.constexpr(1.4426950408889634)
RUN_STAGES = tl.constexpr(3)  # of loads through descriptors, which need no slots first


def attention_ref(
    q_THD, k_SKD, v_SKD, slots_N, positions_T, work, out_THD, *, scale, window=None, soft_cap=None
) -> None:
    """Each row by itself: gather the positions of all its items, one softmax, in float64."""
    seen: dict[int, list[torch.Tensor]] = {}
    items = torch.cat((work.large_items, work.small_items)).view(-1, ITEM_FIELDS)
    for row_start, num_rows, _, _, base, start, end, _ in items.tolist():
        for row in work.item_rows[row_start : row_start + num_rows].tolist():
            position = int(positions_T[row])
            low = start if window is None else max(start, position - window + 1)
            j = torch.arange(low, max(low, min(end, position + 1)), device=q_THD.device)
            seen.setdefault(row, []).append(slots_N[base + j].long())
    group = q_THD.shape[1] // k_SKD.shape[1]
    for row, lists in seen.items():
        slots = torch.cat(lists)
        k_JHD = k_SKD[slots].double().repeat_interleave(group, 1)
        v_JHD = v_SKD[slots].double().repeat_interleave(group, 1)
        score_HJ = torch.einsum("hd,jhd->hj", q_THD[row].double(), k_JHD) * scale
        if soft_cap is not None:
            score_HJ = soft_cap * torch.tanh(score_HJ / soft_cap)
        out_THD[row] = torch.einsum("hj,jhd->hd", score_HJ.softmax(-1), v_JHD).to(out_THD.dtype)


# fmt: off
@triton.jit
def _weigh(
    m, total, q, k, j, live, pos, scale, WINDOW: tl.constexpr, SOFT_CAP: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr,
):
    """Add positions j, with their K, to the running maximum and sum of a softmax; their weights in
    it, and what earlier ones shrink by."""
    to_log2 = LOG2E if SOFT_CAP > 0 else scale * LOG2E
    s = tl.dot(q, tl.trans(k.to(q.dtype)), input_precision=PRECISION)
    if SOFT_CAP > 0:
        s = SOFT_CAP * (1.0 - 2.0 / (1.0 + tl.exp2(s * (scale * 2.0 / SOFT_CAP * LOG2E))))
    if MASKED:
        seen = (j[None, :] <= pos[:, None]) & live[None, :]
        if WINDOW > 0:
            seen = seen & (pos[:, None] - j[None, :] < WINDOW)
        s = tl.where(seen, s, float("-inf"))
    m_new = tl.maximum(m, tl.max(s, 1))
    shift = m_new * to_log2
    if MASKED:  # a row that has seen nothing yet: keep -inf - -inf out
        shift = tl.where(m_new == float("-inf"), 0.0, shift)
    p = tl.exp2(s * to_log2 - shift[:, None])
    shrink = tl.exp2(m * to_log2 - shift)
    return p, shrink, m_new, total * shrink + tl.sum(p, 1)


@triton.jit
def _scan(
    acc, m, total, q, k_ptr, v_ptr, k_desc, v_desc, slots_ptr, first_slot, first_column, first, end,
    seen_end, pos, stride_ks, stride_vs, scale, D: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK: tl.constexpr, WINDOW: tl.constexpr, SOFT_CAP: tl.constexpr, MASKED: tl.constexpr,
    RUN: tl.constexpr, PRECISION: tl.constexpr,
):
    """Add positions [first, end) to the running softmax. Not MASKED: all rows see all of them; RUN:
    they stand in the pool one after the other from `first_slot` on.

    The slot table has entries up to `end`; K and V exist up to `seen_end`.
    """
    d = tl.arange(0, BLOCK_D)
    for j0 in tl.range(first, end, BLOCK, num_stages=RUN_STAGES if RUN else None):
        j = j0 + tl.arange(0, BLOCK)
        if RUN:
            k = k_desc.load([first_slot + j0 - first, first_column])
        elif MASKED:
            slot = tl.load(slots_ptr + j, mask=j < end, other=0).to(tl.int64)
            live_d = (j < seen_end)[:, None] & (d < D)[None, :]
            k = tl.load(k_ptr + slot[:, None] * stride_ks + d[None, :], mask=live_d, other=0.0)
        else:
            slot = tl.load(slots_ptr + j).to(tl.int64)
            if D == BLOCK_D:
                k = tl.load(k_ptr + slot[:, None] * stride_ks + d[None, :])
            else:
                live_d = (d < D)[None, :]
                k = tl.load(k_ptr + slot[:, None] * stride_ks + d[None, :], mask=live_d, other=0.0)
        p, shrink, m, total = _weigh(
            m, total, q, k, j, j < seen_end, pos, scale, WINDOW, SOFT_CAP, MASKED, PRECISION
        )
        if RUN:
            v = v_desc.load([first_slot + j0 - first, first_column])
        elif MASKED:
            v = tl.load(v_ptr + slot[:, None] * stride_vs + d[None, :], mask=live_d, other=0.0)
        elif D == BLOCK_D:
            v = tl.load(v_ptr + slot[:, None] * stride_vs + d[None, :])
        else:
            v = tl.load(v_ptr + slot[:, None] * stride_vs + d[None, :], mask=live_d, other=0.0)
        v = v.to(q.dtype)
        acc = tl.dot(p.to(q.dtype), v, acc * shrink[:, None], input_precision=PRECISION)
    return acc, m, total


@triton.jit
def _attend(
    unit, q_ptr, k_ptr, v_ptr, k_desc, v_desc, slots_ptr, positions_ptr, out_ptr, items_ptr,
    rows_ptr, item_parts_ptr, row_parts_ptr, arrived_ptr, parts_ptr, lse_ptr, stride_qt, stride_qh,
    stride_ks, stride_kh, stride_vs, stride_vh, stride_ot, stride_oh, scale, K: tl.constexpr,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, LARGE: tl.constexpr, WINDOW: tl.constexpr, SOFT_CAP: tl.constexpr,
    ITEM: tl.constexpr, PRECISION: tl.constexpr, BLOCK_G: tl.constexpr, PARTS: tl.constexpr,
    MERGE: tl.constexpr, WAIT: tl.constexpr,
):
    """One item for one KV head, up to writing its results; MERGE: the last one adds them up.

    WAIT: the kernels before may not have ended when it begins.
    """
    H: tl.constexpr = K * GROUP
    kv_head = unit % K
    entry = items_ptr + unit // K * ITEM
    row_start = tl.load(entry)
    num_rows = tl.load(entry + 1)
    first_row = tl.load(entry + 2)
    last_row = tl.load(entry + 3)
    slots_ptr += tl.load(entry + 4)
    start = tl.load(entry + 5)
    end = tl.load(entry + 6)
    seen_end = tl.minimum(end, tl.load(positions_ptr + last_row).to(tl.int32) + 1)

    i = tl.arange(0, ROWS)
    d = tl.arange(0, BLOCK_D)
    live = i < num_rows * GROUP
    live_d = live[:, None] & (d < D)[None, :]
    row = tl.load(rows_ptr + row_start + i // GROUP, mask=live, other=0).to(tl.int64)
    part = tl.load(item_parts_ptr + row_start + i // GROUP, mask=live, other=-1)
    pos = tl.load(positions_ptr + row, mask=live, other=2147483647).to(tl.int32)
    if MERGE:
        first_part = tl.load(row_parts_ptr + row * 2, mask=live, other=0)
        num_parts = tl.load(row_parts_ptr + row * 2 + 1, mask=live, other=0)
    lowest = tl.load(positions_ptr + first_row).to(tl.int32)
    if WINDOW > 0:
        start = tl.maximum(start, lowest - WINDOW + 1)
    k_ptr += kv_head.to(tl.int64) * stride_kh
    v_ptr += kv_head.to(tl.int64) * stride_vh
    wait_for_previous(WAIT)
    head = kv_head * GROUP + i % GROUP
    at = row[:, None] * stride_qt + head[:, None] * stride_qh + d[None, :]
    q = tl.load(q_ptr + at, mask=live_d, other=0.0)

    m = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, BLOCK_D], tl.float32)
    masked_start = start
    column = kv_head * D
    if LARGE:
        end = seen_end
        if WINDOW == 0:  # blocks that every row sees in full, without masks
            masked_start += tl.maximum(tl.minimum(end, lowest + 1) - start, 0) // BLOCK * BLOCK
            first_slot = tl.load(entry + 7)
            if k_desc is not None and first_slot >= 0:
                acc, m, total = _scan(
                    acc, m, total, q, k_ptr, v_ptr, k_desc, v_desc, slots_ptr, first_slot, column,
                    start, masked_start, end, pos, stride_ks, stride_vs, scale, D, BLOCK_D, BLOCK,
                    WINDOW, SOFT_CAP, False, True, PRECISION,
                )
            else:
                acc, m, total = _scan(
                    acc, m, total, q, k_ptr, v_ptr, k_desc, v_desc, slots_ptr, 0, column, start,
                    masked_start, end, pos, stride_ks, stride_vs, scale, D, BLOCK_D, BLOCK, WINDOW,
                    SOFT_CAP, False, False, PRECISION,
                )
    # A small item runs to its planned end: its loop waits for the item, not for the positions.
    acc, m, total = _scan(
        acc, m, total, q, k_ptr, v_ptr, k_desc, v_desc, slots_ptr, 0, column, masked_start, end,
        seen_end, pos, stride_ks, stride_vs, scale, D, BLOCK_D, BLOCK, WINDOW, SOFT_CAP, True,
        False, PRECISION,
    )

    divisor = tl.where(total == 0.0, 1.0, total)
    o = acc / divisor[:, None]
    at = row[:, None] * stride_ot + head[:, None] * stride_oh + d[None, :]
    whole = live & (part < 0)
    tl.store(out_ptr + at, o.to(out_ptr.dtype.element_ty), mask=live_d & whole[:, None])
    if tl.max(part) >= 0:
        to_log2 = LOG2E if SOFT_CAP > 0 else scale * LOG2E
        at_part = part.to(tl.int64) * H + head
        s = tl.where(total == 0.0, float("-inf"), m * to_log2 + tl.log2(divisor))
        is_part = part >= 0
        tl.store(parts_ptr + at_part[:, None] * D + d[None, :], o, mask=live_d & is_part[:, None])
        tl.store(lse_ptr + at_part, s, mask=is_part)
        if MERGE:
            merge_finished(
                out_ptr, parts_ptr, lse_ptr, arrived_ptr, num_rows, kv_head, is_part, row,
                first_part, num_parts, stride_ot, stride_oh, K, GROUP, BLOCK_G, D, BLOCK_D, ROWS,
                PARTS,
            )


@triton.jit
def _attention_kernel(
    q_ptr, k_ptr, v_ptr, k_desc, v_desc, slots_ptr, positions_ptr, out_ptr, items_ptr, rows_ptr,
    item_parts_ptr, row_parts_ptr, arrived_ptr, parts_ptr, lse_ptr, stride_qt, stride_qh, stride_ks,
    stride_kh, stride_vs, stride_vh, stride_ot, stride_oh, scale, K: tl.constexpr,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr, LARGE: tl.constexpr, WINDOW: tl.constexpr, SOFT_CAP: tl.constexpr,
    ITEM: tl.constexpr, PRECISION: tl.constexpr, BLOCK_G: tl.constexpr, PARTS: tl.constexpr,
    MERGE: tl.constexpr, BESIDE: tl.constexpr, DEPENDENT: tl.constexpr,
):
    """Program p takes units p, p + programs, ... of (item, KV head) up to an item without rows.

    BESIDE: this launch runs side by side with the one before it, which has waited already for what
    both read, and which let this one in only then; what comes next waits for both. Otherwise only
    what no kernel of the pass writes is read before the wait: items, positions and slots.
    """
    if LARGE:
        wait_for_previous(DEPENDENT)
        let_next_begin(DEPENDENT)  # small items; what comes after those, they keep out to the end
    unit = tl.program_id(0)
    while tl.load(items_ptr + unit // K * ITEM + 1) > 0:
        _attend(
            unit, q_ptr, k_ptr, v_ptr, k_desc, v_desc, slots_ptr, positions_ptr, out_ptr, items_ptr,
            rows_ptr, item_parts_ptr, row_parts_ptr, arrived_ptr, parts_ptr, lse_ptr, stride_qt,
            stride_qh, stride_ks, stride_kh, stride_vs, stride_vh, stride_ot, stride_oh, scale, K,
            GROUP, D, BLOCK_D, ROWS, BLOCK, LARGE, WINDOW, SOFT_CAP, ITEM, PRECISION, BLOCK_G,
            PARTS, MERGE, DEPENDENT and not LARGE and not BESIDE,
        )
        unit += tl.num_programs(0)
    wait_for_previous(DEPENDENT)  # a launch must not end before the one it depends on


def attention(
    q_THD, k_SKD, v_SKD, slots_N, positions_T, work, out_THD,
    *,
    scale,
    window=None,
    soft_cap=None,
    tiles: StepTiles,
    num_sms: int,
) -> None:
    """Write the attention of `work`'s rows to `out_THD`.

    q_THD [T, H, D] (any row and head stride); k_SKD, v_SKD [S, K, D], the pool of one layer;
    slots_N [N] int32 slot of each table entry; positions_T [T] of any integer; all on one device.
    A pool of a narrower type (fp8) is converted to q's when it is read.
    """
    num_heads, head_size = q_THD.shape[1:]
    num_kv_heads = k_SKD.shape[1]
    _check(q_THD, k_SKD, v_SKD, work, tiles)
    group = num_heads // num_kv_heads
    block_d, block_g = triton.next_power_of_2(head_size), triton.next_power_of_2(group)
    launch = dependent_launch(q_THD.device)
    for items, shape in ((work.large_items, tiles.large), (work.small_items, tiles.small)):
        if shape is None:
            continue
        num_programs = num_sms * shape.ctas_per_sm
        if num_programs > MAX_PROGRAMS:
            raise ValueError(f"{num_programs} programs: at most {MAX_PROGRAMS}; lower ctas_per_sm")
        _attention_kernel[(num_programs,)](
            q_THD, k_SKD, v_SKD, *_descriptors(k_SKD, v_SKD, shape, window), slots_N, positions_T,
            out_THD, items, work.item_rows, work.item_parts, work.row_parts, work.arrived,
            work.parts, work.part_lse,
            q_THD.stride(0), q_THD.stride(1), k_SKD.stride(0), k_SKD.stride(1), v_SKD.stride(0),
            v_SKD.stride(1), out_THD.stride(0), out_THD.stride(1), scale,
            K=num_kv_heads,
            GROUP=group,
            D=head_size,
            BLOCK_D=block_d,
            ROWS=shape.rows,
            BLOCK=shape.block,
            LARGE=shape is tiles.large,
            WINDOW=window or 0,
            SOFT_CAP=soft_cap or 0.0,
            ITEM=ITEM_FIELDS,
            PRECISION="ieee" if q_THD.dtype == torch.float32 else "tf32",
            BLOCK_G=block_g,
            PARTS=parts_at_once(block_g * block_d, shape.num_warps),
            MERGE=tiles.large is None,
            BESIDE=shape is tiles.small and tiles.large is not None,
            num_warps=shape.num_warps,
            num_stages=shape.num_stages,
            **launch,
        )
    if tiles.large is not None:
        merge_parts(work, out_THD, num_kv_heads)


def _descriptors(k_SKD, v_SKD, tiles: Tiles, window: int | None):
    """What large tiles load runs of consecutive slots through, [block, D] at a time; None where
    the device or the shape of the heads does not allow it."""
    head_size = k_SKD.shape[2]
    fits = k_SKD.is_contiguous() and v_SKD.is_contiguous() and not head_size & (head_size - 1)
    if tiles.rows == SMALL_ROWS or window or not fits:
        return None, None
    if k_SKD.is_cuda and torch.cuda.get_device_capability(k_SKD.device) < (9, 0):
        return None, None
    return tuple(
        TensorDescriptor.from_tensor(pool.flatten(1), [tiles.block, head_size])
        for pool in (k_SKD, v_SKD)
    )


def _check(q_THD, k_SKD, v_SKD, work, tiles: StepTiles) -> None:
    num_heads, num_kv_heads = q_THD.shape[1], k_SKD.shape[1]
    if num_heads % num_kv_heads:
        raise ValueError(f"{num_heads} query heads: must be a multiple of {num_kv_heads} KV heads")
    group = num_heads // num_kv_heads
    if group > SMALL_ROWS:
        raise ValueError(f"{group} query heads per KV head: at most {SMALL_ROWS}")
    if q_THD.stride(2) != 1 or k_SKD.stride(2) != 1 or v_SKD.stride(2) != 1:
        raise ValueError("q, k and v must be contiguous in the head dimension")
    tile_rows = tiles.large.rows if tiles.large else SMALL_ROWS
    if work.most_rows * group > tile_rows:
        raise ValueError(
            f"an item of {work.most_rows} x {group} rows: tiles of {tile_rows} cannot hold it; "
            "plan with the same tile_rows"
        )
# fmt: on
