"""Train the demo model and write `model.onnx` beside this file: `python -m servekit.demo.train`.

The data are the 1,797 handwritten digits that come with scikit-learn; a quarter of them is held out. The network is
small on purpose: two dense layers read an image in microseconds, so that what the demo shows is the server. Needs
scikit-learn and onnx, which the extra `test` brings.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper, save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from servekit.demo import MODEL_PATH

GREY_MAX = 16.0
HIDDEN_UNITS = (96, 48)
ROUNDS = 60
SEED = 0

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Digits:
    """Images [rows, 8, 8] of grey values from 0 to 16, and the digit that each shows."""

    train_images: Floats
    train_digits: Integers
    held_out_images: Floats
    held_out_digits: Integers


def digits() -> Digits:
    """The same split on every machine, with every digit equally frequent on both sides."""
    data = load_digits()
    images = data.images.astype(np.float32)
    parts = train_test_split(images, data.target.astype(np.int64), random_state=SEED, stratify=data.target)
    train_images, held_out_images, train_digits, held_out_digits = parts
    return Digits(train_images, train_digits, held_out_images, held_out_digits)


def shifted(images: Floats) -> Floats:
    """The images, and each of them moved by one pixel to the four sides: people do not write in the exact middle."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    corners = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    return np.concatenate([padded[:, row : row + 8, column : column + 8] for row, column in corners])


def train(data: Digits) -> MLPClassifier:
    """Fit the network; the seed fixes its first weights and the order of the rows."""
    images = shifted(data.train_images).reshape(-1, 64) / GREY_MAX
    labels = np.tile(data.train_digits, len(images) // len(data.train_digits))
    network = MLPClassifier(HIDDEN_UNITS, alpha=1e-3, batch_size=128, random_state=SEED)
    for _ in range(ROUNDS):
        network.partial_fit(images, labels, classes=np.arange(10))
    return network


def exported(network: MLPClassifier) -> ModelProto:
    """The network as ONNX: `image` FP32 [rows, 8, 8] to `digit` INT64 [rows] and `probabilities` FP32 [rows, 10].

    Scaling and flattening are part of the graph, so that a client sends grey values as they are.
    """
    constants: dict[str, NDArray[Any]] = {
        "grey_max": np.array(GREY_MAX, np.float32),
        "flat": np.array([-1, 64], np.int64),
    }
    nodes = [
        helper.make_node("Div", ["image", "grey_max"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "flat"], ["layer_0"]),
    ]
    layers = list(zip(network.coefs_, network.intercepts_, strict=True))
    for number, (weights, bias) in enumerate(layers):
        constants[f"weights_{number}"] = weights.astype(np.float32)
        constants[f"bias_{number}"] = bias.astype(np.float32)
        last = number == len(layers) - 1
        dense = "logits" if last else f"dense_{number}"
        nodes.append(helper.make_node("Gemm", [f"layer_{number}", f"weights_{number}", f"bias_{number}"], [dense]))
        if not last:
            nodes.append(helper.make_node("Relu", [dense], [f"layer_{number + 1}"]))
    nodes += [
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        helper.make_node("ArgMax", ["logits"], ["digit"], axis=-1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 8, 8])],
        [
            helper.make_tensor_value_info("digit", TensorProto.INT64, ["rows"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 10]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        doc_string="Reads a handwritten digit from an image of 8 by 8 grey values, 0 for paper to 16 for ink.",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "servekit.demo.train"
    checker.check_model(model, full_check=True)
    return model


def main() -> None:
    """Train, say how well the network reads what it has not seen, and write it."""
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("--out", type=Path, default=MODEL_PATH)
    out: Path = parser.parse_args().out
    data = digits()
    network = train(data)
    share = network.score(data.held_out_images.reshape(-1, 64) / GREY_MAX, data.held_out_digits)
    save(exported(network), out)
    print(f"{share:.1%} of {len(data.held_out_digits)} held-out digits read, {out.stat().st_size:,} bytes in {out}")


if __name__ == "__main__":
    main()
