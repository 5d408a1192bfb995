"""All kernels on one GPU: correctness first, then times, one table, JSON under results/."""

import argparse
import json
import time
from pathlib import Path

from benchmarks.kernels.bench_attention import bench_attention
from benchmarks.kernels.bench_chunk_attention import bench_chunk_attention
from benchmarks.kernels.bench_decode_mix import bench_decode_mix
from benchmarks.kernels.bench_linear_small import (
    bench_gated_linear,
    bench_linear_small,
    bench_many_rows,
)
from benchmarks.kernels.bench_pointwise import bench_pointwise
from benchmarks.kernels.bench_sampling import bench_sampling
from benchmarks.kernels.measure import Bench, environment, format_row, measure_ceilings

FAMILIES = {
    "attention": bench_attention,
    "chunk_attention": bench_chunk_attention,
    "decode_mix": bench_decode_mix,
    "linear_small": bench_linear_small,
    "many_rows": bench_many_rows,
    "gated_linear": bench_gated_linear,
    "sampling": bench_sampling,
    "pointwise": bench_pointwise,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--smoke", action="store_true", help="tiny shapes, nothing timed")
    parser.add_argument("--commit", help="default: git describe")
    parser.add_argument("--out", type=Path, help="folder for the table and the JSON")
    options = parser.parse_args()
    bench = Bench(smoke=options.smoke)
    about = environment(options.commit)
    measure_ceilings(bench)
    about |= {
        "read_gbs": str(round(bench.read_gbs)),
        "matmul_tflops": str(round(bench.matmul_tflops)),
    }
    print(json.dumps(about), flush=True)
    for name in options.only:
        started = time.monotonic()
        FAMILIES[name](bench)
        print(f"-- {name}: {time.monotonic() - started:.0f} s", flush=True)
        if options.out is not None:  # after each family: a run that is cut short keeps the rest
            save(options.out, about, bench)


def save(folder: Path, about: dict[str, str], bench: Bench) -> None:
    """The JSON and the same as a table, named by GPU and date."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"kernels-{about['gpu'].split()[-1].lower()}-{about['date']}"
    rows = {"about": about, "rows": bench.rows}
    (folder / f"{stem}.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [json.dumps(about), "", *(format_row(row) for row in bench.rows)]
    (folder / f"{stem}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
