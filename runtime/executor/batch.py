"""From a plan to the tensors of one forward pass. All host-to-device copies of a step are here."""

from dataclasses import dataclass

import numpy as np
import torch

from ramify.runtime.core import BatchPlan


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One step on the device. Tokens of request r are rows q_indptr[r]..q_indptr[r + 1]."""

    input_ids: torch.Tensor  # [num_tokens] int64: token of each row
    positions: torch.Tensor  # [num_tokens] int64: its place in its sequence
    out_loc: torch.Tensor  # [num_tokens] int32: KV slot its K and V go to, -1 = not stored
    q_indptr: torch.Tensor  # [num_requests + 1] int32: where each request's rows start
    kv_indptr: torch.Tensor  # [num_requests + 1] int32: where each request's slot_ids start
    slot_ids: torch.Tensor  # [num_indices] int32: KV slot of each position, rows laid end to end
    logit_rows: torch.Tensor  # [num_logits] int64: rows whose logits are needed; see num_sampled
    num_sampled: (
        int  # of logit_rows, the first ones: they choose a token; the rest score known ones
    )
    q_lens: tuple[int, ...]  # rows of each request, on the host
    kv_lens: tuple[int, ...]  # positions each request's last row sees, on the host

    @property
    def num_tokens(self) -> int:
        """Rows of the forward pass."""
        return self.input_ids.shape[0]


def prepare(plan: BatchPlan, device: torch.device) -> Batch:
    """The complete batch of `plan`. Slots of all positions below each `end` must be set."""
    rows = plan.rows
    assert rows and all(entry.start < entry.end for entry in rows), rows
    q_lens = tuple(entry.end - entry.start for entry in rows)
    kv_lens = tuple(entry.end for entry in rows)
    q_indptr = _indptr(q_lens)
    sampled = [q_indptr[i + 1] - 1 for i, entry in enumerate(rows) if entry.sample]
    scored = [
        q_indptr[i] + position - entry.start
        for i, entry in enumerate(rows)
        for position in entry.scored
    ]
    out_loc = np.concatenate([entry.request.slots[entry.start : entry.end] for entry in rows])
    for i, entry in enumerate(rows):
        out_loc[q_indptr[i] : q_indptr[i] + entry.write_from - entry.start] = -1
    input_ids = np.concatenate(
        [np.asarray(entry.request.token_ids[entry.start : entry.end], np.int64) for entry in rows]
    )
    assert input_ids.size == q_indptr[-1], (input_ids.size, q_lens)
    return Batch(
        input_ids=to_device(input_ids, device),
        positions=to_device(
            np.concatenate([np.arange(entry.start, entry.end) for entry in rows]), device
        ),
        out_loc=to_device(out_loc, device),
        q_indptr=to_device(q_indptr, device),
        kv_indptr=to_device(_indptr(kv_lens), device),
        slot_ids=to_device(np.concatenate([e.request.slots[: e.end] for e in rows]), device),
        logit_rows=to_device(np.asarray(sampled + scored, np.int64), device),
        num_sampled=len(sampled),
        q_lens=q_lens,
        kv_lens=kv_lens,
    )


def _indptr(lens: tuple[int, ...]) -> np.ndarray:
    indptr = np.zeros(len(lens) + 1, np.int32)
    np.cumsum(lens, out=indptr[1:])
    return indptr


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """Where a step's arrays leave the host; on the CPU nothing is copied."""
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def upload(array: np.ndarray, out: torch.Tensor) -> None:
    """The same, to where graphs read it."""
    tensor = torch.from_numpy(array)
    out.copy_(tensor.pin_memory() if out.is_cuda else tensor, non_blocking=True)
