"""The KV pool: the tensors that hold every cached position's keys and values."""

import math

import numpy as np
import torch


def kv_bytes_per_slot(num_layers: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
    """Bytes one slot takes in all layers, keys and values together."""
    return 2 * num_layers * num_kv_heads * head_dim * dtype.itemsize


class KVPool:
    """Keys and values by slot. Who may use which slot is the slot pool's business, not ours."""

    k: torch.Tensor  # [num_layers, num_slots, num_kv_heads, head_dim] model dtype, on the device
    v: torch.Tensor  # the same shape, dtype and place

    def __init__(
        self,
        *,
        num_layers: int,
        num_slots: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        shape = (num_layers, num_slots, num_kv_heads, head_dim)
        self.k = _zeros(shape, dtype, torch.device(device))
        self.v = _zeros(shape, dtype, torch.device(device))

    @property
    def num_slots(self) -> int:
        """Positions the pool can hold."""
        return self.k.shape[1]

    @property
    def num_bytes(self) -> int:
        """Memory of both tensors."""
        return self.k.nbytes + self.v.nbytes


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros, not empty: a slot never written must not hold NaN, which 0 * NaN would spread.

    On the CPU numpy's zeros: the system's own zero pages, which cost nothing until written, where
    torch's write every byte (3 s for a pool of 3.5 GB).
    """
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    num_bytes = math.prod(shape) * dtype.itemsize
    return torch.from_numpy(np.zeros(num_bytes, np.uint8)).view(dtype).view(shape)
