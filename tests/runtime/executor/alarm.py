"""The alarm: within `no_waiting`, whatever would make the host wait for a GPU is an error.

On a GPU torch itself knows (`set_sync_debug_mode`). On a CPU nothing ever waits, so the calls that
would are caught by name: reading a tensor's values, and making a tensor from host data anywhere but
in the places that copy through pinned memory. Triton's interpreter is let through.
"""

import contextlib
import sys
from collections.abc import Iterator

import pytest
import torch

READS = (
    *("item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__"),
    "__index__",
)
COPIES = ("tensor", "as_tensor", "from_numpy", "nonzero")
PINNED = {("batch.py", "to_device"), ("batch.py", "upload"), ("work_buffers.py", "load")}


class Waits(AssertionError):
    """A call that waits for the device."""


@contextlib.contextmanager
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail on a call that waits."""
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return
    with monkeypatch.context() as patch:
        for name in READS:
            patch.setattr(torch.Tensor, name, _guarded(getattr(torch.Tensor, name), name))
        for name in COPIES:
            patch.setattr(torch, name, _guarded(getattr(torch, name), f"torch.{name}"))
        yield


def _guarded(call, name):
    def guarded(*args, **kwargs):
        frames = _frames(sys._getframe(1))
        if not any(_is_let_through(frame) for frame in frames):
            raise Waits(f"{name} waits for the device")
        return call(*args, **kwargs)

    return guarded


def _frames(frame):
    while frame is not None:
        yield frame.f_code
        frame = frame.f_back


def _is_let_through(code) -> bool:
    place = code.co_filename.rsplit("/", 1)[-1], code.co_name
    return "/triton/" in code.co_filename or place in PINNED
