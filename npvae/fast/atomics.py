"""What Numba itself cannot express: calling BLAS at an address, and a meeting point of threads.

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
from llvmlite import ir

from npvae.fast.blas import AS_IT_IS, ROW_MAJOR, TRANSPOSED
from npvae.fast.jit import jit

# These modules have no types.
cgutils: Any = numba.core.cgutils
intrinsic: Callable[[Callable[..., Any]], Any] = numba.extending.intrinsic
types: Any = numba.types
carray: Any = numba.carray  # type: ignore[attr-defined]

INT32, INT64 = ir.IntType(32), ir.IntType(64)


# ------------------------------------------------------------------ products


@intrinsic
def multiply(typing: Any, blas: Any, a: Any, b: Any, out: Any, keep: Any) -> Any:
    """out = a @ b + keep * out, by the gemm of BLAS.

    blas is its address, and a zero of the integers that it takes. All arrays are contiguous; a or b
    may be the transpose `x.T` of such an array, which costs nothing.
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

        def size(value: Any) -> Any:
            return builder.trunc(value, integer) if integer != INT64 else value

        def flag(array: Any) -> Any:
            return INT32(TRANSPOSED if array.layout == "F" else AS_IT_IS)

        def pitch(array: Any, shape: Any) -> Any:  # from one row in memory to the next
            return size(shape[0] if array.layout == "F" else shape[1])

        pointer = number.as_pointer()
        function = ir.FunctionType(
            ir.VoidType(),
            [INT32] * 3
            + [integer] * 3
            + [number, pointer, integer, pointer, integer, number, pointer, integer],
        )
        builder.call(
            builder.inttoptr(address, function.as_pointer()),
            [
                INT32(ROW_MAJOR), flag(a), flag(b),
                size(shapes[2][0]), size(shapes[2][1]), size(shapes[0][1]),
                number(1), parts[0].data, pitch(a, shapes[0]), parts[1].data, pitch(b, shapes[1]),
                arguments[4], parts[2].data, pitch(out, shapes[2]),
            ],
        )  # fmt: skip
        return context.get_dummy_value()

    return signature, codegen


# ------------------------------------------------------------------ arrays at an address


@intrinsic
def _pointer(typing: Any, address: Any, like: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(address, like), codegen


@jit
def borrowed(flat: Any, start: int, rows: int, columns: int) -> Any:
    """flat[start:].reshape(rows, columns), without counting a reference to flat.

    Threads that count references to the same array all write to the same counter.
    """
    return carray(_pointer(flat.ctypes.data + start * flat.itemsize, flat), (rows, columns))


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


# ------------------------------------------------------------------ where threads meet


@intrinsic
def _add_one(typing: Any, counter: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(counter)(context, builder, arguments[0])
        return builder.atomic_rmw("add", array.data, INT64(1), "acq_rel")

    return types.int64(counter), codegen


@intrinsic
def _read(typing: Any, counter: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(counter)(context, builder, arguments[0])
        return builder.load_atomic(array.data, "acquire", 8)

    return types.int64(counter), codegen


@intrinsic
def _pause(typing: Any) -> Any:
    """Tell the core that its thread only waits: what shares the core with it runs faster."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _call(typing: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.FunctionType(INT32, []).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], function), [])

    return types.int32(address), codegen


def yield_function() -> int:
    """The address of the system's function that lets another thread run on this core."""
    system = ctypes.CDLL("kernel32") if os.name == "nt" else ctypes.CDLL(None)
    function = system.SwitchToThread if os.name == "nt" else system.sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


SPINS = 300  # looks at the counter before the core is offered to another thread
GIVEN_UP = 1 << 62  # a counter this large releases all that wait


@jit
def meet(counter: Any, expected: int, yield_address: int) -> bool:
    """Wait until `expected` threads in all have been here. Returns False if one will never come.

    A wake-up through a lock costs 50 microseconds, as much as a third of a batch of 32. So threads
    look again and again, and let others run in between.
    """
    _add_one(counter)
    spins = 0
    while _read(counter) < expected:
        spins += 1
        _pause()
        if spins % SPINS == 0:
            _call(yield_address)
    return bool(_read(counter) < GIVEN_UP)
