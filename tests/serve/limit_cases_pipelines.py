"""Limits of what pipelines make of a request: at the limit a result, one past it a refusal."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from onnx import helper
from PIL import Image

from tests.serve import models, pipelines
from tests.serve.limit_cases import (
    Bound,
    Group,
    body,
    message,
    placed,
    refused,
    running,
    served,
    tensor,
)
from tests.serve.limit_cases_operation import loads
from tests.serve.process import ServerProcess
from tests.serve.raw_http import elapsed, infer, raw_connection

TEXT_BYTES = 16
PIXELS = 100
PIPELINE_MS = 300


def words(folder: Path) -> Path:
    """A text's place in a list, without kernels: tokenized, and the tokens given back."""
    path = pipelines.encoder(folder).rename(folder / "words")
    (path / "model.yaml").write_text(
        "inputs: {text: string}\nbefore: [{use: tokenize}]\nmodel: {shapes: {last_hidden_state: [length, 384]}}\n"
    )
    return path


def pixels(folder: Path) -> Path:
    """A picture of 4 × 4, as it came."""
    path = folder / "pixels"
    resize = "{use: resize, with: {width: 4, height: 4}, as: [x, placement]}"
    path.mkdir()
    (path / "model.yaml").write_text(f"inputs: {{image: bytes}}\nbefore: [{{use: decode_image}}, {resize}]\n")
    axes = ["N", 4, 4, 3]
    node = helper.make_node("Identity", ["x"], ["y"])
    models.write(path / "model.onnx", [node], [models.value("x", "UINT8", axes)], [models.value("y", "UINT8", axes)])
    return path


GROUP = Group(
    limits={"text_bytes_max": TEXT_BYTES, "image_pixels_max": PIXELS, "pipeline_ms_max": PIPELINE_MS},
    models=(words, pixels, models.spin),
    environment=placed(spin="pool"),
)


def text_body(length: int) -> bytes:
    return body(tensor("text", "BYTES", [1], ["a" * length]))


def element(content: bytes) -> bytes:
    """As raw contents have it."""
    return len(content).to_bytes(4, "little") + content


def text_message(length: int) -> bytes:
    return message("words", ("text", "BYTES", [1], element(b"a" * length)))


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (width, height)).save(stream, "png")
    return stream.getvalue()


def image_body(width: int, height: int) -> bytes:
    return body(tensor("image", "BYTES", [1], [base64.b64encode(png(width, height)).decode()]))


def image_message(width: int, height: int) -> bytes:
    return message("pixels", ("image", "BYTES", [1], element(png(width, height))))


GROUP.cases["text_bytes_max"] = Bound(
    "value",
    "words",
    text_body(TEXT_BYTES),
    text_body(TEXT_BYTES + 1),
    text_message(TEXT_BYTES),
    text_message(TEXT_BYTES + 1),
)
GROUP.cases["image_pixels_max"] = Bound(
    "value",
    "pixels",
    image_body(10, 10),
    image_body(101, 1),
    image_message(10, 10),
    image_message(101, 1),
)


@GROUP.case("pipeline_ms_max")
def pipeline_time(server: ServerProcess) -> None:
    """Whoever asks a pipeline waits no longer, however patient; the same request is served once there is a runner."""
    with raw_connection(server) as connection:
        served(connection.ask(infer("words", text_body(3))))
        with running(server):
            late = elapsed(lambda: refused(connection.ask(infer("words", text_body(3))), 504, "deadline"))
            assert PIPELINE_MS <= late * 1000 < 10 * PIPELINE_MS
        served(connection.ask(infer("words", text_body(3))))


def pipeline_stages(folder: Path) -> None:
    """Two stages and the model."""
    loads(pixels(folder), "pipeline_stages_max", 3)


CHECKS = {"pipeline_stages_max": pipeline_stages}
