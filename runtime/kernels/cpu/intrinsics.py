"""What compiled code needs below numba's own level: bit casts, unchecked access, atomics."""

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

_F32 = ir.FloatType()
_I32 = ir.IntType(32)


@intrinsic
def float_bits(typing_context: Any, value: Any):  # type: ignore[no-untyped-def]
    """The bits of a float32 as int32."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], _I32)

    return types.int32(types.float32), codegen


@intrinsic
def bits_float(typing_context: Any, value: Any):  # type: ignore[no-untyped-def]
    """The float32 with these int32 bits."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.bitcast(args[0], _F32)

    return types.float32(types.int32), codegen


@intrinsic
def load(typing_context: Any, array: Any, index: Any):  # type: ignore[no-untyped-def]
    """array[index] of a flat array, index >= 0.

    numba's own indexing counts negative indices from the end, and that test keeps LLVM from turning
    a loop into vector code.
    """

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        data = make_array(sig.args[0])(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), codegen


@intrinsic
def store(typing_context: Any, array: Any, index: Any, value: Any):  # type: ignore[no-untyped-def]
    """array[index] = value of a flat array, index >= 0; see `load`."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        data = make_array(sig.args[0])(context, builder, args[0]).data
        builder.store(args[2], builder.gep(data, [args[1]]))
        return context.get_dummy_value()

    return types.void(array, types.intp, array.dtype), codegen


@intrinsic
def atomic_add(typing_context: Any, array: Any, index: Any, value: Any):  # type: ignore[no-untyped-def]
    """array[index] += value for an int64 array, seen by all threads; the old value."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        data = make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", builder.gep(data, [args[1]]), args[2], "seq_cst")

    return types.int64(array, types.intp, types.int64), codegen


@intrinsic
def atomic_load(typing_context: Any, array: Any, index: Any):  # type: ignore[no-untyped-def]
    """array[index] of an int64 array as the other threads left it."""

    def codegen(context, builder, sig, args):  # type: ignore[no-untyped-def]
        data = make_array(sig.args[0])(context, builder, args[0]).data
        return builder.load_atomic(builder.gep(data, [args[1]]), "seq_cst", 8)

    return types.int64(array, types.intp), codegen


sched_yield = types.ExternalFunction("sched_yield", types.int32())
