"""Kernels run in Triton's interpreter on a machine without a GPU."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when a kernel is defined


@pytest.fixture
def half() -> torch.dtype:
    """The 16-bit type to test with: the interpreter rounds and multiplies bfloat16 wrongly."""
    return torch.bfloat16 if torch.cuda.is_available() else torch.float16
