"""What the entry of a kernel needs and Python has no words for: pointers, calls that cannot raise, views of memory."""

from functools import cache
from typing import Any, Final

from servekit.kernels.ports import Array

# Indices of 8-byte fields; `servekit/guide/kernel-abi.md` has the table.
TENSOR_FIELDS: Final = 19
CALL_FIELDS: Final = 7
DATA: Final = 0
DTYPE: Final = 1
RANK: Final = 2
DIMS: Final = 3
STRIDES: Final = 11
AXES: Final = 8
# What an axis has to be, where it is no size: as many as rows, anything, or (below) as another axis of another view.
IS_ROWS: Final = -1
IS_ANY: Final = -2
IS_SAME: Final = -3


@cache
def intrinsics() -> dict[str, Any]:
    """By name. They are compiled once a process, and only where a kernel is compiled that is not in the cache."""
    import numba

    pointer = _pointer()
    functions = {"fits": fits, "contiguous": contiguous, "gather": _gather(pointer)}
    compiled = {name: numba.njit(error_model="numpy")(function) for name, function in functions.items()}
    return {"pointer": pointer, "guarded": _guarded(), "carray": numba.carray, **compiled}


def fits(views: Array, rows: int, expected: Array) -> bool:
    """Whether types, ranks and sizes are those that were declared."""
    for index in range(expected.shape[0]):
        if views[index, DTYPE] != expected[index, 0] or views[index, RANK] != expected[index, 1]:
            return False
        for axis in range(expected[index, 1]):
            wanted = expected[index, 2 + axis]
            if wanted == IS_ROWS:
                wanted = rows
            elif wanted <= IS_SAME:
                other = IS_SAME - wanted
                wanted = views[other // AXES, DIMS + other % AXES]
            if wanted != IS_ANY and views[index, DIMS + axis] != wanted:
                return False
    return True


def contiguous(views: Array, index: int, item_bytes: int) -> bool:
    """Whether values lie one behind the other, last axis first."""
    stride = item_bytes
    for axis in range(views[index, RANK] - 1, -1, -1):
        if views[index, STRIDES + axis] != stride:
            return False
        stride *= views[index, DIMS + axis]
    return True


def _gather(pointer: Any) -> Any:  # noqa: ANN401 - Numba has no types
    from numba import carray, uint8

    def gather(views: Array, index: int, item_bytes: int, target: int) -> None:
        """Copies the values to where they lie one behind the other."""
        # The last axes often lie so already: each block of them is copied whole.
        block_bytes, outer = item_bytes, views[index, RANK]
        while outer > 0 and views[index, STRIDES + outer - 1] == block_bytes:
            outer -= 1
            block_bytes *= views[index, DIMS + outer]
        blocks = 1
        for axis in range(outer):
            blocks *= views[index, DIMS + axis]
        for block in range(blocks):
            source, rest = views[index, DATA], block
            for axis in range(outer - 1, -1, -1):
                source += rest % views[index, DIMS + axis] * views[index, STRIDES + axis]
                rest //= views[index, DIMS + axis]
            read = carray(pointer(source), block_bytes, uint8)
            written = carray(pointer(target + block * block_bytes), block_bytes, uint8)
            for byte in range(block_bytes):
                written[byte] = read[byte]

    return gather


def _pointer() -> Any:  # noqa: ANN401 - Numba has no types
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def pointer(typing_context, address):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, ARG001
        """The memory at an address."""

        def generated(context, builder, signature, values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, ARG001
            return builder.inttoptr(values[0], cgutils.voidptr_t)

        return types.voidptr(types.int64), generated

    return pointer


def _guarded() -> Any:  # noqa: ANN401 - Numba has no types
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def guarded(typing_context, function, arguments):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        """What the function returns, or -1 for an exception, which would otherwise be printed, under the GIL."""
        call = function.get_call_type(typing_context, tuple(arguments), {})

        def generated(context, builder, signature, values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, ARG001
            result = function.dispatcher.overloads[tuple(call.args)]
            context.active_code_library.add_linking_library(result.library)
            unpacked = cgutils.unpack_tuple(builder, values[1], len(arguments))
            status, value = context.call_internal_no_propagate(builder, result.fndesc, call, unpacked)
            return builder.select(status.is_ok, value, ir.Constant(ir.IntType(64), -1))

        return types.int64(function, arguments), generated

    return guarded
