"""Elements of model dtype in compiled code: float32 arrays, or bfloat16 in uint16 arrays."""

import numpy as np
from numba import types
from numba.extending import overload

from ramify.runtime.kernels.cpu.intrinsics import bits_float, float_bits, load, store
from ramify.runtime.kernels.cpu.jit import jit

_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_EXP_MIN = np.float32(-87.0)  # below, the result is a denormal: as good as zero
_EXP_MAX = np.float32(88.0)
_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
# Cephes' minimax polynomial of (exp(r) - 1 - r) / r**2 on |r| <= ln 2 / 2, highest power first
_P = tuple(
    np.float32(c)
    for c in (1.9875691e-4, 1.3981999e-3, 8.3334519e-3, 4.1665796e-2, 1.6666665e-1, 5.0000001e-1)
)
_P0, _P1, _P2, _P3, _P4, _P5 = _P
_MANTISSA = np.int32(23)
_BIAS = np.int32(127)


@jit
def exp32(x):
    """exp of a float32, to 4 units in the last place, in a form that becomes vector code."""
    if x < _EXP_MIN:
        x = _EXP_MIN
    if x > _EXP_MAX:
        x = _EXP_MAX
    n = np.floor(x * _LOG2E + _HALF)
    r = x - n * _LN2_HIGH - n * _LN2_LOW
    p = ((((_P0 * r + _P1) * r + _P2) * r + _P3) * r + _P4) * r + _P5
    return (p * r * r + r + _ONE) * bits_float((np.int32(n) + _BIAS) << _MANTISSA)


def put(array, index, value):
    """array[index] = value, a float32, rounded to the array's kind. Unchecked, index >= 0."""
    raise NotImplementedError("compiled code only")


def get(array, index):
    """array[index] as float32. Unchecked, index >= 0."""
    raise NotImplementedError("compiled code only")


@overload(put, inline="never")
def _put(array, index, value):
    if array.dtype == types.uint16:

        def put_bfloat16(array, index, value):
            store(array, index, _to_bfloat16(np.float32(value)))

        return put_bfloat16

    def put_float32(array, index, value):
        store(array, index, np.float32(value))

    return put_float32


@overload(get, inline="never")
def _get(array, index):
    if array.dtype == types.uint16:
        return lambda array, index: bits_float(np.int32(load(array, index)) << np.int32(16))
    return lambda array, index: load(array, index)


@jit
def _to_bfloat16(value):
    """Round to nearest, ties to even; NaN stays NaN."""
    bits = np.uint32(float_bits(value))
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.uint16(rounded) if value == value else np.uint16(0x7FC0)
