"""The two models of the bench, with weights from a seed: nothing is downloaded, every machine gets the same numbers.

`tiny` costs about nothing, so what is measured is the server. `mlp` reads 7 MB of weights, once for all rows of a
batch, so it shows what batching gives, and its 784 numbers a row show what reading JSON costs.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

WIDTHS = {"tiny": (4, 16, 3), "mlp": (784, 1024, 1024, 10)}
SEED = 0


def write(folder: Path, name: str) -> Path:
    """Write `folder/name.onnx`: x FP32 [rows, first width] through dense layers and a softmax to y [rows, last]."""
    dice, widths = np.random.default_rng(SEED), WIDTHS[name]
    nodes, constants, value = [], [], "x"
    for layer, (width_in, width_out) in enumerate(pairwise(widths)):
        weights = dice.standard_normal((width_in, width_out)) / np.sqrt(width_in)
        constants.append(numpy_helper.from_array(weights.astype(np.float32), f"weights_{layer}"))
        constants.append(numpy_helper.from_array(np.zeros(width_out, np.float32), f"bias_{layer}"))
        if layer:
            nodes.append(helper.make_node("Relu", [value], [f"positive_{layer}"]))
            value = f"positive_{layer}"
        nodes.append(helper.make_node("Gemm", [value, f"weights_{layer}", f"bias_{layer}"], [f"dense_{layer}"]))
        value = f"dense_{layer}"
    nodes.append(helper.make_node("Softmax", [value], ["y"], axis=-1))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", widths[0]])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", widths[-1]])
    graph = helper.make_graph(nodes, name, [given], [answer], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    path = folder / f"{name}.onnx"
    save(model, path)
    return path
