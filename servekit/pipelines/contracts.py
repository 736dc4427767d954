"""What a model takes and gives, as a pipeline has to know it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from servekit.kernels.ports import ROWS, Port
from servekit.pipelines.faults import PipelineError

DATATYPES: Final = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
    "bytes": "BYTES",
}
"""Element types as kernels and as the protocols call them."""

_ELEMENTS: Final = {datatype: dtype for dtype, datatype in DATATYPES.items() if dtype != "bytes"}

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class ModelTensor:
    """One input or output of a model; `shape` is of a row, and what the file leaves open has a name."""

    name: str
    dtype: str
    shape: Shape
    optional: bool = False

    @property
    def port(self) -> Port:
        """As kernels' ports are."""
        return Port(self.name, self.dtype, self.shape)


@dataclass(frozen=True)
class ModelContract:
    """Inputs and outputs of a model, in its order. The first axis of each counts rows, and is left out."""

    name: str
    inputs: tuple[ModelTensor, ...]
    outputs: tuple[ModelTensor, ...]

    @staticmethod
    def of(described: Mapping[str, Any]) -> "ModelContract":
        """From metadata: `datatype` FP32, `shape` [-1, 3, "height", -1]; what has no axes cannot be reached by rows."""
        name = described["name"]
        for tensor in described["inputs"]:
            if not tensor["shape"] and not tensor.get("optional"):
                raise PipelineError(
                    f"model '{name}': input '{tensor['name']}' has no axes, one that counts rows is needed in a "
                    "pipeline; export the model with a batch axis"
                )
        inputs, outputs = ([tensor for tensor in described[way] if tensor["shape"]] for way in ("inputs", "outputs"))
        return ModelContract(name, tuple(map(_tensor, inputs)), tuple(map(_tensor, outputs)))


def _tensor(described: Mapping[str, Any]) -> ModelTensor:
    name, axes = described["name"], described["shape"]
    shape = tuple(_axis(axis, f"{name}_{place}") for place, axis in enumerate(axes[1:], 1))
    return ModelTensor(name, _ELEMENTS[described["datatype"]], shape, bool(described.get("optional")))


def _axis(axis: int | str | None, unnamed: str) -> int | str:
    """Exporters name axes as they like; names that stand in arithmetic are words."""
    if isinstance(axis, int) and axis >= 0:
        return axis
    word = re.sub(r"\W", "_", axis if isinstance(axis, str) and axis else unnamed, flags=re.ASCII)
    return f"axis_{word}" if word[:1].isdigit() or word == ROWS else word


def metadata_shape(shape: Sequence[int | str]) -> list[int]:
    """As protocols show it, with the axis of rows in front: -1 where open."""
    return [-1, *(axis if isinstance(axis, int) else -1 for axis in shape)]
