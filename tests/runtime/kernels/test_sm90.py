"""Every kernel compiles for sm_90 without a GPU: the interpreter accepts more than the compiler."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def report() -> dict[str, dict]:
    """Kernel -> resources. In its own process: here the kernels are the interpreter's."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("sm90.py")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    for row in rows:
        print(row)  # shown with -s and on failure
    return {row["kernel"]: row for row in rows}


def test_kernels_fit_the_device(report):
    assert len(report) >= 17
    for row in report.values():
        assert row["shared_bytes"] <= 227 * 1024, row
        assert row["stack_bytes"] <= 512, row


def test_decode_kernels_hardly_spill(report):
    for name in (
        "attention, decode, 128",
        "attention, decode, 64",
        "linear_small, 1 row",
        "linear_small, 1 row, gated",
        "linear_small, 16 rows",
        "sample, scan",
        "sample, narrow",
        "sample, bound",
        "sample, list",
        "sample, finish",
        "argmax",
        "rms_norm",
        "gated",
        "rope_store",
    ):
        assert report[name]["stack_bytes"] <= 16, report[name]


def test_large_tiles_use_the_warpgroup_tensor_cores(report):
    for name, row in report.items():
        if "tiles" in name:
            assert row["wgmma"] > 0, row
