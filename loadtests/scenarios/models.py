"""Models of the scenarios: the bench's own, a residual network, and a small transformer over rows of unequal length.

Weights come from a seed: nothing is downloaded, every machine gets the same numbers.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, checker, helper, numpy_helper, save

from loadtests import models as bench_models

SEED = 1
TEXT_WORDS, TEXT_WIDTH, TEXT_HEADS, TEXT_LAYERS = 1_000, 128, 4, 2
TEXT_LENGTH_MAX = 512
RESNET_STAGES = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))

Weights = NDArray[np.float32] | NDArray[np.int64]
Shape = list[int | str]
FAR_BELOW = np.float32(-1e9)


class Graph:
    """Nodes and weights of a model while it is being built."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Weights] = {}
        self.dice = np.random.default_rng(SEED)

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:  # noqa: ANN401 - whatever ONNX knows
        """Appends a node and names what it gives."""
        output = output or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, value: Weights) -> str:
        """Keeps a weight."""
        name = f"constant_{len(self.constants)}"
        self.constants[name] = value
        return name

    def normal(self, *shape: int) -> str:
        """Weights that keep the scale of what flows through them."""
        scale = 1 / np.sqrt(np.prod(shape[1:]) if len(shape) > 2 else shape[0])
        return self.constant((self.dice.standard_normal(shape) * scale).astype(np.float32))

    def integers(self, *values: int) -> str:
        """A shape, or axes."""
        return self.constant(np.array(values, np.int64))

    def write(self, path: Path, inputs: dict[str, tuple[int, Shape]], output: Shape) -> Path:
        """Checks and saves the model; its output is called y."""
        values = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
        answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, output)
        weights = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, path.stem, values, [answer], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        checker.check_model(model)
        save(model, path)
        return path


def write(folder: Path, name: str) -> Path:
    """Writes `folder/name.onnx`."""
    if name in bench_models.WIDTHS:
        return bench_models.write(folder, name)
    return {"resnet": resnet, "text": text}[name](folder / f"{name}.onnx")


def convolved(graph: Graph, x: str, channels: tuple[int, int], kernel: int, stride: int) -> str:
    """[rows, channels[0], H, W] to [rows, channels[1], H / stride, W / stride]."""
    weights = graph.normal(channels[1], channels[0], kernel, kernel)
    square: dict[str, Any] = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": [kernel // 2] * 4}
    return graph.add("Conv", x, weights, **square)


def resnet(path: Path) -> Path:
    """X [rows, 3, 224, 224] through 18 layers to y [rows, 1000]: much computing, and requests of 600 kB."""
    graph = Graph()
    x = graph.add("Relu", convolved(graph, "x", (3, 64), kernel=7, stride=2))
    x = graph.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for wider, stride in RESNET_STAGES:
        inner = graph.add("Relu", convolved(graph, x, (channels, wider), kernel=3, stride=stride))
        inner = convolved(graph, inner, (wider, wider), kernel=3, stride=1)
        same = stride == 1 and channels == wider
        beside = x if same else convolved(graph, x, (channels, wider), kernel=1, stride=stride)
        x, channels = graph.add("Relu", graph.add("Add", inner, beside)), wider
    x = graph.add("Flatten", graph.add("GlobalAveragePool", x), axis=1)
    graph.add("MatMul", x, graph.normal(channels, 1_000), output="y")
    return graph.write(path, {"x": (TensorProto.FLOAT, ["rows", 3, 224, 224])}, ["rows", 1_000])


def attended(graph: Graph, x: str, bias: str) -> str:
    """Self-attention over the tokens that the mask keeps."""
    heads = graph.integers(0, 0, TEXT_HEADS, TEXT_WIDTH // TEXT_HEADS)

    def split(order: list[int]) -> str:
        mixed = graph.add("MatMul", x, graph.normal(TEXT_WIDTH, TEXT_WIDTH))
        return graph.add("Transpose", graph.add("Reshape", mixed, heads), perm=order)

    queries, keys, values = split([0, 2, 1, 3]), split([0, 2, 3, 1]), split([0, 2, 1, 3])
    scale = graph.constant(np.array((TEXT_WIDTH // TEXT_HEADS) ** -0.5, np.float32))
    scores = graph.add("Add", graph.add("Mul", graph.add("MatMul", queries, keys), scale), bias)
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), values)
    joined = graph.add("Transpose", mixed, perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", joined, graph.integers(0, 0, TEXT_WIDTH))
    return graph.add("MatMul", joined, graph.normal(TEXT_WIDTH, TEXT_WIDTH))


def normed(graph: Graph, x: str) -> str:
    """Mean 0 and deviation 1 within each token."""
    ones, zeros = np.ones(TEXT_WIDTH, np.float32), np.zeros(TEXT_WIDTH, np.float32)
    return graph.add("LayerNormalization", x, graph.constant(ones), graph.constant(zeros), axis=-1)


def text(path: Path) -> Path:
    """ids, mask [rows, length] through two layers of attention to the mean token y [rows, 128]."""
    graph = Graph()
    kept = graph.add("Cast", "mask", to=TensorProto.FLOAT)
    one = graph.constant(np.array(1, np.float32))
    bias = graph.add("Mul", graph.add("Sub", one, kept), graph.constant(np.array(FAR_BELOW)))
    bias = graph.add("Unsqueeze", bias, graph.integers(1, 2))
    x = graph.add("Gather", graph.normal(TEXT_WORDS, TEXT_WIDTH), "ids")
    for _ in range(TEXT_LAYERS):
        x = normed(graph, graph.add("Add", x, attended(graph, x, bias)))
        wide = graph.add("Relu", graph.add("MatMul", x, graph.normal(TEXT_WIDTH, 4 * TEXT_WIDTH)))
        x = normed(graph, graph.add("Add", x, graph.add("MatMul", wide, graph.normal(4 * TEXT_WIDTH, TEXT_WIDTH))))
    tokens = graph.add("Mul", x, graph.add("Unsqueeze", kept, graph.integers(2)))
    total = graph.add("ReduceSum", tokens, graph.integers(1), keepdims=0)
    graph.add("Div", total, graph.add("ReduceSum", kept, graph.integers(1), keepdims=1), output="y")
    rows: Shape = ["rows", "length"]
    inputs = {"ids": (int(TensorProto.INT64), rows), "mask": (int(TensorProto.INT64), rows)}
    return graph.write(path, inputs, ["rows", TEXT_WIDTH])
