"""Write the models of the engine's proofs beside this file: `python dependent.py` (onnx, numpy).

Rows of some depend on each other, in one way each; others only look as if.
"""

import numpy as np
from make import BOOL, FLOAT, INT64, Shape, constant, model, node, value, write
from onnx import TensorProto, numpy_helper

FLOAT16 = TensorProto.FLOAT16
ROWS: Shape = ["N", 4]
FLOATS = [value("x", FLOAT, ROWS)], [value("y", FLOAT, ROWS)]


def write_dependent() -> None:
    """Rows that influence each other."""
    ones, zeros = constant("ones", np.ones(4), np.float32), constant("zeros", np.zeros(4), np.float32)
    training = node(
        "BatchNormalization", ["x", "ones", "zeros", "zeros", "ones"], ["y", "mean", "variance"], training_mode=1
    )
    write("depends_normalize", model([training], *FLOATS, [ones, zeros]))
    mean = node("ReduceMean", ["x"], ["mean"], axes=[0])
    write("depends_mean", model([mean, node("Sub", ["x", "mean"], ["y"])], *FLOATS))
    write("depends_softmax", model([node("Softmax", ["x"], ["y"], axis=0)], *FLOATS))
    write("depends_sum", model([node("CumSum", ["x", "axis"], ["y"])], *FLOATS, [constant("axis", 0, np.int64)]))
    # Only what is above 100 anywhere counts.
    nodes = [
        node("ReduceMax", ["x"], ["most"], axes=[0]),
        node("Sub", ["most", "bound"], ["over"]),
        node("Relu", ["over"], ["excess"]),
        node("Add", ["x", "excess"], ["y"]),
    ]
    write("depends_large", model(nodes, *FLOATS, [constant("bound", 100, np.float32)]))
    # How many rows are like this one.
    nodes = [
        node("Unsqueeze", ["x", "first"], ["left"]),
        node("Unsqueeze", ["x", "second"], ["right"]),
        node("Equal", ["left", "right"], ["equal"]),
        node("Cast", ["equal"], ["one"], to=FLOAT),
        node("ReduceMin", ["one"], ["whole"], axes=[2], keepdims=0),
        node("ReduceSum", ["whole", "second"], ["y"]),
    ]
    weights = [constant("first", [0], np.int64), constant("second", [1], np.int64)]
    write("depends_repeated", model(nodes, FLOATS[0], [value("y", FLOAT, ["N", 1])], weights))
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["small", "scale", "zero"]),
        node("DequantizeLinear", ["small", "scale", "zero"], ["y"]),
    ]
    write("depends_scale", model(nodes, *FLOATS))


def write_other() -> None:
    """Rows that do not influence each other, and are not rows all the same."""
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["rows"]),
        node("Cast", ["rows"], ["divisor"], to=FLOAT),
        node("Div", ["x", "divisor"], ["y"]),
    ]
    write("divided", model(nodes, *FLOATS, [constant("zero", 0, np.int64)]))
    write("random", model([node("RandomNormalLike", ["x"], ["noise"]), node("Add", ["x", "noise"], ["y"])], *FLOATS))
    across = [value("x", FLOAT, [3, "N"])], [value("y", FLOAT, [3, "N"])]
    write("across", model([node("Neg", ["x"], ["y"])], *across))
    across = [value("x", FLOAT, ["T", "N"])], [value("y", FLOAT, ["T", "N"])]
    sums = node("CumSum", ["x", "axis"], ["y"])
    write("across_sum", model([sums], *across, [constant("axis", 0, np.int64)]))
    # Eight rows, and no inference can know.
    nodes = [
        node("Mul", ["x", "nothing"], ["zeros"]),
        node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
        node("Cast", ["zero"], ["none"], to=INT64),
        node("Add", ["shape", "none"], ["wanted"]),
        node("Reshape", ["x", "wanted"], ["y"]),
    ]
    weights = [constant("shape", [8, 2, 2], np.int64), constant("nothing", 0, np.float32)]
    write("baked", model(nodes, FLOATS[0], [value("y", FLOAT, ["M", 2, 2])], weights))
    write(
        "baked_told",
        model([node("Reshape", ["x", "shape"], ["y"])], FLOATS[0], [value("y", FLOAT, ["M", 2, 2])], weights[:1]),
    )


def write_independent() -> None:
    """Rows that may share runs."""
    random = np.random.default_rng(0)
    table = numpy_helper.from_array(random.standard_normal((100, 8)).astype(np.float32), "table")
    nodes = [
        node("Cast", ["words"], ["whole"], to=INT64),
        node("Gather", ["table", "whole"], ["vectors"]),
        node("Cast", ["attention_mask"], ["weights"], to=FLOAT),
        node("Unsqueeze", ["weights", "last"], ["column"]),
        node("Mul", ["vectors", "column"], ["kept"]),
        node("ReduceSum", ["kept", "positions"], ["y"], keepdims=0),
    ]
    ends = (
        [value("words", TensorProto.INT32, ["N", "T"]), value("attention_mask", INT64, ["N", "T"])],
        [value("y", FLOAT, ["N", 8])],
    )
    weights = [table, constant("last", [2], np.int64), constant("positions", [1], np.int64)]
    write("embedding", model(nodes, *ends, weights))
    layers = [numpy_helper.from_array(random.standard_normal((256, 256)).astype(np.float32), f"w{n}") for n in (1, 2)]
    ends = [value("x", FLOAT, ["N", 256])], [value("y", FLOAT, ["N", 256])]
    nodes = [
        node("MatMul", ["x", "w1"], ["sums"]),
        node("Tanh", ["sums"], ["bent"]),
        node("MatMul", ["bent", "w2"], ["scores"]),
        node("Softmax", ["scores"], ["y"], axis=-1),
    ]
    write("layers", model(nodes, *ends, layers))
    halves = [numpy_helper.from_array(random.standard_normal((64, 8)).astype(np.float16), "w")]
    ends = [value("x", FLOAT16, ["N", 64])], [value("y", FLOAT16, ["N", 8])]
    write("halves", model([node("MatMul", ["x", "w"], ["y"])], *ends, halves))
    ends = (
        [value("a", FLOAT, ["batch", 2]), value("b", FLOAT, ["B", 2])],
        [value("y", FLOAT, ["unknown", 4])],
    )
    write("symbols", model([node("Concat", ["a", "b"], ["y"], axis=1)], *ends))
    write("shapeless", model([node("Neg", ["x"], ["y"])], FLOATS[0], [value("y", FLOAT, None)]), check=False)
    # As exporters of trees declare labels: one, where one of each row is meant.
    write(
        "declares_one", model([node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)], FLOATS[0], [value("y", INT64, [1])])
    )
    # Only masks with something in them run.
    nodes = [
        node("Cast", ["mask"], ["flags"], to=BOOL),
        node("Where", ["flags", "x", "nothing"], ["y"]),
    ]
    ends = [value("x", FLOAT, ROWS), value("mask", INT64, ROWS)], [value("y", FLOAT, ROWS)]
    write("masked", model(nodes, *ends, [constant("nothing", 0, np.float32)]))


def main() -> None:
    """Write all of them."""
    write_dependent()
    write_other()
    write_independent()


if __name__ == "__main__":
    main()
