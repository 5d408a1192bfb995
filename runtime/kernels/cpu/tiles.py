"""Vector code that numba cannot write by itself: tiles of dot products, weighted sums of rows.

A tile computes M x N dot products of length K at once: out[m, n] = sum_k x[m, k] * w[n, k]. Each of
the M * N sums has one accumulator of 16 lanes that steps through k in order, and all accumulators
are folded in the same order at the end. A dot product therefore has the same bits whatever tile it
was computed in, which is what makes a row's result independent of the rows beside it.

bfloat16 lives in uint16 arrays. Where the machine has AVX512-BF16, one instruction multiplies and
adds 32 pairs; elsewhere both sides are widened to float32.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding as llvm  # type: ignore[import-untyped]
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

LANES = 16
GATHER_AHEAD = 68  # slots a gathering tile looks ahead to prefetch, from its first
_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_VEC = ir.VectorType(_F32, LANES)
_VEC_I32 = ir.VectorType(_I32, LANES)


class _BFloat16x32(ir.Type):  # type: ignore[misc]
    """<32 x bfloat>, which llvmlite has no class for."""

    def _to_string(self) -> str:
        return "<32 x bfloat>"


_BF16X32 = _BFloat16x32()


@cache
def has_bf16_dot() -> bool:
    """Whether this machine multiplies bfloat16 pairs in one instruction (AVX512-BF16)."""
    return bool(llvm.get_host_cpu_features().get("avx512bf16", False))


@cache
def make_tile(num_x: int, num_w: int, prefetch: int = 0) -> Callable[..., None]:
    """The tile of M = num_x by N = num_w, a numba intrinsic.

    tile(x, x_at, x_stride, w, w_at, w_stride, k, out, out_at, out_stride): flat contiguous arrays,
    each with the element its first row starts at and the distance between rows. x and w are both
    float32 or both bfloat16 (uint16), out is float32 and overwritten. M * N is a power of two.
    """
    assert (num_x * num_w) & (num_x * num_w - 1) == 0, (num_x, num_w)

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]
        typing_context, x, x_at, x_stride, w, w_at, w_stride, k, out, out_at, out_stride
    ):
        signature = types.void(
            x, types.intp, types.intp, w, types.intp, types.intp, types.intp, out, types.intp,
            types.intp,
        )  # fmt: skip

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            x_rows = _row_pointers(context, builder, sig.args[0], args[0], args[1], args[2], num_x)
            w_rows = _row_pointers(context, builder, sig.args[3], args[3], args[4], args[5], num_w)
            step = _DotStep(builder, is_bf16=sig.args[0].dtype == types.uint16)
            sums = _dot(builder, step, x_rows, w_rows, args[6], prefetch)
            folded = _fold(builder, sums)
            out_rows = _row_pointers(
                context, builder, sig.args[7], args[7], args[8], args[9], num_x
            )
            for m, row in enumerate(out_rows):
                for n in range(num_w):
                    lane = ir.Constant(_I32, m * num_w + n)
                    value = builder.extract_element(folded, lane)
                    builder.store(value, builder.gep(row, [ir.Constant(_I32, n)]))
            return context.get_dummy_value()

        return signature, codegen

    return tile  # type: ignore[no-any-return]


@cache
def make_gather_tile(num_x: int, num_w: int) -> Callable[..., None]:
    """A tile whose w rows are picked by slot.

    tile(x, x_at, x_stride, w, w_at, w_stride, slots, slots_at, k, also, out, out_at, out_stride).
    Row n of w starts at w_at + slots[slots_at + n] * w_stride. Rows GATHER_AHEAD entries further
    are prefetched, so `slots` (int32) must be readable that far, and so are this tile's rows of
    `also`, an array laid out like w that is read next.
    """

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]
        typing_context, x, x_at, x_stride, w, w_at, w_stride, slots, slots_at, k, also, out,
        out_at, out_stride,
    ):  # fmt: skip
        signature = types.void(
            x, types.intp, types.intp, w, types.intp, types.intp, slots, types.intp, types.intp,
            also, out, types.intp, types.intp,
        )  # fmt: skip

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            x_rows = _row_pointers(context, builder, sig.args[0], args[0], args[1], args[2], num_x)
            base, also_base = (
                builder.gep(make_array(sig.args[i])(context, builder, args[i]).data, [args[4]])
                for i in (3, 9)
            )
            slot_data = make_array(sig.args[6])(context, builder, args[6]).data
            slot_data = builder.gep(slot_data, [args[7]])
            w_rows = [_slot_row(builder, base, slot_data, n, args[5]) for n in range(num_w)]
            for n in range(num_w):
                later = _slot_row(builder, base, slot_data, n + GATHER_AHEAD - num_w, args[5])
                for row in (later, _slot_row(builder, also_base, slot_data, n, args[5])):
                    for line in (0, 64):
                        _prefetch(builder, row, line)
            step = _DotStep(builder, is_bf16=sig.args[0].dtype == types.uint16)
            folded = _fold(builder, _dot(builder, step, x_rows, w_rows, args[8], 0))
            out_rows = _row_pointers(
                context, builder, sig.args[10], args[10], args[11], args[12], num_x
            )
            for m, row in enumerate(out_rows):
                for n in range(num_w):
                    value = builder.extract_element(folded, ir.Constant(_I32, m * num_w + n))
                    builder.store(value, builder.gep(row, [ir.Constant(_I32, n)]))
            return context.get_dummy_value()

        return signature, codegen

    return tile  # type: ignore[no-any-return]


@cache
def make_weighted_sum(num_p: int, num_vectors: int) -> Callable[..., None]:
    """out[m, d] = sum_i p[m, i] * v[slots[i], d] for M = num_p rows and 16 * num_vectors columns.

    sum(p, p_at, p_stride, count, v, v_at, v_stride, slots, slots_at, width, out, out_at,
    out_stride): p and out are float32, v is float32 or bfloat16 (uint16). The sum runs over i in
    order. With one vector, only the first `width` columns are read and written.
    """

    @intrinsic
    def weighted_sum(  # type: ignore[no-untyped-def]
        typing_context, p, p_at, p_stride, count, v, v_at, v_stride, slots, slots_at, width, out,
        out_at, out_stride,
    ):  # fmt: skip
        signature = types.void(
            p, types.intp, types.intp, types.intp, v, types.intp, types.intp, slots, types.intp,
            types.intp, out, types.intp, types.intp,
        )  # fmt: skip

        def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
            p_rows = _row_pointers(context, builder, sig.args[0], args[0], args[1], args[2], num_p)
            base = make_array(sig.args[4])(context, builder, args[4]).data
            base = builder.gep(base, [args[5]])
            slot_data = make_array(sig.args[7])(context, builder, args[7]).data
            slot_data = builder.gep(slot_data, [args[8]])
            step = _DotStep(builder, is_bf16=sig.args[4].dtype == types.uint16, can_pair=False)
            mask = None
            if num_vectors == 1:
                mask = step.mask(builder.trunc(args[9], _I32))
            zero = ir.Constant(_VEC, [0.0] * LANES)
            cells = [
                [cgutils.alloca_once(builder, _VEC) for _ in range(num_vectors)]
                for _ in range(num_p)
            ]
            for cell in (cell for row in cells for cell in row):
                builder.store(zero, cell)
            offsets = [ir.Constant(args[3].type, LANES * j) for j in range(num_vectors)]
            with cgutils.for_range(builder, args[3], intp=args[3].type) as loop:
                row = _slot_row(builder, base, builder.gep(slot_data, [loop.index]), 0, args[6])
                values = [step.load(builder.gep(row, [at]), mask) for at in offsets]
                for m in range(num_p):
                    weight = _splat(builder, builder.load(builder.gep(p_rows[m], [loop.index])))
                    for j, value in enumerate(values):
                        cell = cells[m][j]
                        total = step.multiply_add(builder.load(cell), weight, value)
                        builder.store(total, cell)
            out_rows = _row_pointers(
                context, builder, sig.args[10], args[10], args[11], args[12], num_p
            )
            for m, row in enumerate(out_rows):
                for j, at in enumerate(offsets):
                    step.store(builder.load(cells[m][j]), builder.gep(row, [at]), mask)
            return context.get_dummy_value()

        return signature, codegen

    return weighted_sum  # type: ignore[no-any-return]


def _slot_row(
    builder: ir.IRBuilder, base: ir.Value, slots: ir.Value, index: int, stride: ir.Value
) -> ir.Value:
    slot = builder.load(builder.gep(slots, [ir.Constant(_I32, index)]))
    return builder.gep(base, [builder.mul(builder.sext(slot, stride.type), stride)])


def _splat(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    vector = ir.VectorType(value.type, LANES)
    undefined = ir.Constant(vector, ir.Undefined)
    seed = builder.insert_element(undefined, value, ir.Constant(_I32, 0))
    return builder.shuffle_vector(seed, undefined, ir.Constant(_VEC_I32, [0] * LANES))


class _DotStep:
    """How one step of a dot product is loaded and multiplied, by dtype and machine."""

    def __init__(self, builder: ir.IRBuilder, *, is_bf16: bool, can_pair: bool = True) -> None:
        self.builder = builder
        self.element = ir.IntType(16) if is_bf16 else _F32
        self.is_paired = can_pair and is_bf16 and has_bf16_dot()
        self.size = 2 * LANES if self.is_paired else LANES  # elements per step
        self.is_bf16 = is_bf16
        self._type = ir.VectorType(self.element, self.size)

    def load(self, pointer: ir.Value, mask: ir.Value | None) -> ir.Value:
        """One step of elements; where `mask` is given and false, zero."""
        builder = self.builder
        typed = builder.bitcast(pointer, self._type.as_pointer())
        if mask is None:
            raw = builder.load(typed, align=self.element_bytes)
        else:
            raw = self._masked_load(typed, mask)
        if self.is_paired:
            return builder.bitcast(raw, _BF16X32)
        if self.is_bf16:
            wide = builder.zext(raw, _VEC_I32)
            shift = ir.Constant(_VEC_I32, [16] * LANES)
            return builder.bitcast(builder.shl(wide, shift), _VEC)
        return raw

    def store(self, value: ir.Value, pointer: ir.Value, mask: ir.Value | None) -> None:
        """Write float32 lanes; where `mask` is given, only those it holds."""
        typed = self.builder.bitcast(pointer, _VEC.as_pointer())
        if mask is None:
            self.builder.store(value, typed, align=4)
            return
        kinds = [_VEC, _VEC.as_pointer(), _I32, mask.type]
        function = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(ir.VoidType(), kinds),
            f"llvm.masked.store.v{LANES}f32.p0",
        )
        self.builder.call(function, [value, typed, ir.Constant(_I32, 4), mask])

    @property
    def element_bytes(self) -> int:
        return 2 if self.is_bf16 else 4

    def _masked_load(self, pointer: ir.Value, mask: ir.Value) -> ir.Value:
        kind = "i16" if self.is_bf16 else "f32"
        name = f"llvm.masked.load.v{self.size}{kind}.p0"
        mask_type = ir.VectorType(ir.IntType(1), self.size)
        kinds = [self._type.as_pointer(), _I32, mask_type, self._type]
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(self._type, kinds), name
        )
        align = ir.Constant(_I32, self.element_bytes)
        return self.builder.call(function, [pointer, align, mask, ir.Constant(self._type, None)])

    def mask(self, count: ir.Value) -> ir.Value:
        """Lanes below `count`."""
        vector = ir.VectorType(_I32, self.size)
        lanes = ir.Constant(vector, list(range(self.size)))
        seed = self.builder.insert_element(
            ir.Constant(vector, ir.Undefined), count, ir.Constant(_I32, 0)
        )
        splat = self.builder.shuffle_vector(
            seed, ir.Constant(vector, ir.Undefined), ir.Constant(vector, [0] * self.size)
        )
        return self.builder.icmp_unsigned("<", lanes, splat)

    def multiply_add(self, total: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
        """total + a * b, lane by lane; a pair of products per lane where paired."""
        if self.is_paired:
            kinds = [_VEC, _BF16X32, _BF16X32]
            name = "llvm.x86.avx512bf16.dpbf16ps.512"
        else:
            kinds = [_VEC, _VEC, _VEC]
            name = f"llvm.fma.v{LANES}f32"
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(_VEC, kinds), name
        )
        operands = [total, a, b] if self.is_paired else [a, b, total]
        return self.builder.call(function, operands)


def _row_pointers(
    context: Any,
    builder: ir.IRBuilder,
    array_type: Any,
    array: Any,
    start: ir.Value,
    stride: ir.Value,
    count: int,
) -> list[ir.Value]:
    data = make_array(array_type)(context, builder, array).data
    rows = [builder.gep(data, [start])]
    for _ in range(count - 1):
        rows.append(builder.gep(rows[-1], [stride]))
    return rows


def _dot(
    builder: ir.IRBuilder,
    step: _DotStep,
    x_rows: list[ir.Value],
    w_rows: list[ir.Value],
    length: ir.Value,
    prefetch: int,
) -> list[ir.Value]:
    """Accumulators of all x rows times all w rows, [m][n] order."""
    zero = ir.Constant(_VEC, [0.0] * LANES)
    cells = [cgutils.alloca_once_value(builder, zero) for _ in range(len(x_rows) * len(w_rows))]
    for cell in cells:
        builder.store(zero, cell)  # a tile may run inside a loop: alloca_once sets it only once
    int_type = length.type
    size = ir.Constant(int_type, step.size)

    def add(at: ir.Value, mask: ir.Value | None) -> None:
        w_pointers = [builder.gep(row, [at]) for row in w_rows]
        w_values = [step.load(pointer, mask) for pointer in w_pointers]
        if prefetch and mask is None:
            for pointer in w_pointers:
                _prefetch(builder, pointer, prefetch)
        for m, row in enumerate(x_rows):
            x_value = step.load(builder.gep(row, [at]), mask)
            for n, w_value in enumerate(w_values):
                cell = cells[m * len(w_rows) + n]
                builder.store(step.multiply_add(builder.load(cell), x_value, w_value), cell)

    whole = builder.sdiv(length, size)
    with cgutils.for_range(builder, whole, intp=int_type) as loop:
        add(builder.mul(loop.index, size), None)
    done = builder.mul(whole, size)
    rest = builder.sub(length, done)
    with builder.if_then(builder.icmp_signed(">", rest, ir.Constant(int_type, 0)), likely=False):
        add(done, step.mask(builder.trunc(rest, _I32)))
    return [builder.load(cell) for cell in cells]


def _prefetch(builder: ir.IRBuilder, pointer: ir.Value, distance: int) -> None:
    """Ask for the cache line `distance` bytes ahead; beyond the array this does nothing."""
    byte_pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    ahead = builder.gep(byte_pointer, [ir.Constant(_I32, distance)])
    kinds = [byte_pointer.type, _I32, _I32, _I32]
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
    )
    read, keep_all_levels, data = (ir.Constant(_I32, value) for value in (0, 3, 1))
    builder.call(function, [ahead, read, keep_all_levels, data])


def _fold(builder: ir.IRBuilder, sums: list[ir.Value]) -> ir.Value:
    """One vector whose lane i is the sum over the lanes of sums[i]; halves are added first."""
    width = LANES  # lanes that still belong to one sum
    while width > 1:
        half = width // 2
        groups = LANES // width
        firsts = [g * width + i for g in range(groups) for i in range(half)]
        if len(sums) > 1:
            pairs = [(sums[i], sums[i + 1]) for i in range(0, len(sums), 2)]
            lows = firsts + [LANES + i for i in firsts]
        else:
            pairs = [(sums[0], sums[0])]
            lows = firsts + firsts
        highs = [i + half for i in lows]
        sums = [
            builder.fadd(_shuffle(builder, a, b, lows), _shuffle(builder, a, b, highs))
            for a, b in pairs
        ]
        width = half
    return sums[0]


def _shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    return builder.shuffle_vector(a, b, ir.Constant(_VEC_I32, lanes))
