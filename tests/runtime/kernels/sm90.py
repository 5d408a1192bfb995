"""Compile a Triton kernel for sm_90 on a machine without a GPU, and read what it uses."""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


class Compiled(NamedTuple):
    registers: int  # per thread
    stack_bytes: int  # per thread: what does not fit in registers and spills
    shared_bytes: int  # per CTA
    ptx: str
    cubin: bytes


def compile_sm90(
    fn: triton.JITFunction, args: dict[str, object], num_warps: int = 4, num_stages: int = 3
) -> Compiled:
    """`args`: for each parameter a type ("*bf16", "i32", "fp32") or a constant (anything else).

    Pointers and the parameters whose type ends in "!" ("i32!") count as divisible by 16, as the
    launcher finds for aligned tensors.
    """
    signature, constants, attrs = {}, {}, {}
    for index, name in enumerate(fn.arg_names):
        value = args[name]
        if isinstance(value, str) and (
            value[0] == "*"
            or value.startswith("tensordesc")
            or value.rstrip("!") in ("i32", "i64", "fp32")
        ):
            signature[name] = value.rstrip("!")
            if value[0] == "*" or value[-1] == "!":
                attrs[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "constexpr"
            constants[(index,)] = value
    source = ASTSource(fn, signature, constexprs=constants, attrs=attrs)
    built = triton.compile(
        source,
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": num_warps, "num_stages": num_stages},
    )
    registers, stack = _resources(built.asm["cubin"])
    return Compiled(registers, stack, built.metadata.shared, built.asm["ptx"], built.asm["cubin"])


def _resources(cubin: bytes) -> tuple[int, int]:
    cuobjdump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "kernel.cubin")
        binary.write_bytes(cubin)
        command = [cuobjdump, "--dump-resource-usage", binary]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", report)
    assert found, report
    return int(found[1]), int(found[2])


def _attention_args(size: int, rows: int, window: int = 0, soft_cap: float = 0.0, beside=False):
    args: dict[str, object] = dict.fromkeys(
        ("stride_qt", "stride_qh", "stride_ks", "stride_kh", "stride_vs", "stride_vh", "stride_ot",
         "stride_oh"), "i32!",
    )  # fmt: skip
    args |= dict.fromkeys(("q_ptr", "k_ptr", "v_ptr", "out_ptr"), "*bf16")
    args |= dict.fromkeys(("parts_ptr", "lse_ptr"), "*fp32")
    args |= dict.fromkeys(
        ("slots_ptr", "positions_ptr", "items_ptr", "rows_ptr", "item_parts_ptr", "row_parts_ptr",
         "arrived_ptr"), "*i32",
    )  # fmt: skip
    block_d = triton.next_power_of_2(size)
    has_runs = rows > 16 and not window and block_d == size
    block = 64 if size <= 128 else 32
    desc = f"tensordesc<bf16[{block}, {size}]>" if has_runs else None
    return args | {
        "scale": "fp32", "K": 8, "GROUP": 4, "D": size, "BLOCK_D": block_d, "ROWS": rows,
        "BLOCK": block, "k_desc": desc, "v_desc": desc, "LARGE": rows > 16,
        "MERGE": rows == 16 and not beside, "WINDOW": window, "SOFT_CAP": soft_cap, "ITEM": 8,
        "PRECISION": "tf32", "BLOCK_G": 4,
        "PARTS": 16 if beside else 32, "BESIDE": beside, "DEPENDENT": True,
    }  # fmt: skip


def _pointers(names: str, kind: str) -> dict[str, object]:
    return dict.fromkeys(names.split(), kind)


def kernels():
    """Name -> (kernel, arguments, warps, stages): what is compiled and reported."""
    from ramify.runtime.kernels import (
        add_bias,
        argmax,
        attention,
        attention_merge,
        bitmask,
        chunk_attention,
        decode_rows,
        gated,
        linear_small,
        logprobs,
        penalties,
        rms_norm,
        rope_store,
        sample_bracket,
        sample_draw,
        sample_rows,
    )

    fn = attention._attention_kernel
    yield "attention, decode, 128", fn, _attention_args(128, 16), 4, 5
    yield "attention, decode, 64", fn, _attention_args(64, 16), 4, 5
    yield "attention, decode beside", fn, _attention_args(128, 16, beside=True), 2, 5
    yield "attention, tiles, 128", fn, _attention_args(128, 128), 8, 5
    yield "attention, shared tiles, 128", fn, _attention_args(128, 64), 4, 3
    yield "attention, tiles, 80", fn, _attention_args(80, 128), 8, 5
    yield "attention, tiles, 96, window", fn, _attention_args(96, 128, window=1024), 8, 5
    merge = _pointers("out_ptr", "*bf16") | _pointers("parts_ptr lse_ptr", "*fp32")
    merge |= _pointers("rows_ptr row_parts_ptr", "*i32") | _pointers("stride_ot stride_oh", "i32!")
    merge |= {
        "K": 8,
        "GROUP": 4,
        "BLOCK_G": 4,
        "D": 128,
        "BLOCK_D": 128,
        "PARTS": 8,
        "DEPENDENT": True,
    }
    yield "attention, merge", attention_merge._merge_kernel, merge, 1, 3
    yield "attention, tiles, 256, soft cap", fn, _attention_args(256, 64, soft_cap=50.0), 8, 5
    descriptors = dict.fromkeys(("k_desc", "v_desc"), "tensordesc<bf16[64, 128]>")
    chunk = _pointers("q_ptr out_ptr", "*bf16") | descriptors | {"to_log2": "fp32", "J": "i32"}
    chunk |= _pointers("stride_qt stride_qh stride_ot stride_oh", "i32!") | {"T": "i32"}
    chunk |= {"GROUP": 4, "D": 128, "ROWS": 64, "BLOCK": 64, "PRECISION": "tf32"}
    yield "chunk_attention, tiles", chunk_attention._chunk_attention_kernel, chunk, 4, 3
    sampling = _pointers(
        "temperature_ptr top_p_ptr min_p_ptr uniform_ptr records_ptr states_ptr list_ptr peaks_ptr "
        "groups_ptr kept_ptr logprob_ptr top_logprob_ptr",
        "*fp32",
    ) | _pointers(
        "top_k_ptr token_ptr ids_ptr arrived_ptr cursor_ptr indices_ptr top_token_ptr", "*i32"
    )
    row = {"logits_ptr": "*fp32", "stride_b": "i32!", "V": "i32!", "BLOCK": 4096}
    sampling |= row | {"TO_TOP": False, "STRIP": 512, "CHUNKS": 64, "N": "i32", "num_chunks": "i32"}
    yield "sample, scan", sample_bracket._scan_kernel, sampling, 4, 3
    yield "sample, bound", sample_bracket._bound_kernel, sampling, 4, 3
    yield "sample, narrow", sample_bracket._narrow_kernel, sampling, 4, 3
    yield "sample, list", sample_draw.list_kernel, sampling, 4, 3
    to_top = sampling | {"TO_TOP": True}
    yield "sample, list to the top", sample_draw.list_kernel, to_top, 4, 3
    yield "sample, finish", sample_draw.finish_kernel, sampling, 8, 3
    by_row = sampling | {"BLOCK": 4096}
    yield "sample, search", sample_rows.search_rows_kernel, by_row, 16, 3
    yield "argmax", argmax._argmax_kernel, sampling, 4, 3
    yield "logprobs", logprobs._likeliest_kernel, sampling, 4, 3
    mask = _pointers("table_ptr row_ids_ptr", "*i32") | {"stride_r": "i32!", "BLOCK": 4096}
    yield "apply_bitmask", bitmask._apply_bitmask_kernel, row | mask, 4, 3
    entries = _pointers("row_ptr token_ptr", "*i32") | _pointers("bias_ptr", "*fp32")
    bias = {"logits_ptr": "*fp32", "stride_b": "i32!", "E": "i32", "BLOCK": 256} | entries
    yield "add_bias", add_bias._add_bias_kernel, bias, 4, 3
    seen = _pointers("seen_ptr state_ptr", "*i32") | _pointers(
        "repetition_ptr frequency_ptr presence_ptr", "*fp32"
    )
    penalized = row | seen | {"logits_ptr": "*fp32", "BLOCK": 2048}
    yield "penalize", penalties._penalize_kernel, penalized, 4, 3
    ends = _pointers("rows_ptr last_token_ptr", "*i32") | {"B": "i32", "BLOCK": 128}
    begin = ends | _pointers("slots_ptr ids_ptr", "*i32") | {"stride": "i32"}
    yield "begin_rows", decode_rows._begin_rows_kernel, begin, 4, 3
    end = ends | {"token_ptr": "*i32"}
    yield "end_rows", decode_rows._end_rows_kernel, end, 4, 3
    norm = _pointers("x_ptr weight_ptr out_ptr residual_ptr", "*bf16") | _pointers(
        "stride_x stride_out stride_residual C", "i32!"
    )
    norm |= {"eps": "fp32", "offset": "fp32", "HAS_RESIDUAL": True, "BLOCK": 4096}
    norm |= {"DEPENDENT": True}
    yield "rms_norm", rms_norm._rms_norm_kernel, norm, 8, 3
    gate = _pointers("gate_up_ptr out_ptr", "*bf16") | _pointers(
        "stride_in stride_out SIZE", "i32!"
    )
    yield (
        "gated",
        gated._gated_kernel,
        gate | {"ACTIVATION": "silu", "BLOCK": 2048, "DEPENDENT": True},
        8,
        3,
    )
    rope = _pointers("qkv_ptr k_pool_ptr v_pool_ptr q_norm_ptr k_norm_ptr", "*bf16")
    rope |= _pointers("cos_ptr sin_ptr", "*fp32") | _pointers("positions_ptr out_loc_ptr", "*i32")
    rope |= _pointers("stride_t stride_h stride_ks stride_kh stride_vs stride_vh", "i32!")
    rope |= {"eps": "fp32", "H": 32, "K": 8, "D": 128, "HALF": 64, "BLOCK_H": 16, "BLOCK_D": 128}
    rope |= {"HAS_Q_NORM": True, "HAS_K_NORM": True, "INTERLEAVED": False, "DEPENDENT": True}
    yield "rope_store", rope_store._rope_store_kernel, rope, 4, 3
    product = _pointers("x_ptr w_ptr bias_ptr y_ptr", "*bf16") | {"HAS_BIAS": False}
    product |= {"ACTIVATION": None}
    product |= _pointers("N K stride_w", "i32!")
    gemv = product | {"BLOCK_N": 2, "BLOCK_K": 2048, "DEPENDENT": True}
    yield "linear_small, 1 row", linear_small._gemv_kernel, gemv, 8, 3
    gemv |= {"ACTIVATION": "silu", "BLOCK_N": 4, "BLOCK_K": 1024}
    yield "linear_small, 1 row, gated", linear_small._gemv_kernel, gemv, 4, 3
    dot = product | _pointers("stride_x stride_y", "i32!") | {"M": "i32", "parts_ptr": "*fp32"}
    dot |= {"arrived_ptr": "*i32", "BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 128}
    dot |= {"PRECISION": "tf32", "DEPENDENT": True}
    yield "linear_small, 16 rows", linear_small._linear_small_kernel, dot | {"SPLIT_K": 4}, 4, 4
    dot |= {"ACTIVATION": "silu", "SPLIT_K": 1, "BLOCK_M": 64, "BLOCK_K": 64}
    yield "linear_small, tiles, gated", linear_small._linear_small_kernel, dot, 4, 4


def main() -> None:
    """Print one JSON row per kernel."""
    for name, fn, args, num_warps, num_stages in kernels():
        built = compile_sm90(fn, args, num_warps, num_stages)
        row = {
            "kernel": name,
            "registers": built.registers,
            "stack_bytes": built.stack_bytes,
            "shared_bytes": built.shared_bytes,
            "wgmma": built.ptx.count("wgmma.mma_async"),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
