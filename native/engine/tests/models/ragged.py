"""Write the models of free lengths beside this file: `python ragged.py` (onnx, numpy). See make.py."""

import numpy as np
from make import FLOAT, INT64, constant, model, node, value, write
from onnx import TensorProto

ROWS, LENGTH = "N", "T"
TABLE_ROWS, WIDTH = 16, 4
random = np.random.default_rng(0)


def weights(name: str, *shape: int) -> TensorProto:
    """Make random weights."""
    return constant(name, random.standard_normal(shape), np.float32)


def picked() -> tuple[list, list]:
    """Pick rows of a table: ids -> e [N, T, WIDTH]."""
    return [node("Gather", ["table", "ids"], ["e"])], [weights("table", TABLE_ROWS, WIDTH)]


def bias(mask: str, *, hides_by_one: bool = False) -> tuple[list, list]:
    """Mask [N, T] -> m, the same as floats, and b [N, 1, T], far below zero where it hides."""
    nodes = [node("Cast", [mask], ["m"], to=FLOAT), node("Unsqueeze", ["m", "axis_1"], ["row"])]
    constants = [constant("axis_1", [1], np.int64), constant("far", -1e4, np.float32)]
    if hides_by_one:
        return [*nodes, node("Mul", ["row", "far"], ["b"])], constants
    constants.append(constant("one", 1, np.float32))
    return [*nodes, node("Sub", ["one", "row"], ["hidden"]), node("Mul", ["hidden", "far"], ["b"])], constants


def write_attention() -> None:
    """Attention with a mask: the mean over what it shows, and what each position sees."""
    nodes, constants = picked()
    more_nodes, more_constants = bias("attention_mask")
    nodes += [
        *more_nodes,
        node("MatMul", ["e", "query"], ["q"]),
        node("Transpose", ["e"], ["k"], perm=[0, 2, 1]),
        node("MatMul", ["q", "k"], ["raw"]),
        node("Add", ["raw", "b"], ["scores"]),
        node("Softmax", ["scores"], ["shares"], axis=-1),
        node("MatMul", ["shares", "e"], ["seen"]),
        node("Unsqueeze", ["m", "axis_2"], ["column"]),
        node("Mul", ["seen", "column"], ["kept"]),
        node("ReduceSum", ["kept", "axis_1"], ["sum"], keepdims=0),
        node("ReduceSum", ["m", "axis_1"], ["count"], keepdims=1),
        node("Div", ["sum", "count"], ["mean"]),
    ]
    constants += [*more_constants, weights("query", WIDTH, WIDTH), constant("axis_2", [2], np.int64)]
    inputs = [value("ids", INT64, [ROWS, LENGTH]), value("attention_mask", INT64, [ROWS, LENGTH])]
    mean = value("mean", FLOAT, [ROWS, WIDTH])
    seen = value("seen", FLOAT, [ROWS, LENGTH, WIDTH])
    write("ragged_attention", model(nodes, inputs, [mean, seen], constants))
    shares = value("shares", FLOAT, [ROWS, LENGTH, LENGTH])
    write("ragged_map", model(nodes, inputs, [mean, shares], constants))


def write_mean() -> None:
    """Write the mean over the positions that a mask of floats shows."""
    nodes = [
        node("Unsqueeze", ["mask", "axis_2"], ["column"]),
        node("Mul", ["x", "column"], ["kept"]),
        node("ReduceSum", ["kept", "axis_1"], ["sum"], keepdims=0),
        node("ReduceSum", ["mask", "axis_1"], ["count"], keepdims=1),
        node("Div", ["sum", "count"], ["y"]),
    ]
    constants = [constant("axis_1", [1], np.int64), constant("axis_2", [2], np.int64)]
    inputs = [value("x", FLOAT, [ROWS, LENGTH, 3]), value("mask", FLOAT, [ROWS, LENGTH])]
    write("ragged_mean", model(nodes, inputs, [value("y", FLOAT, [ROWS, 3])], constants))


def write_weighted() -> None:
    """Means weighted by a softmax over a mask that is called otherwise, or hides by ones."""
    for name, mask, hides_by_one in [("ragged_keep", "keep", False), ("ragged_hide", "padding_mask", True)]:
        nodes, constants = picked()
        more_nodes, more_constants = bias(mask, hides_by_one=hides_by_one)
        nodes += [*more_nodes, node("Softmax", ["b"], ["shares"], axis=-1), node("MatMul", ["shares", "e"], ["means"])]
        nodes += [node("Squeeze", ["means", "axis_1"], ["y"])]
        inputs = [value("ids", INT64, [ROWS, LENGTH]), value(mask, INT64, [ROWS, LENGTH])]
        write(name, model(nodes, inputs, [value("y", FLOAT, [ROWS, WIDTH])], constants + more_constants))


def write_pooled() -> None:
    """Write models without a mask that add up, or look for the greatest."""
    features, pooled = [value("x", FLOAT, [ROWS, LENGTH, 3])], [value("y", FLOAT, [ROWS, 3])]
    behind = [value("x", FLOAT, [ROWS, 2, 1, LENGTH])], [value("y", FLOAT, [ROWS, 2, 1, LENGTH])]
    write("ragged_tokens", model([node("Tanh", ["x"], ["y"])], *behind))
    write("ragged_greatest", model([node("ReduceMax", ["x"], ["y"], axes=[1], keepdims=0)], features, pooled))
    whole = [value("x", INT64, [ROWS, LENGTH])], [value("y", INT64, [ROWS])]
    write("ragged_greatest_whole", model([node("ReduceMax", ["x"], ["y"], axes=[1], keepdims=0)], *whole))
    axis = constant("axis_1", [1], np.int64)
    write("ragged_sum", model([node("ReduceSum", ["x", "axis_1"], ["y"], keepdims=0)], features, pooled, [axis]))


def write_tables() -> None:
    """Write models that know 64 places, or that leave the id 1 out."""
    ids, tokens = [value("ids", INT64, [ROWS, LENGTH])], [value("y", FLOAT, [ROWS, LENGTH, WIDTH])]
    nodes, constants = picked()
    nodes += [
        node("Shape", ["ids"], ["shape"]),
        node("Gather", ["shape", "one"], ["length"]),
        node("Range", ["zero", "length", "one"], ["places"]),
        node("Gather", ["place_table", "places"], ["p"]),
        node("Add", ["e", "p"], ["y"]),
    ]
    constants += [constant("zero", 0, np.int64), constant("one", 1, np.int64), weights("place_table", 64, WIDTH)]
    write("ragged_places", model(nodes, ids, tokens, constants))
    nodes, constants = picked()
    nodes += [
        node("Equal", ["ids", "one"], ["is_padding"]),
        node("Not", ["is_padding"], ["is_own"]),
        node("Cast", ["is_own"], ["m"], to=FLOAT),
        node("Unsqueeze", ["m", "axis_2"], ["column"]),
        node("Mul", ["e", "column"], ["kept"]),
        node("ReduceSum", ["kept", "axis_1"], ["y"], keepdims=0),
    ]
    constants += [constant("one", 1, np.int64), constant("axis_1", [1], np.int64), constant("axis_2", [2], np.int64)]
    write("ragged_ones", model(nodes, ids, [value("y", FLOAT, [ROWS, WIDTH])], constants))


def write_neighbours() -> None:
    """Positions that see the next ones: padding is no silence to them."""
    window = {"kernel_shape": [3], "pads": [1, 1]}
    nodes = [
        node("Conv", ["x", "first", "first_bias"], ["inner"], **window),
        node("Conv", ["inner", "second", "second_bias"], ["y"], **window),
    ]
    constants = [weights("first", 2, 2, 3), weights("second", 2, 2, 3)]
    constants += [weights("first_bias", 2), weights("second_bias", 2)]
    channels = [value("x", FLOAT, [ROWS, 2, LENGTH])], [value("y", FLOAT, [ROWS, 2, LENGTH])]
    write("ragged_convolution", model(nodes, *channels, constants))
    nodes = [
        node("Transpose", ["x"], ["turned"], perm=[1, 0, 2]),
        node("RNN", ["turned", "w", "r"], ["", "last"], hidden_size=WIDTH),
        node("Squeeze", ["last", "axis_0"], ["y"]),
    ]
    constants = [weights("w", 1, WIDTH, 3), weights("r", 1, WIDTH, WIDTH), constant("axis_0", [0], np.int64)]
    features = [value("x", FLOAT, [ROWS, LENGTH, 3])]
    write("ragged_recurrent", model(nodes, features, [value("y", FLOAT, [ROWS, WIDTH])], constants))


def main() -> None:
    """Write all of them."""
    write_attention()
    write_mean()
    write_weighted()
    write_pooled()
    write_tables()
    write_neighbours()


if __name__ == "__main__":
    main()
