"""The two ends of a decode step: where its rows begin, and the tokens they end with.

B rows, N entries of the slot table, S rows of state, one of which each row of the step owns.
"""

import triton
import triton.language as tl


def begin_rows_ref(rows_4B, slots_N, last_token_S, ids_B) -> None:
    """The same in torch."""
    state, _, slot, index = rows_4B.long()
    slots_N[index[slot >= 0]] = slot[slot >= 0].to(slots_N.dtype)
    ids_B.copy_(last_token_S[state])


def end_rows_ref(rows_4B, token_B, last_token_S) -> None:
    """The same in torch."""
    last_token_S[rows_4B[0].long()] = token_B.clamp(min=0)


@triton.jit
def _begin_rows_kernel(
    rows_ptr, slots_ptr, last_token_ptr, ids_ptr, stride, B, BLOCK: tl.constexpr
):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = i < B
    state = tl.load(rows_ptr + i, mask=live, other=0)
    slot = tl.load(rows_ptr + 2 * stride + i, mask=live, other=-1)
    index = tl.load(rows_ptr + 3 * stride + i, mask=live, other=0)
    tl.store(slots_ptr + index, slot, mask=live & (slot >= 0))
    tl.store(ids_ptr + i, tl.load(last_token_ptr + state, mask=live, other=0), mask=live)


@triton.jit
def _end_rows_kernel(rows_ptr, token_ptr, last_token_ptr, B, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = i < B
    state = tl.load(rows_ptr + i, mask=live, other=0)
    token = tl.load(token_ptr + i, mask=live, other=0)
    tl.store(last_token_ptr + state, tl.maximum(token, 0), mask=live)


def begin_rows(rows_4B, slots_N, last_token_S, ids_B) -> None:
    """List each row's new slot, and look up the token it starts from.

    rows_4B [4, B] int32: row of state, position, slot (-1: none), its index in the table; slots_N
    [N], last_token_S [S], ids_B [B] int32.
    """
    num_rows = rows_4B.shape[1]
    _begin_rows_kernel[(triton.cdiv(num_rows, 128),)](
        rows_4B, slots_N, last_token_S, ids_B, rows_4B.stride(0), num_rows, BLOCK=128
    )


def end_rows(rows_4B, token_B, last_token_S) -> None:
    """Keep each row's token for its next step; 0 where there was no choice (-1)."""
    num_rows = rows_4B.shape[1]
    _end_rows_kernel[(triton.cdiv(num_rows, 128),)](
        rows_4B, token_B, last_token_S, num_rows, BLOCK=128
    )
