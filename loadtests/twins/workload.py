"""What both are asked: a folder with a model and its pipeline, and bodies of the Open Inference Protocol."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from servekit.bench.encoding import Body

JSON: Final = "application/json"
BINARY: Final = "application/octet-stream"
PIXELS: Final = 224
SHORTEST: Final = 256
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)

TEXT_PIPELINE: Final = """\
inputs: {text: string}
before:
  - use: tokenize
    with: {special_tokens: false}
after:
  - use: vectors.mean_pool
    from: [last_hidden_state, attention_mask]
  - use: vectors.l2_normalise
    as: embedding
"""
PICTURE_PIPELINE: Final = f"""\
inputs: {{image: bytes}}
before:
  - use: decode_image
  - use: resize
    with: {{width: {PIXELS}, height: {PIXELS}, fit: crop, shortest: {SHORTEST}}}
  - use: image.normalise
    with: {{mean: {list(MEAN)}, std: {list(STD)}}}
after:
  - use: scores.softmax
    as: probabilities
"""


class Answer(NamedTuple):
    """What came back."""

    server_timing: str
    """Empty unless the server was told to say it."""
    content: bytes


@dataclass(frozen=True)
class Workload:
    """One comparison."""

    name: str
    ratio_min: float
    """The bar: throughput of the pipeline over that of its twin."""
    write: Callable[[Path], None]
    """Puts `model.onnx`, `model.yaml` and what belongs to them into a folder."""
    bodies: Callable[[], list[Body]]
    output: str
    """What is compared, to be sure that both do the same."""
    tolerance: float


def ask(connection: HTTPConnection, name: str, body: Body) -> Answer:
    """One request to a model, and its answer."""
    headers = {"content-type": body.content_type}
    if body.json_bytes is not None:
        headers["inference-header-content-length"] = str(body.json_bytes)
    connection.request("POST", f"/v2/models/{name}/infer", body.content, headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != HTTPStatus.OK:
        message = f"{name!r} answers {answer.status}, 200 is expected: {content.decode(errors='replace')}"
        raise RuntimeError(message)
    return Answer(answer.headers.get("server-timing", ""), content)


def embedding_files() -> tuple[Path, Path]:
    """Weights and tokenizer that the package `wordllama` ships: 32,000 tokens of 256 numbers."""
    package = Path(str(files("wordllama")))
    return (
        package / "weights" / "l2_supercat_256.safetensors",
        package / "tokenizers" / "l2_supercat_tokenizer_config.json",
    )


def write_text(folder: Path) -> None:
    """A vector for each token, and their mean."""
    from safetensors.numpy import load_file

    weights_path, tokenizer_path = embedding_files()
    weights = load_file(weights_path)["embedding.weight"]
    graph = helper.make_graph(
        [helper.make_node("Gather", ["weights", "input_ids"], ["last_hidden_state"], axis=0)],
        "embedding",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "length"])],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["rows", "length", 256])],
        [numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    save(graph, folder, TEXT_PIPELINE)
    (folder / "tokenizer.json").write_bytes(tokenizer_path.read_bytes())


def text_bodies() -> list[Body]:
    """Sentences from the descriptions of scikit-learn's datasets, 5 to 60 words each."""
    words: list[str] = []
    for path in sorted(Path(str(files("sklearn.datasets"))).glob("descr/*.rst")):
        words += [word for word in path.read_text().split() if word.isascii()]
    dice = np.random.default_rng(7)
    made = []
    for _ in range(256):
        start, count = int(dice.integers(0, len(words) - 60)), int(dice.integers(5, 61))
        text = " ".join(words[start : start + count])
        document = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}]}
        made.append(Body(json.dumps(document).encode(), JSON, None, 1 / 256))
    return made


def write_pictures(folder: Path) -> None:
    """A small classifier: what is compared is the way to it."""
    dice = np.random.default_rng(3)
    weights = {
        "filters": dice.normal(0, 0.1, (8, 3, 8, 8)),
        "matrix": dice.normal(0, 0.5, (8, 10)),
        "bias": dice.normal(0, 0.1, 10),
    }
    nodes = [
        helper.make_node("Conv", ["pixels", "filters"], ["features"], strides=[8, 8]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["means"]),
        helper.make_node("Flatten", ["means"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["rows", 3, PIXELS, PIXELS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    save(graph, folder, PICTURE_PIPELINE)


def picture_bodies() -> list[Body]:
    """The two photographs of 640 by 427 pixels that scikit-learn ships."""
    made = []
    for name in ("china.jpg", "flower.jpg"):
        picture = (Path(str(files("sklearn.datasets"))) / "images" / name).read_bytes()
        size = 4 + len(picture)
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": size}}
        header = json.dumps({"inputs": [tensor]}).encode()
        content = header + struct.pack("<I", len(picture)) + picture
        made.append(Body(content, BINARY, len(header), 0.5))
    return made


def save(graph: Any, folder: Path, pipeline: str) -> None:  # noqa: ANN401 - onnx has no types
    """Writes model and pipeline."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    (folder / "model.yaml").write_text(pipeline)


WORKLOADS: Final = {
    one.name: one
    for one in (
        Workload("text", 3.0, write_text, text_bodies, "embedding", 1e-4),
        # Two resizers that are both bilinear differ by a level here and there.
        Workload("pictures", 2.0, write_pictures, picture_bodies, "probabilities", 2e-2),
    )
}
