"""Serves ONNX models over HTTP and gRPC from one process.

The command line is the way in (`servekit serve model.onnx`). What runs underneath is `servekit._native`; nothing here
touches a tensor.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
