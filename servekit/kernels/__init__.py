"""Kernels: pre- and post-processing written over NumPy arrays, compiled, and run where the batch runs.

`kernel` is the decorator. The modules beside it hold kernels for what models commonly want: `image`, `numbers`,
`scores`, `boxes`, `vectors`, `audio`. Nothing here imports Numba until a kernel is compiled.
"""

from servekit.kernels.comparing import Difference, compare
from servekit.kernels.contract import Kernel, Ran, kernel
from servekit.kernels.options import derived, each
from servekit.kernels.ports import KernelError, Port

__all__ = ["Difference", "Kernel", "KernelError", "Port", "Ran", "compare", "derived", "each", "kernel"]
