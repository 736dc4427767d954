"""Folders that servekit serves as they are, and of which the twins read the same files.

The models are small, so that what is compared is what happens around them.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from servekit.pipelines import recipe

TOKENIZER: Final = Path(__file__).parents[2] / "native" / "stages" / "tests" / "data" / "tokenizer.json"
WIDTH: Final = 384
CLASSES: Final = 1000


def texts(root: Path) -> Path:
    """The recipe of text embedding around a table of vectors and one dense layer."""
    folder = _folder(root, "texts", recipe("text_embedding"))
    words = json.loads(TOKENIZER.read_text()) | {"padding": None}
    (folder / "tokenizer.json").write_text(json.dumps(words))
    dice = np.random.default_rng(0)
    constants = {
        "table": dice.standard_normal((len(words["model"]["vocab"]), WIDTH)).astype(np.float32),
        "weights": (dice.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32),
        "last": np.array([-1]),
    }
    nodes = [
        helper.make_node("Add", ["input_ids", "token_type_ids"], ["tokens"]),
        helper.make_node("Gather", ["table", "tokens"], ["vectors"]),
        helper.make_node("MatMul", ["vectors", "weights"], ["turned"]),
        helper.make_node("Tanh", ["turned"], ["active"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["mask"]),
        helper.make_node("Cast", ["mask"], ["shown"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["active", "shown"], ["last_hidden_state"]),
    ]
    inputs = [_value(name, TensorProto.INT64, "length") for name in ("input_ids", "attention_mask", "token_type_ids")]
    _write(folder, nodes, inputs, [_value("last_hidden_state", TensorProto.FLOAT, "length", WIDTH)], constants)
    return folder


def photos(root: Path) -> Path:
    """The recipe of image classification around the means of a picture's quarters."""
    folder = _folder(root, "photos", recipe("image_classification"))
    constants = {"weights": np.random.default_rng(1).standard_normal((12, CLASSES)).astype(np.float32)}
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["quarters"], kernel_shape=[112, 112], strides=[112, 112]),
        helper.make_node("Flatten", ["quarters"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    inputs = [_value("pixels", TensorProto.FLOAT, 3, 224, 224)]
    _write(folder, nodes, inputs, [_value("logits", TensorProto.FLOAT, CLASSES)], constants)
    return folder


def _folder(root: Path, name: str, pipeline: bytes) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "model.yaml").write_bytes(pipeline)
    return folder


def _value(name: str, kind: int, *axes: int | str) -> Any:  # noqa: ANN401 - onnx has no types
    return helper.make_tensor_value_info(name, kind, ["rows", *axes])


def _write(folder: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any]) -> None:
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, folder.name, inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save(model, folder / "model.onnx")
