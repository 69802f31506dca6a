"""What Numba itself cannot express: calls of BLAS, views of memory, and numbers that threads share.

Each function here becomes a few instructions of machine code (LLVM) inside the compiled loops. An
address is an integer of 64 bits; an array of a job is what job.py calls a place.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from typing import Any

import numba.core.cgutils
import numba.extending
import numba.np.arrayobj
from llvmlite import ir

from npvae.fast.blas import AS_IT_IS, ROW_MAJOR, TRANSPOSED

# These modules have no types.
cgutils: Any = numba.core.cgutils
intrinsic: Callable[[Callable[..., Any]], Any] = numba.extending.intrinsic
types: Any = numba.types
populate_array: Any = numba.np.arrayobj.populate_array

INT32, INT64 = ir.IntType(32), ir.IntType(64)
BYTES = ir.IntType(8).as_pointer()


def instruction(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """A function of compiled code, from one that makes its value out of the builder of LLVM code.

    `result` and `arguments` are their types.
    """

    def decorate(build: Callable[..., Any]) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            value = build(builder, *values)
            return context.get_dummy_value() if result is types.void else value

        @functools.wraps(build)
        def typed(typing: Any, *_: Any) -> Any:
            return result(*arguments), codegen

        return intrinsic(typed)

    return decorate


def pointer(builder: Any, address: Any, kind: Any = INT64) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


def field(context: Any, builder: Any, kind: Any, record: Any, name: str) -> Any:
    """A number of a record of this kind."""
    number = context.get_data_type(kind.typeof(name))
    return builder.load(cgutils.get_record_member(builder, record, kind.offset(name), number))


# ------------------------------------------------------------------ arrays and their products


@intrinsic
def view(typing: Any, place: Any, row: Any, start: Any, shape: Any) -> Any:
    """array[row].reshape(-1)[start:][:size].reshape(shape), without any check.

    What it shows may go on in the rows after this one.
    """
    number = place.typeof("like")
    kind = types.Array(number, len(shape), "C")

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        record, row, start, lengths = arguments
        lengths = [
            context.cast(builder, length, given, types.intp)
            for length, given in zip(cgutils.unpack_tuple(builder, lengths), shape, strict=True)
        ]
        itemsize = INT64(number.bitwidth // 8)
        strides = [itemsize]
        for length in lengths[:0:-1]:
            strides.insert(0, builder.mul(length, strides[0]))
        address = field(context, builder, place, record, "address")
        pitch = field(context, builder, place, record, "pitch")
        data = pointer(builder, address, context.get_data_type(number))
        data = builder.gep(data, [builder.add(builder.mul(row, pitch), start)])
        array = context.make_array(kind)(context, builder)
        populate_array(array, data, lengths, strides, itemsize, meminfo=None)
        return array._getvalue()

    return kind(place, types.intp, types.intp, shape), codegen


@intrinsic
def multiply(typing: Any, job: Any, a: Any, b: Any, out: Any, more: Any) -> Any:
    """out = a @ b, or out += a @ b if this is `more` of a sum, by the gemm of BLAS.

    a and b are contiguous, or the transpose `x.T` of such an array, which costs nothing.
    """

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.get_value_type(out.dtype)
        size = context.get_value_type(job.typeof("size"))  # the integers of this BLAS
        address = field(context, builder, job, arguments[0], "gemm")
        matrices, lengths, flags, pitches = [], [], [], []
        for kind, value in zip((a, b, out), arguments[1:4], strict=True):
            part = context.make_array(kind)(context, builder, value)
            shape = cgutils.unpack_tuple(builder, part.shape)
            shape = [builder.trunc(n, size) if size != INT64 else n for n in shape]
            matrices.append(part.data)
            lengths.append(shape)
            flags.append(INT32(TRANSPOSED if kind.layout == "F" else AS_IT_IS))
            pitches.append(shape[0 if kind.layout == "F" else 1])
        keep = builder.uitofp(arguments[4], number)
        values = [
            *(INT32(ROW_MAJOR), flags[0], flags[1]),
            *(lengths[2][0], lengths[2][1], lengths[0][1], number(1)),
            *(matrices[0], pitches[0], matrices[1], pitches[1]),
            *(keep, matrices[2], pitches[2]),
        ]
        function = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(pointer(builder, address, function), values)
        return context.get_dummy_value()

    return types.void(job, a, b, out, types.boolean), codegen


# ------------------------------------------------------------------ the core's own

X86 = platform.machine().lower() in ("x86_64", "amd64")
FLUSH = 0x8040  # of the control register MXCSR: denormal results and operands count as 0


def llvm(builder: Any, name: str, *values: Any) -> None:
    """Call one of LLVM's own functions."""
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}"), values)


@instruction(types.int32)
def float_mode(builder: Any) -> Any:
    """How this thread computes with floats: its control register, or 0 where we know of none."""
    place = cgutils.alloca_once_value(builder, INT32(0))
    if X86:
        llvm(builder, "x86.sse.stmxcsr", builder.bitcast(place, BYTES))
    return builder.load(place)


@instruction(types.void, types.int32)
def set_float_mode(builder: Any, mode: Any) -> None:
    """Set what `float_mode` reads."""
    if X86:
        place = cgutils.alloca_once_value(builder, mode)
        llvm(builder, "x86.sse.ldmxcsr", builder.bitcast(place, BYTES))


@instruction(types.void)
def pause(builder: Any) -> None:
    """Tell the core that its thread only waits: what shares the core with it runs faster."""
    if X86:
        llvm(builder, "x86.sse2.pause")


@instruction(types.void, types.int64)
def prefetch(builder: Any, address: Any) -> None:
    """Ask for the cache line at an address, before it is needed."""
    place = builder.inttoptr(address, BYTES)
    llvm(builder, "prefetch.p0", place, INT32(0), INT32(3), INT32(1))  # to read; keep; data


@instruction(types.int32, types.int64, types.int64)
def call(builder: Any, address: Any, argument: Any) -> Any:
    """Call a function of C that takes an integer, or nothing, and returns an int, or nothing."""
    return builder.call(pointer(builder, address, ir.FunctionType(INT32, [INT64])), [argument])


# ------------------------------------------------------------------ numbers that threads share


@instruction(types.int64, types.int64)
def load(builder: Any, address: Any) -> Any:
    """The number there, and all that other threads wrote before they stored it."""
    return builder.load_atomic(pointer(builder, address), "acquire", 8)


@instruction(types.void, types.int64, types.int64)
def store(builder: Any, address: Any, value: Any) -> None:
    """Set it, visible to other threads together with all that was written before."""
    builder.store_atomic(value, pointer(builder, address), "release", 8)


@instruction(types.int64, types.int64)
def add_one(builder: Any, address: Any) -> Any:
    """Add 1 to it in one piece; returns what was there before."""
    return builder.atomic_rmw("add", pointer(builder, address), INT64(1), "acq_rel")


@instruction(types.boolean, types.int64, types.int64, types.int64)
def swap(builder: Any, address: Any, old: Any, new: Any) -> Any:
    """If it is `old`, make it `new`, in one piece; returns whether it was."""
    pair = builder.cmpxchg(pointer(builder, address), old, new, "acq_rel", "acquire")
    return builder.extract_value(pair, 1)
