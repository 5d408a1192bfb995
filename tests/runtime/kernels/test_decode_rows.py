"""The ends of a decode step in Triton's interpreter against torch."""

import torch

from ramify.runtime.kernels.decode_rows import (
    begin_rows,
    begin_rows_ref,
    end_rows,
    end_rows_ref,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make(num_rows, *, num_padding, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = torch.randperm(300, generator=generator)[:num_rows]
    index = torch.randperm(4000, generator=generator)[:num_rows] + 1
    position = torch.arange(num_rows)
    slot = torch.randint(0, 9000, (num_rows,), generator=generator)
    if num_padding:
        state[-num_padding:], slot[-num_padding:], index[-num_padding:] = 300, -1, 0
    rows = torch.stack([state, position, slot, index]).to(DEVICE, torch.int32)
    slots = torch.zeros(5000, dtype=torch.int32, device=DEVICE)
    last = torch.randint(0, 900, (301,), generator=generator).to(DEVICE, torch.int32)
    return rows, slots, last


def test_rows_begin_with_their_last_token_and_list_their_slot():
    rows, slots, last = make(200, num_padding=3)
    expected, ids, ids_ref = slots.clone(), *torch.full((2, 200), -7, dtype=torch.int32).to(DEVICE)
    begin_rows(rows, slots, last, ids)
    begin_rows_ref(rows, expected, last, ids_ref)
    assert ids.equal(ids_ref) and slots.equal(expected)
    assert slots.count_nonzero() > 190 and slots[0] == 0


def test_rows_keep_their_token_or_zero():
    rows, _, last = make(130, num_padding=0)
    tokens = torch.arange(130, dtype=torch.int32, device=DEVICE) - 1
    expected = last.clone()
    end_rows(rows, tokens, last)
    end_rows_ref(rows, tokens, expected)
    assert last.equal(expected)
    assert last[rows[0, 0].item()] == 0
