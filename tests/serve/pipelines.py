"""Models with pipelines for tests, each in a folder of its own, and what they have to answer, worked out in Python.

The folders are the recipes as people copy them, around models so small that a test is about the steps. The oracle is
`servekit.pipelines.reference`: kernels as plain Python, the model in ONNX Runtime itself, and for the native stages the
libraries that people know: Pillow, and `tokenizers`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import helper
from PIL import Image
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer

from servekit.pipelines import ModelContract, Plan, Surroundings, planned, read, recipe
from servekit.pipelines.contracts import DATATYPES
from servekit.pipelines.reference import Refused, reference_run
from tests.serve import models

TOKENIZER = Path(__file__).parents[2] / "native" / "stages" / "tests" / "data" / "tokenizer.json"
IMAGES = Path(datasets.__file__).parent / "images"
CITIES = ("berlin", "lima", "oslo")
PLANS = ("free", "team", "company")
SIDE, ROOM, BRIGHT = 8, 4, 100.0
"""Of the squares that `shop` finds: how large, at most how many, and how bright."""
SHOP_WEIGHTS = np.random.default_rng(5).standard_normal((12, 5)).astype(np.float32)
SHOP = """
inputs: {image: "uint8[32, 32, 3]"}
before:
  - model: finder
    as: [boxes, found]
  - use: image.crops
    from: [image, boxes]
    with: {width: 8, height: 8}
  - use: image.normalise
    each: found
model: {each: found}
after:
  - use: scores.softmax
    each: found
outputs: [boxes, found, probabilities]
"""
RELAY = """
inputs: {value: "float32[3]"}
before: [{model: first, as: value}]
after:
  - use: "kernels.py:finite"
"""
PARTS = """
inputs: {value: "float32[4, 3]", count: int64}
before: [{model: first, from: value, each: count, as: value}]
model: {each: count}
after: [{use: "kernels.py:finite", each: count}]
"""
OWN_KERNEL = """
import math

import servekit


@servekit.kernel(
    inputs={"value": ("float32", ("size",))},
    outputs={"finite": ("float32", ("size",))},
    per="row",
)
def finite(value, finite):
    for place in range(value.shape[0]):
        if not math.isfinite(value[place]):
            raise ValueError("the value is not a finite number")
        finite[place] = value[place]
"""


# Folders -------------------------------------------------------------------------------------------------------------


def _folder(root: Path, name: str, pipeline: str | bytes) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_bytes(pipeline if isinstance(pipeline, bytes) else pipeline.encode())
    return folder


def classifier(root: Path) -> Path:
    """The recipe of image classification."""
    folder = _folder(root, "photos", recipe("image_classification") + b"raw: true\n")
    _classifier(folder / "model.onnx")
    return folder


def _classifier(path: Path) -> None:
    """Mean colours of a picture's quarters, into ten classes."""
    random = np.random.default_rng(1)
    constants = {"weights": random.standard_normal((12, 10)).astype(np.float32)}
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["quarters"], kernel_shape=[112, 112], strides=[112, 112]),
        helper.make_node("Flatten", ["quarters"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    inputs = [models.value("pixels", "FP32", ["N", 3, 224, 224])]
    models.write(path, nodes, inputs, [models.value("logits", "FP32", ["N", 10])], constants)


def encoder(root: Path) -> Path:
    """The recipe of text embedding: a vector for each token, moved by its neighbours' mean."""
    folder = _folder(root, "texts", recipe("text_embedding"))
    words = json.loads(TOKENIZER.read_text())
    # The tests' own file pads to 16, which is left to batches here.
    (folder / "tokenizer.json").write_text(json.dumps(words | {"padding": None}))
    random = np.random.default_rng(2)
    constants = {"table": random.standard_normal((len(words["model"]["vocab"]), 384)).astype(np.float32)}
    nodes = [
        helper.make_node("Add", ["input_ids", "token_type_ids"], ["tokens"]),
        helper.make_node("Gather", ["table", "tokens"], ["vectors"]),
        helper.make_node("Unsqueeze", ["attention_mask", "last"], ["mask"]),
        helper.make_node("Cast", ["mask"], ["weights"], to=models.KINDS["FP32"]),
        helper.make_node("Mul", ["vectors", "weights"], ["last_hidden_state"]),
    ]
    axes = ["batch", "sequence"]
    inputs = [models.value(name, "INT64", axes) for name in ("input_ids", "attention_mask", "token_type_ids")]
    outputs = [models.value("last_hidden_state", "FP32", [*axes, 384])]
    models.write(folder / "model.onnx", nodes, inputs, outputs, constants | {"last": np.array([-1])})
    return folder


def table(root: Path) -> Path:
    """The recipe of tables: a classifier that scikit-learn has trained on its wines, with two columns as categories."""
    from skl2onnx import to_onnx

    folder = _folder(root, "wines", recipe("tabular_classification"))
    numbers, cities, plans, kinds = wines()
    scaled = (numbers - [38.6, 2.1, 60.2]) / [13.4, 1.4, 28.8]
    hot = [np.equal.outer(names, known) for names, known in ((cities, CITIES), (plans, PLANS))]
    features = np.concatenate([scaled, *hot], axis=1).astype(np.float32)
    trained = LogisticRegression(max_iter=1000).fit(features, kinds)
    model = to_onnx(trained, features[:1], options={"zipmap": False}, target_opset=17)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


@cache
def wines() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Three measurements of each wine, two more as categories, and whether it is of the first kind."""
    data, kinds = datasets.load_wine(return_X_y=True)
    thirds = [np.searchsorted(np.quantile(data[:, column], [1 / 3, 2 / 3]), data[:, column]) for column in (3, 9)]
    return (
        data[:, [4, 0, 12]].astype(np.float32),
        np.array(CITIES)[thirds[0]],
        np.array(PLANS)[thirds[1]],
        (kinds == 0).astype(np.int64),
    )


def detector(root: Path) -> Path:
    """The recipe of object detection."""
    folder = _folder(root, "boxes", recipe("object_detection"))
    _detector(folder / "model.onnx")
    return folder


def _detector(path: Path) -> None:
    """Boxes at 8,400 anchors, found by the colours around them."""
    random = np.random.default_rng(3)
    nodes, parts, constants = [], [], {"shape": np.array([0, 84, -1])}
    constants["scale"] = np.concatenate([np.full(4, 640), np.ones(80)]).astype(np.float32).reshape(84, 1)
    for stride in (8, 16, 32):
        weights = random.standard_normal((84, 3, 1, 1)) * 6
        constants[f"weights{stride}"] = weights.astype(np.float32)
        constants[f"bias{stride}"] = np.concatenate([np.zeros(2), [-2, -2], np.full(80, -6)]).astype(np.float32)
        pool = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes += [
            helper.make_node("AveragePool", ["images"], [f"pooled{stride}"], **pool),
            helper.make_node(
                "Conv", [f"pooled{stride}", f"weights{stride}", f"bias{stride}"], [f"grid{stride}"], kernel_shape=[1, 1]
            ),
            helper.make_node("Reshape", [f"grid{stride}", "shape"], [f"part{stride}"]),
        ]
        parts.append(f"part{stride}")
    nodes += [
        helper.make_node("Concat", parts, ["joined"], axis=2),
        helper.make_node("Sigmoid", ["joined"], ["shares"]),
        helper.make_node("Mul", ["shares", "scale"], ["output0"]),
    ]
    inputs = [models.value("images", "FP32", ["N", 3, 640, 640])]
    models.write(path, nodes, inputs, [models.value("output0", "FP32", ["N", 84, 8400])], constants)


def labelled(root: Path) -> Path:
    """The recipe of detection and classification, with its classifier in a file beside the folder."""
    folder = _folder(root, "labelled", recipe("detect_and_classify"))
    _detector(folder / "model.onnx")
    _classifier(root / "classifier.onnx")
    return folder


def finite(root: Path) -> Path:
    """Three numbers through a kernel of the folder's own, which refuses what is not finite, and twice themselves."""
    folder = _folder(root, "finite", "inputs: {value: 'float32[3]'}\nbefore: [{use: 'kernels.py:finite'}]\nraw: true\n")
    (folder / "kernels.py").write_text(OWN_KERNEL)
    node = helper.make_node("Add", ["x", "x"], ["y"])
    axes = ["N", 3]
    models.write(folder / "model.onnx", [node], [models.value("x", "FP32", axes)], [models.value("y", "FP32", axes)])
    return folder


def cities(root: Path) -> Path:
    """The place of a city among those of a file, as it is."""
    written = "inputs: {city: string}\nbefore: [{use: lookup, with: {file: cities.txt}}]\n"
    folder = _folder(root, "cities", written)
    (folder / "cities.txt").write_text("\n".join(CITIES))
    node = helper.make_node("Identity", ["x"], ["y"])
    axes = ["N", 1]
    models.write(folder / "model.onnx", [node], [models.value("x", "INT64", axes)], [models.value("y", "INT64", axes)])
    return folder


def coded(root: Path) -> Path:
    """The same kernel in a pipeline that is written in Python, with a kernel that comes with servekit behind it."""
    folder = finite(root / "coded-from").rename(root / "coded")
    (folder / "model.yaml").unlink()
    steps = "'before': [{'use': finite}], 'after': [{'use': scores.softmax}]"
    table = f"pipeline = {{'inputs': {{'value': 'float32[3]'}}, {steps}}}"
    code = f"from servekit.kernels import scores\n{OWN_KERNEL}\n{table}\n"
    (folder / "kernels.py").rename(folder / "pipeline.py").write_text(code)
    return folder


def chain(root: Path) -> Path:
    """Runs `photos` by its file, on colours instead of pictures, and its own model on what that gives."""
    written = "inputs: {pixels: 'float32[3, 224, 224]'}\nbefore: [{model: photos.raw, as: x}]\n"
    folder = _folder(root, "chain", written)
    node = helper.make_node("Neg", ["x"], ["y"])
    axes = ["N", 10]
    models.write(folder / "model.onnx", [node], [models.value("x", "FP32", axes)], [models.value("y", "FP32", axes)])
    return folder


def shop(root: Path) -> Path:
    """Finds bright squares in a small picture, cuts them out and classifies each of them: two models."""
    folder = _folder(root, "shop", SHOP)
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=models.KINDS["FP32"]),
        helper.make_node("ReduceMean", ["values"], ["grey"], axes=[3], keepdims=0),
        helper.make_node("Unsqueeze", ["grey", "first"], ["plane"]),
        helper.make_node("AveragePool", ["plane"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["cells"], ["brightness"]),
        helper.make_node("TopK", ["brightness", "room"], ["brightest", "places"], axis=1),
        helper.make_node("Gather", ["corners", "places"], ["boxes"]),
        helper.make_node("Greater", ["brightest", "bright"], ["is_bright"]),
        helper.make_node("Cast", ["is_bright"], ["ones"], to=models.KINDS["INT64"]),
        helper.make_node("ReduceSum", ["ones", "first"], ["found"]),
    ]
    corners = [[x, y, x + SIDE, y + SIDE] for y in range(0, 32, SIDE) for x in range(0, 32, SIDE)]
    constants = {
        "first": np.array([1]),
        "room": np.array([ROOM]),
        "corners": np.array(corners, np.float32),
        "bright": np.array(BRIGHT, np.float32),
    }
    outputs = [models.value("boxes", "FP32", ["N", ROOM, 4]), models.value("found", "INT64", ["N", 1])]
    models.write(root / "finder.onnx", nodes, [models.value("image", "UINT8", ["N", 32, 32, 3])], outputs, constants)
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["quarters"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Flatten", ["quarters"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    inputs, outputs = [models.value("pixels", "FP32", ["N", 3, 8, 8])], [models.value("logits", "FP32", ["N", 5])]
    models.write(folder / "model.onnx", nodes, inputs, outputs, {"weights": SHOP_WEIGHTS})
    return folder


def relay(root: Path) -> Path:
    """Three numbers through a model that leaves them as they are, and one that gives their inverses; 0 has none."""
    return _inverses(root, "relay", RELAY)


def parts(root: Path) -> Path:
    """The same with as many entries of a row as it says."""
    return _inverses(root, "parts", PARTS)


def _inverses(root: Path, name: str, pipeline: str) -> Path:
    models.identity(root, "first", "FP32", ["N", 3])
    folder = _folder(root, name, pipeline)
    (folder / "kernels.py").write_text(OWN_KERNEL)
    node, axes = helper.make_node("Reciprocal", ["x"], ["y"]), ["N", 3]
    models.write(folder / "model.onnx", [node], [models.value("x", "FP32", axes)], [models.value("y", "FP32", axes)])
    return folder


def column(values: Sequence[bytes | str]) -> np.ndarray:
    """One BYTES tensor with an element a row."""
    array = np.empty(len(values), np.object_)
    array[:] = [value if isinstance(value, bytes) else value.encode() for value in values]
    return array


# What they have to answer --------------------------------------------------------------------------------------------


def decode_image(content: bytes, mode: str = "rgb") -> tuple[np.ndarray]:
    """As Pillow has it."""
    assert mode == "rgb"
    with Image.open(io.BytesIO(content)) as image:
        return (np.asarray(image.convert("RGB")),)


def resize(image: np.ndarray, width: int, height: int, fit: str, **options: int) -> tuple[np.ndarray, np.ndarray]:
    """Bilinear, with antialiasing, as Pillow does it; left, top and scales."""
    rows, columns = image.shape[:2]
    scale = options["shortest"] / min(rows, columns) if fit == "crop" else min(width / columns, height / rows)
    across, down = round(columns * scale), round(rows * scale)
    scaled = np.asarray(Image.fromarray(image).resize((across, down), Image.Resampling.BILINEAR))
    if fit == "crop":
        left, top = (across - width) // 2, (down - height) // 2
        return scaled[top : top + height, left : left + width], np.zeros(4, np.float32)
    boxed = np.full((height, width, 3), options["fill"], np.uint8)
    left, top = (width - across) // 2, (height - down) // 2
    boxed[top : top + down, left : left + across] = scaled
    return boxed, np.array([left, top, across / columns, down / rows], np.float32)


def tokenize(folder: Path, text: str, length_max: int) -> tuple[np.ndarray, ...]:
    """As the library that wrote the file has it."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(length_max)
    found = tokenizer.encode(text)
    return tuple(np.array(numbers) for numbers in (found.ids, found.attention_mask, found.type_ids))


def lookup(text: str, categories: Sequence[str], unknown: int | None = None) -> tuple[np.ndarray]:
    """The place of a text in a list."""
    if text not in categories and unknown is None:
        raise ValueError(text)
    return (np.array([categories.index(text) if text in categories else unknown]),)


def expected(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | Refused]:
    """What each row has to be answered with."""
    files = {folder.name: folder / "model.onnx"} | {path.stem: path for path in folder.parent.glob("*.onnx")}
    sessions = {name: onnxruntime.InferenceSession(path) for name, path in files.items()}
    stages = {
        "decode_image": decode_image,
        "resize": resize,
        "lookup": lookup,
        "tokenize": lambda text, **options: tokenize(folder, text, **options),
    }

    def run(name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = [output.name for output in sessions[name].get_outputs()]
        return dict(zip(names, sessions[name].run(names, dict(inputs)), strict=True))

    return reference_run(_plan(folder, sessions), rows, run, stages)


def _plan(folder: Path, sessions: Mapping[str, onnxruntime.InferenceSession]) -> Plan:
    contracts = {name: _contract(name, session) for name, session in sessions.items()}
    amid = Surroundings(folder.name, contracts, folder=folder, allow_code=True)
    return planned(read((folder / "model.yaml").read_bytes(), "model.yaml"), amid)


def _contract(name: str, session: onnxruntime.InferenceSession) -> ModelContract:
    inputs, outputs = (
        [{"name": tensor.name, "datatype": _datatype(tensor.type), "shape": tensor.shape} for tensor in tensors]
        for tensors in (session.get_inputs(), session.get_outputs())
    )
    return ModelContract.of({"name": name, "inputs": inputs, "outputs": outputs})


def _datatype(kind: str) -> str:
    """From ONNX Runtime's `tensor(float)`."""
    element = kind.removeprefix("tensor(").removesuffix(")")
    return DATATYPES[{"float": "float32", "double": "float64"}.get(element, element)]
