"""Write the models of the engine's tests beside this file: `python make.py` (onnx, numpy, scikit-learn, skl2onnx).

All are tiny, and checked in, so that the tests need no Python. Training is seeded.
"""

from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, checker, helper, numpy_helper, save
from onnx.external_data_helper import set_external_data

FOLDER = Path(__file__).parent
FLOAT, INT64, STRING, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.STRING, TensorProto.BOOL
SAME = {
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
Shape = list[int | str | None]


def value(name: str, kind: int, shape: Shape) -> object:
    """One end of a graph."""
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name: str, array: object, kind: type) -> TensorProto:
    """Make a weight."""
    return numpy_helper.from_array(np.array(array, kind), name)


def model(nodes: list, inputs: list, outputs: list, weights: list | None = None) -> ModelProto:
    """A model of opset 17."""
    graph = helper.make_graph(nodes, "test", inputs, outputs, weights or [])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def write(name: str, made: ModelProto, *, check: bool = True) -> None:
    """Check a model and write it."""
    if check:
        checker.check_model(made)
    save(made, FOLDER / f"{name}.onnx")


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: object) -> object:
    """One node."""
    return helper.make_node(operator, inputs, outputs, **attributes)


def write_tensors() -> None:
    """Datatypes, ranks and ends."""
    for name, kind in SAME.items():
        ends = [value("x", kind, ["N", 3])], [value("y", kind, ["N", 3])]
        write(f"same_{name}", model([node("Identity", ["x"], ["y"])], *ends))
    write(
        "wide",
        model([node("Add", ["x", "x"], ["y"])], [value("x", FLOAT, ["N", "D"])], [value("y", FLOAT, ["N", "D"])]),
    )
    write("scalar", model([node("Neg", ["x"], ["y"])], [value("x", FLOAT, [])], [value("y", FLOAT, [])]))
    axes: Shape = ["N", 1, 2, 1, 2, 1, 2, 1]
    write("rank8", model([node("Neg", ["x"], ["y"])], [value("x", FLOAT, axes)], [value("y", FLOAT, axes)]))
    write("fixed", model([node("Neg", ["x"], ["y"])], [value("x", FLOAT, [2, 3])], [value("y", FLOAT, [2, 3])]))
    through = [value("x", FLOAT, ["N", "D"])], [value("x", FLOAT, ["N", "D"]), value("y", FLOAT, ["N", "D"])]
    write("through", model([node("Neg", ["x"], ["y"])], *through))
    two = (
        [value("a", FLOAT, ["N", 2]), value("b", INT64, ["N"])],
        [value("c", FLOAT, ["N", 2]), value("d", INT64, ["N"])],
    )
    write("two", model([node("Neg", ["a"], ["c"]), node("Add", ["b", "b"], ["d"])], *two))
    weighted = [value("x", FLOAT, ["N", 3]), value("w", FLOAT, [3])], [value("y", FLOAT, ["N", 3])]
    write("optional", model([node("Mul", ["x", "w"], ["y"])], *weighted, [constant("w", [1, 2, 3], np.float32)]))
    constants = [value("x", FLOAT, ["N", 1])], [value("y", FLOAT, ["N", 1]), value("w", FLOAT, [2048])]
    write(
        "weight_out",
        model(
            [node("Neg", ["x"], ["y"]), node("Identity", ["v"], ["w"])],
            *constants,
            [constant("v", np.arange(2048), np.float32)],
        ),
    )


def write_unsharable() -> None:
    """Free first axes that do not count rows."""
    write(
        "total",
        model(
            [node("ReduceSum", ["x"], ["y"], keepdims=1)],
            [value("x", FLOAT, ["N", 3])],
            [value("y", FLOAT, ["M", 1])],
        ),
    )
    write(
        "doubled",
        model(
            [node("Concat", ["x", "x"], ["y"], axis=0)],
            [value("x", FLOAT, ["N", 3])],
            [value("y", FLOAT, ["M", 3])],
        ),
    )
    write(
        "outer",
        model(
            [node("Transpose", ["b"], ["t"], perm=[1, 0]), node("MatMul", ["a", "t"], ["y"])],
            [value("a", FLOAT, ["N", 3]), value("b", FLOAT, ["M", 3])],
            [value("y", FLOAT, ["N", "M"])],
        ),
    )
    # As many rows out as in, unless a value is 0: probes with ones do not see it.
    write(
        "drops",
        model(
            [node("Cast", ["x"], ["kept"], to=BOOL), node("Compress", ["x", "kept"], ["y"], axis=0)],
            [value("x", FLOAT, ["N"])],
            [value("y", FLOAT, ["M"])],
        ),
    )


def write_values() -> None:
    """Answers that depend on values."""
    table = constant("table", [[0, 1], [2, 3], [4, 5], [6, 7]], np.float32)
    ends = [value("i", INT64, ["N"])], [value("y", FLOAT, ["N", 2])]
    write("pick", model([node("Gather", ["table", "i"], ["y"])], *ends, [table]))
    # Neither 0 nor 1 is a row of the table, so no made-up input runs.
    nodes = [node("Add", ["i", "four"], ["row"]), node("Gather", ["table", "row"], ["y"])]
    write("picky", model(nodes, *ends, [table, constant("four", [4], np.int64)]))
    write(
        "grow",
        model(
            [node("Squeeze", ["n", "zero"], ["shape"]), node("ConstantOfShape", ["shape"], ["y"])],
            [value("n", INT64, [1, 2])],
            [value("y", FLOAT, ["A", "B"])],
            [constant("zero", [0], np.int64)],
        ),
    )
    odd = np.array([np.nan, np.inf, -np.inf], np.float32)
    write(
        "nonfinite",
        model(
            [node("Mul", ["x", "zero"], ["none"]), node("Add", ["none", "odd"], ["y"])],
            [value("x", FLOAT, ["N", 3])],
            [value("y", FLOAT, ["N", 3])],
            [constant("zero", 0, np.float32), numpy_helper.from_array(odd, "odd")],
        ),
    )


def spin_body() -> GraphProto:
    """One turn of a loop that counts."""
    return helper.make_graph(
        [node("Identity", ["goes_on"], ["goes_on_out"]), node("Add", ["count", "one"], ["count_out"])],
        "body",
        [value("turn", INT64, []), value("goes_on", BOOL, []), value("count", INT64, [1])],
        [value("goes_on_out", BOOL, []), value("count_out", INT64, [1])],
        [constant("one", [1], np.int64)],
    )


def write_spin() -> None:
    """Write a loop: n INT64 [1] -> y, counted to n."""
    nodes = [
        node("Squeeze", ["n"], ["turns"]),
        node("Loop", ["turns", "yes", "none"], ["y"], body=spin_body()),
    ]
    weights = [constant("yes", 1, np.bool_), constant("none", [0], np.int64)]
    write("spin", model(nodes, [value("n", INT64, [1])], [value("y", INT64, [1])], weights))


def write_unserved() -> None:
    """Values that no request can hold, and operators that nobody has vouched for."""
    to = TensorProto.FLOAT8E4M3FN
    ends = [value("x", FLOAT, ["N"])], [value("y", to, ["N"])]
    opsets = [helper.make_opsetid("", 19)]
    graph = helper.make_graph([node("Cast", ["x"], ["y"], to=to)], "test", *ends)
    write("float8", helper.make_model(graph, opset_imports=opsets, ir_version=9))
    sequence = helper.make_tensor_sequence_value_info("y", FLOAT, None)
    write("sequence", model([node("SequenceConstruct", ["x"], ["y"])], [value("x", FLOAT, ["N"])], [sequence]))
    ends = [value("x", FLOAT, ["N"])], [value("y", FLOAT, ["N"])]
    write("unknown_domain", model([node("Run", ["x"], ["y"], domain="evil.ops")], *ends), check=False)
    write("unknown_operator", model([node("Nonsense", ["x"], ["y"])], *ends), check=False)


def write_external() -> None:
    """Write x FP32 [N, 4] -> y = x + w, with w in external.bin; `external_*` name files that must not be opened."""
    for name, location in [
        ("external", "external.bin"),
        ("external_parent", "../escape.bin"),
        ("external_inside_parent", "a/../../escape.bin"),
        ("external_absolute", "/etc/passwd"),
        ("external_device", "/dev/zero"),
        ("external_missing", "missing.bin"),
        ("external_link", "link.bin"),
        ("external_memory", "*/_ORT_MEM_ADDR_/*"),
    ]:
        weight = constant("w", [1, 2, 3, 4], np.float32)
        data = weight.raw_data
        set_external_data(weight, location, 0, len(data))
        weight.ClearField("raw_data")
        ends = [value("x", FLOAT, ["N", 4])], [value("y", FLOAT, ["N", 4])]
        write(name, model([node("Add", ["x", "w"], ["y"])], *ends, [weight]), check=False)
        if name == "external":
            (FOLDER / location).write_bytes(data)


def write_classifiers() -> None:
    """Logistic regressions with ZipMap, and in `<name>.expected` what they say of three rows, column by label."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(0)
    features = random.standard_normal((60, 2)).astype(np.float32)
    kinds = (features[:, 0] > 0).astype(int) + (features[:, 1] > 0).astype(int)
    for name, labels in [("zipmap_strings", ["dog", "ape", "cat"]), ("zipmap_numbers", [7, -1, 30])]:
        fitted = LogisticRegression().fit(features, np.array(labels)[kinds])
        made = to_onnx(fitted, features[:1], target_opset={"": 17, "ai.onnx.ml": 3}, options={"zipmap": True})
        save(made, FOLDER / f"{name}.onnx")
        rows = np.array([[0, 0], [1, -1], [2, 3]], np.float32)
        lines = [" ".join(map(str, fitted.classes_))]
        lines += [" ".join(f"{share:.6f}" for share in row) for row in fitted.predict_proba(rows)]
        (FOLDER / f"{name}.expected").write_text("\n".join(lines) + "\n")


def main() -> None:
    """Write all of them."""
    write_tensors()
    write_unsharable()
    write_values()
    write_spin()
    write_unserved()
    write_external()
    write_classifiers()


if __name__ == "__main__":
    main()
