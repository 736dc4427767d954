"""A call of a compiled kernel from Python, as the native side makes it: views, scratch and faults in one structure."""

import ctypes
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from servekit.kernels.entry import SCRATCH_ALIGNMENT
from servekit.kernels.ports import RANK_MAX, ROWS, Array, Port, size

if TYPE_CHECKING:
    from servekit.kernels.contract import Kernel

DONE: Final = 1


class Tensor(ctypes.Structure):
    """A view of one tensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int64),
        ("rank", ctypes.c_int64),
        ("dims", ctypes.c_int64 * RANK_MAX),
        ("strides", ctypes.c_int64 * RANK_MAX),
    )

    @staticmethod
    def of(array: Array, port: Port) -> "Tensor":
        """Of the array's own memory; whoever keeps the view keeps the array."""
        axes = ctypes.c_int64 * RANK_MAX
        return Tensor(array.ctypes.data, port.element.onnx, array.ndim, axes(*array.shape), axes(*array.strides))


class Frame(ctypes.Structure):
    """The one argument of a kernel."""

    _fields_ = (
        ("tensors", ctypes.POINTER(Tensor)),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("scratch", ctypes.c_void_p),
        ("scratch_bytes", ctypes.c_int64),
        ("faults", ctypes.c_void_p),
    )


class Call:
    """One call, which may be repeated; keeps alive what its pointers point to."""

    def __init__(
        self, kernel: "Kernel", inputs: Mapping[str, Array], outputs: Mapping[str, Array], sizes: Mapping[str, int]
    ) -> None:
        self.faults = np.zeros(sizes[ROWS], np.int64)
        """One number a row: 0, or which message it is refused with."""
        ports = {**kernel.batch_inputs, **kernel.batch_outputs}
        self._arrays = [inputs[name] for name in kernel.inputs] + [outputs[name] for name in kernel.outputs]
        views = [Tensor.of(array, port) for array, port in zip(self._arrays, ports.values(), strict=True)]
        self._views = (Tensor * len(views))(*views)
        scratch_bytes = sum(_scratch_bytes(port, sizes) for port in kernel.scratch.values())
        # As of a lane: what the last kernel left.
        self._scratch = np.full(scratch_bytes + SCRATCH_ALIGNMENT, 0x4B, np.uint8)
        aligned = -self._scratch.ctypes.data % SCRATCH_ALIGNMENT + self._scratch.ctypes.data
        self.frame = Frame(
            self._views,
            len(kernel.inputs),
            len(kernel.outputs),
            sizes[ROWS],
            aligned,
            scratch_bytes,
            self.faults.ctypes.data,
        )
        """As the kernel sees it; tests put wrong things into it."""
        self._kernel = kernel
        self._function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(kernel.compiled().address)

    def run(self) -> bool:
        """True unless the kernel failed as a whole."""
        return int(self._function(ctypes.addressof(self.frame))) == DONE


def _scratch_bytes(port: Port, sizes: Mapping[str, int]) -> int:
    count = port.element.numpy.itemsize
    for axis in port.shape:
        count *= size(axis, sizes)
    return -count % SCRATCH_ALIGNMENT + count
