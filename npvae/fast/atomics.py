"""What Numba itself cannot express: calling BLAS at an address, and numbers that threads share.

Each function here becomes a few instructions of machine code (LLVM) inside the compiled loops.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable
from typing import Any

import numba.core.cgutils
import numba.extending
import numba.np.arrayobj
from llvmlite import ir

from npvae.fast.blas import AS_IT_IS, ROW_MAJOR, TRANSPOSED
from npvae.fast.jit import jit

# These modules have no types.
cgutils: Any = numba.core.cgutils
intrinsic: Callable[[Callable[..., Any]], Any] = numba.extending.intrinsic
types: Any = numba.types
populate_array: Any = numba.np.arrayobj.populate_array

INT32, INT64 = ir.IntType(32), ir.IntType(64)


# ------------------------------------------------------------------ products


@intrinsic
def multiply(typing: Any, blas: Any, a: Any, b: Any, out: Any, keep: Any) -> Any:
    """out = a @ b + keep * out, by the gemm of BLAS.

    blas is its address, and a zero of the integers that it takes. Every array has contiguous rows,
    or is the transpose `x.T` of such an array, which costs nothing.
    """
    signature = types.void(blas, a, b, out, out.dtype)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer = context.get_value_type(blas.types[1])
        number = context.get_value_type(out.dtype)
        address = builder.extract_value(arguments[0], 0)
        parts = [
            context.make_array(t)(context, builder, v)
            for t, v in zip((a, b, out), arguments[1:4], strict=True)
        ]
        shapes = [cgutils.unpack_tuple(builder, part.shape) for part in parts]
        itemsize = INT64(out.dtype.bitwidth // 8)

        def size(value: Any) -> Any:
            return builder.trunc(value, integer) if integer != INT64 else value

        def flag_and_pitch(part: Any, shape: Any) -> tuple[Any, Any]:
            """Whether it is a transpose, and from one row in memory to the next."""
            down, along = cgutils.unpack_tuple(builder, part.strides)
            transposed = builder.icmp_signed("!=", along, itemsize)
            stride = builder.sdiv(builder.select(transposed, along, down), itemsize)
            length = builder.select(transposed, shape[0], shape[1])  # of a row in memory
            longer = builder.icmp_signed(">", stride, length)  # not if there is one row alone
            pitch = size(builder.select(longer, stride, length))
            return builder.select(transposed, INT32(TRANSPOSED), INT32(AS_IT_IS)), pitch

        pointer = number.as_pointer()
        function = ir.FunctionType(
            ir.VoidType(),
            [INT32] * 3
            + [integer] * 3
            + [number, pointer, integer, pointer, integer, number, pointer, integer],
        )
        (a_flag, a_pitch), (b_flag, b_pitch), (_, out_pitch) = (
            flag_and_pitch(part, shape) for part, shape in zip(parts, shapes, strict=True)
        )
        builder.call(
            builder.inttoptr(address, function.as_pointer()),
            [
                INT32(ROW_MAJOR), a_flag, b_flag,
                size(shapes[2][0]), size(shapes[2][1]), size(shapes[0][1]),
                number(1), parts[0].data, a_pitch, parts[1].data, b_pitch,
                arguments[4], parts[2].data, out_pitch,
            ],
        )  # fmt: skip
        return context.get_dummy_value()

    return signature, codegen


# ------------------------------------------------------------------ arrays


def _view(context: Any, builder: Any, flat: Any, kind: Any, arguments: Any) -> Any:
    """An array of this type in the memory of `flat`, which begins there and has these lengths."""
    source, start, *lengths = arguments
    itemsize = context.get_constant(types.intp, flat.dtype.bitwidth // 8)
    data = context.make_array(flat)(context, builder, source).data
    array = context.make_array(kind)(context, builder)
    strides = [builder.mul(lengths[1], itemsize), itemsize] if kind.ndim == 2 else [itemsize]
    place = builder.gep(data, [start])
    populate_array(array, place, lengths, strides, itemsize, meminfo=None)
    return array._getvalue()


@intrinsic
def matrix(typing: Any, flat: Any, start: Any, rows: Any, columns: Any) -> Any:
    """flat[start:].reshape(rows, columns), without the checks of either; flat is contiguous."""
    kind = types.Array(flat.dtype, 2, "C")

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _view(context, builder, flat, kind, arguments)

    return kind(flat, types.intp, types.intp, types.intp), codegen


@intrinsic
def vector(typing: Any, flat: Any, start: Any, length: Any) -> Any:
    """flat[start : start + length] of a contiguous array, of one row or of several."""
    kind = types.Array(flat.dtype, 1, "C")

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _view(context, builder, flat, kind, arguments)

    return kind(flat, types.intp, types.intp), codegen


# ------------------------------------------------------------------ numbers too small to be normal

X86 = platform.machine().lower() in ("x86_64", "amd64")
FLUSH = 0x8040  # of the control register MXCSR: denormal results and operands count as 0


def _control_register(builder: Any, name: str, value: Any) -> Any:
    """Store MXCSR in a new variable, or load it from one that holds `value`."""
    place = cgutils.alloca_once_value(builder, value)
    kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}")
    builder.call(function, [builder.bitcast(place, cgutils.voidptr_t)])
    return builder.load(place)


@intrinsic
def float_mode(typing: Any) -> Any:
    """How this thread computes with floats: its control register, or 0 where we know of none."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _control_register(builder, "stmxcsr", INT32(0)) if X86 else INT32(0)

    return types.int32(), codegen


@intrinsic
def set_float_mode(typing: Any, mode: Any) -> Any:
    """Set what `float_mode` reads."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if X86:
            _control_register(builder, "ldmxcsr", arguments[0])
        return context.get_dummy_value()

    return types.void(types.int32), codegen


CACHE_LINE = 64  # bytes


@intrinsic
def _prefetch(typing: Any, array: Any, index: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(array)(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), cgutils.voidptr_t)
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, INT32, INT32, INT32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [place, INT32(0), INT32(3), INT32(1)])  # to read; keep; data
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@jit
def prefetch_images(images: Any, indices: Any, ahead: int, first: int, count: int) -> None:
    """Ask for the bytes of image indices[ahead], if there is one, before they are needed.

    Images lie anywhere in memory, and to wait for each costs 64 nanoseconds a cache line: gathering
    half of 512 images takes 170 instead of 228 microseconds.
    """
    if ahead < len(indices):
        start = indices[ahead] * images.shape[1] + first
        for at in range(start, start + count, CACHE_LINE):
            _prefetch(images, at)


# ------------------------------------------------------------------ numbers that threads share


@intrinsic
def load(typing: Any, numbers: Any) -> Any:
    """numbers[0], of 64 bits, and all that other threads wrote before they stored it."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(numbers)(context, builder, arguments[0]).data
        return builder.load_atomic(data, "acquire", 8)

    return types.int64(numbers), codegen


@intrinsic
def store(typing: Any, numbers: Any, value: Any) -> Any:
    """numbers[0] = value, visible to other threads together with all that was written before."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(numbers)(context, builder, arguments[0]).data
        builder.store_atomic(arguments[1], data, "release", 8)
        return context.get_dummy_value()

    return types.void(numbers, types.int64), codegen


@intrinsic
def add_one(typing: Any, numbers: Any) -> Any:
    """numbers[0] += 1 in one piece; returns what was there before."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(numbers)(context, builder, arguments[0]).data
        return builder.atomic_rmw("add", data, INT64(1), "acq_rel")

    return types.int64(numbers), codegen


@intrinsic
def swap(typing: Any, numbers: Any, old: Any, new: Any) -> Any:
    """If numbers[0] is `old`, make it `new`, in one piece; returns whether it was."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(numbers)(context, builder, arguments[0]).data
        pair = builder.cmpxchg(data, arguments[1], arguments[2], "acq_rel", "acquire")
        return builder.extract_value(pair, 1)

    return types.boolean(numbers, types.int64, types.int64), codegen


@intrinsic
def pause(typing: Any) -> Any:
    """Tell the core that its thread only waits: what shares the core with it runs faster."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def call(typing: Any, address: Any, argument: Any) -> Any:
    """Call a function of C that takes an integer, or nothing, and returns an int, or nothing."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(INT32, [INT64]).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], function), [arguments[1]])

    return types.int32(types.int64, types.int64), codegen


def yield_function() -> int:
    """The address of the system's function that lets another thread run on this core."""
    system = ctypes.CDLL("kernel32") if os.name == "nt" else ctypes.CDLL(None)
    function = system.SwitchToThread if os.name == "nt" else system.sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0
