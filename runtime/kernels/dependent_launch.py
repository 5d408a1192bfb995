"""Programmatic dependent launch: a kernel begins while the one before it on the stream still ends.

Every kernel of the forward pass lets the next one in at its start, and waits, before it reads
or writes what any other kernel touches, until all before it are done with everything they write.
What comes before that wait runs beside the tail of the kernel before: only what no kernel of the
pass writes may be read there, such as weights. On sm_90 and later (CUDA C++ Programming Guide,
"Programmatic Dependent Launch and Synchronization"); elsewhere kernels follow each other as usual.
"""

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl


@triton.jit
def let_next_begin(DEPENDENT: tl.constexpr):
    """The next kernel may begin once every program of this one has come here or ended."""
    if DEPENDENT:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def wait_for_previous(DEPENDENT: tl.constexpr):
    """Wait until the kernels before this one have ended and their writes can be seen."""
    if DEPENDENT:
        tl.extra.cuda.gdc_wait()


@cache
def _can_overlap(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


def dependent_launch(device: torch.device) -> dict[str, Any]:
    """Launch options of a kernel that waits for the previous one by itself."""
    if _can_overlap(device):
        return {"DEPENDENT": True, "launch_pdl": True}
    return {"DEPENDENT": False}
