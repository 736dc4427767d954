"""Models made for tests with the onnx helpers; each function writes one file and returns its path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper, save

Axes = Sequence[int | str]
KINDS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def value(name: str, datatype: str, axes: Axes) -> object:
    """An input or output."""
    return helper.make_tensor_value_info(name, KINDS[datatype], list(axes))


def write(path: Path, nodes: list, inputs: list, outputs: list, constants: dict[str, np.ndarray] | None = None) -> Path:
    """Check and save a model of these parts (opset 17)."""
    weights = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, weights)
    model: ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, path)
    return path


def identity(folder: Path, name: str, datatype: str, axes: Axes) -> Path:
    """x -> y = x."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return write(folder / f"{name}.onnx", [node], [value("x", datatype, axes)], [value("y", datatype, axes)])


def ident(folder: Path) -> Path:
    """x FP32 [-1,-1] -> y = x."""
    return identity(folder, "ident", "FP32", ["N", "D"])


def same(folder: Path, datatype: str) -> Path:
    """x [-1,3] -> y = x, for one datatype."""
    return identity(folder, f"same_{datatype}", datatype, ["N", 3])


def tiny(folder: Path) -> Path:
    """x FP32 [-1,4] -> y FP32 [-1,3]: two dense layers and a softmax."""
    random = np.random.default_rng(0)
    constants = {
        "w1": random.standard_normal((4, 16)).astype(np.float32),
        "b1": np.zeros(16, np.float32),
        "w2": random.standard_normal((16, 3)).astype(np.float32),
        "b2": np.zeros(3, np.float32),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["y"], axis=-1),
    ]
    return write(folder / "tiny.onnx", nodes, [value("x", "FP32", ["N", 4])], [value("y", "FP32", ["N", 3])], constants)


def nonfinite(folder: Path) -> Path:
    """x FP32 [-1,3] -> y [-1,3]: NaN, infinity, minus infinity in every row."""
    constants = {
        "zero": np.zeros(3, np.float32),
        "special": np.array([np.nan, np.inf, -np.inf], np.float32),
    }
    nodes = [helper.make_node("Mul", ["x", "zero"], ["nought"]), helper.make_node("Add", ["nought", "special"], ["y"])]
    return write(
        folder / "nonfinite.onnx", nodes, [value("x", "FP32", ["N", 3])], [value("y", "FP32", ["N", 3])], constants
    )


def pick(folder: Path) -> Path:
    """i INT64 [-1] -> y FP32 [-1,3]: rows of a table of 4; other indices are the caller's fault."""
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    node = helper.make_node("Gather", ["table", "i"], ["y"], axis=0)
    return write(
        folder / "pick.onnx", [node], [value("i", "INT64", ["N"])], [value("y", "FP32", ["N", 3])], {"table": table}
    )


def grow(folder: Path) -> Path:
    """n INT64 [1,2] -> y FP32 of that shape."""
    nodes = [
        helper.make_node("Reshape", ["n", "flat"], ["size"]),
        helper.make_node(
            "ConstantOfShape", ["size"], ["y"], value=helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
        ),
    ]
    return write(
        folder / "grow.onnx",
        nodes,
        [value("n", "INT64", [1, 2])],
        [value("y", "FP32", ["A", "B"])],
        {"flat": np.array([2], np.int64)},
    )


def spin(folder: Path) -> Path:
    """n INT64 [1] -> y INT64 [1]: a Loop of n steps that counts them."""
    step = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["count", "one"], ["counted"])],
        "step",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("count", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("counted", TensorProto.INT64, [1]),
        ],
        [numpy_helper.from_array(np.array([1], np.int64), "one")],
    )
    nodes = [
        helper.make_node("Squeeze", ["n"], ["turns"]),
        helper.make_node("Loop", ["turns", "true", "zero"], ["y"], body=step),
    ]
    constants = {"true": np.ones((), np.bool_), "zero": np.array([0], np.int64)}
    return write(folder / "spin.onnx", nodes, [value("n", "INT64", [1])], [value("y", "INT64", [1])], constants)


def scalar(folder: Path) -> Path:
    """x FP32 [] -> y = 2 x."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return write(folder / "scalar.onnx", [node], [value("x", "FP32", [])], [value("y", "FP32", [])])


def rank8(folder: Path) -> Path:
    """x INT32 of rank 8 with a free first axis -> y = x."""
    return identity(folder, "rank8", "INT32", ["N", 1, 2, 1, 2, 1, 2, 1])


def two(folder: Path) -> Path:
    """a, b FP32 [-1,2] -> total = a + b [-1,2], product = a * b [-1,2]."""
    nodes = [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    inputs = [value("a", "FP32", ["N", 2]), value("b", "FP32", ["N", 2])]
    return write(
        folder / "two.onnx", nodes, inputs, [value("total", "FP32", ["N", 2]), value("product", "FP32", ["N", 2])]
    )


def optional(folder: Path) -> Path:
    """x FP32 [-1,2], scale FP32 [2] with a default of [1, 10] -> y = x * scale."""
    node = helper.make_node("Mul", ["x", "scale"], ["y"])
    inputs = [value("x", "FP32", ["N", 2]), value("scale", "FP32", [2])]
    constants = {"scale": np.array([1, 10], np.float32)}
    return write(folder / "optional.onnx", [node], inputs, [value("y", "FP32", ["N", 2])], constants)


def fixed(folder: Path) -> Path:
    """x FP32 [2,3] -> y = -x: the batch is baked in."""
    node = helper.make_node("Neg", ["x"], ["y"])
    return write(folder / "fixed.onnx", [node], [value("x", "FP32", [2, 3])], [value("y", "FP32", [2, 3])])


def external(folder: Path) -> Path:
    """x FP32 [-1,256] -> y = x + weights kept in a file beside the model; in a folder of its own."""
    weights = np.arange(256, dtype=np.float32)
    node = helper.make_node("Add", ["x", "weights"], ["y"])
    graph = helper.make_graph(
        [node],
        "external",
        [value("x", "FP32", ["N", 256])],
        [value("y", "FP32", ["N", 256])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "external" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path
