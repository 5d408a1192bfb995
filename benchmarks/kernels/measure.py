"""Timing under CUDA graphs, error against a reference, and the rows of the table."""

import datetime
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import triton

GRAPH_CALLS = 64  # launches in a graph, if they fit
GRAPH_US = 10_000  # its length
L2_BYTES = 60 << 20


@dataclass
class Bench:
    """One run: what was measured, and the device's ceilings that shares refer to."""

    smoke: bool
    read_gbs: float = float("nan")  # measured: bytes read per second, in GB
    matmul_tflops: float = float("nan")  # measured: bf16 products
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def device(self) -> str:
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def dtype(self) -> torch.dtype:
        """bfloat16; the interpreter multiplies it wrongly, so float16 there."""
        return torch.bfloat16 if torch.cuda.is_available() else torch.float16

    def randn(self, *shape: int) -> torch.Tensor:
        """Normal numbers, made on the device in its 16-bit type."""
        return torch.randn(*shape, device=self.device, dtype=self.dtype)

    def copies(self, num_bytes: float) -> int:
        """How many sets of inputs a graph must rotate through to find none of them in L2."""
        return 1 if self.smoke else max(1, min(32, int(5 * L2_BYTES // max(num_bytes, 1)) + 1))

    def time_us(self, calls: Sequence[Callable[[], object]]) -> float:
        """Microseconds of one call: the median of replays of a graph of all of them, repeated."""
        for call in calls:
            call()
        if self.smoke or self.device == "cpu":
            return float("nan")
        once = self._elapsed_us(lambda: [call() for call in calls])
        repeats = max(1, min(-(-GRAPH_CALLS // len(calls)), int(GRAPH_US // once)))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(repeats):
                for call in calls:
                    call()
        times = [self._elapsed_us(graph.replay) for _ in range(12)][2:]
        return sorted(times)[len(times) // 2] / (repeats * len(calls))

    @staticmethod
    def _elapsed_us(work: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) * 1e3

    def add(
        self, op: str, case: str, us: float, *, limit_us: float, error: float, **more: object
    ) -> None:
        """Keep and print a row. `limit_us` is the least time the device's ceilings allow."""
        row = {"op": op, "case": case, "us": round(us, 2), "limit_us": round(limit_us, 2)}
        row |= {"share": round(limit_us / us, 3), "error": float(f"{error:.1e}"), **more}
        self.rows.append(row)
        print(format_row(row), flush=True)

    def bytes_us(self, num_bytes: float) -> float:
        return num_bytes / self.read_gbs * 1e-3

    def flops_us(self, num_flops: float) -> float:
        return num_flops / self.matmul_tflops * 1e-6


def rate(amount: float, us: float, unit: float) -> int | None:
    """`amount` a second in units of `unit`; None if nothing was timed."""
    return None if us != us else round(amount / us * 1e6 / unit)


def error_of(out: torch.Tensor, expected: torch.Tensor, most: float) -> float:
    """Relative error; raises if it is above `most` or not a number."""
    error = ((out.double() - expected.double()).norm() / expected.double().norm()).item()
    assert error <= most, f"relative error {error}: at most {most}"
    return error


def format_row(row: dict[str, Any]) -> str:
    known = ("op", "case", "us", "limit_us", "share", "error")
    rest = "  ".join(f"{k}={v}" for k, v in row.items() if k not in known)
    return (
        f"{row['op']:<14} {row['case']:<30} {row['us']:>9} us  limit {row['limit_us']:>8}  "
        f"share {row['share']:>6}  err {row['error']:.1e}  {rest}"
    )


def measure_ceilings(bench: Bench) -> None:
    """Read bandwidth by a sum over 4 GB, matrix rate by an 8192-cube in bf16 on random data."""
    if bench.smoke or bench.device == "cpu":
        bench.read_gbs, bench.matmul_tflops = 1.0, 1.0
        return
    x = torch.randn(1 << 30, device="cuda")
    bench.read_gbs = x.numel() * 4 / bench.time_us([x.sum]) * 1e-3
    a, b = bench.randn(8192, 8192), bench.randn(8192, 8192)
    bench.matmul_tflops = 2 * 8192**3 / bench.time_us([lambda: a @ b]) * 1e-6


def environment(commit: str | None) -> dict[str, str]:
    """What a number must be read with."""
    gpu, driver = "none", "none"
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_name()
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True).stdout.strip()
    if commit is None:
        describe = ["git", "describe", "--always", "--dirty"]
        commit = subprocess.run(describe, capture_output=True, text=True).stdout.strip()
    return {
        "gpu": gpu,
        "driver": driver,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "commit": commit,
        "date": datetime.date.today().isoformat(),
    }
