"""Stubs that grpcio-tools makes of the published protos, as any user would make them."""

from __future__ import annotations

import importlib
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType
from unittest import mock

import grpc_tools
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_tools import protoc

PROTOS = Path(__file__).parents[2] / "protos"


def generate(folder: Path) -> None:
    """Write messages and stubs of all protos into a folder."""
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    command = ["protoc", f"-I{PROTOS}", f"-I{well_known}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main([*command, *sorted(path.name for path in PROTOS.glob("*.proto"))]) == 0


@cache
def stub_module(name: str) -> ModuleType:
    """A generated module by its name, `open_inference_pb2` for example."""
    return _modules()[name]


@cache
def _modules() -> dict[str, ModuleType]:
    names = [f"{stem}_pb2{kind}" for stem in ("open_inference", "health") for kind in ("", "_grpc")]
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        sys.path.insert(0, folder)
        try:
            # A pool of their own: tritonclient and grpcio-health-checking bring messages of the same names.
            with mock.patch("google.protobuf.descriptor_pool.Default", return_value=DescriptorPool()):
                return {name: importlib.import_module(name) for name in names}
        finally:
            sys.path.remove(folder)
