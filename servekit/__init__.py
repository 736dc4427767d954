"""Serves ONNX models over HTTP and gRPC from one process.

The command line is the way in (`servekit serve model.onnx`). What runs underneath is `servekit._native`; nothing here
touches a tensor.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from servekit.kernels import kernel

__all__ = ["__version__", "kernel"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:  # noqa: ANN401 - of any name
    """`servekit.kernel`, imported by whoever writes kernels and by nobody else: it brings NumPy."""
    if name == "kernel":
        from servekit.kernels import kernel

        return kernel
    raise AttributeError(f"module 'servekit' has no attribute {name!r}")
