"""A row for a pipeline to be tried with: from the samples that the operator gives, else made up, the same each time."""

import base64
import struct
import zlib
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from servekit.kernels.ports import ELEMENTS, Array
from servekit.pipelines.contracts import DATATYPES
from servekit.pipelines.plan import Plan, StageCall, Value
from servekit.pipelines.schema import TEXTS
from servekit.sizes import sized

PICTURE_WIDTH: Final = 640
PICTURE_HEIGHT: Final = 480
AXES: Final[Mapping[str, int]] = {"height": PICTURE_HEIGHT, "width": PICTURE_WIDTH}
"""Sizes of axes that inputs leave open, by their names."""
AXIS: Final = 32
"""Of all others."""
SENTENCE: Final = (
    "The quick brown fox that lives behind the old railway station jumps over the lazy dog every morning, and on most "
    "days the dog opens one eye, thinks about it for a while, and goes back to sleep in the sun."
)
CATEGORY_CHARACTERS_MAX: Final = 1 << 24
"""A file of categories has no more."""
_SEED: Final = 1
_NOISE: Final = 8
"""Levels. With them a picture is compressed about as well as a photograph."""

Sample = Mapping[str, Any]
"""A tensor as it crosses: name, datatype, shape, and raw elements in base64."""


class MadeUp(NamedTuple):
    """One row, and what it was, for people."""

    tensors: tuple[Sample, ...]
    told: str


def row(plan: Plan, folder: Path, samples: Sequence[Sample] = ()) -> MadeUp:
    """The row that a pipeline is tried with; its samples are used where they are of the pipeline's own inputs."""
    given = {sample["name"]: sample for sample in samples}
    wanted = {name: plan.values[number] for name, number in plan.inputs.items()}
    if given and all(name in given and _fits(value, given[name]) for name, value in wanted.items()):
        return MadeUp(tuple(_first(given[name]) for name in wanted), "the first row of its samples")
    random = np.random.default_rng(_SEED)
    # All entries mean something, so that steps on entries have something to do.
    counts = {call.each.count: _size(call.each.axis) for call in plan.batch if call.each is not None}
    tensors, told = [], []
    for name, value in wanted.items():
        shape = [1, *map(_size, value.shape)]
        if value.dtype in TEXTS:
            content, what = _content(plan, value.number, folder)
            raw = _with_length(content) * prod(shape)
        elif value.number in counts:
            raw, what = np.full(shape, counts[value.number], value.port.element.numpy).tobytes(), "all entries"
        else:
            raw, what = _numbers(random, value.dtype, shape).tobytes(), f"made-up {value.dtype} {shape[1:]}"
        tensors.append(_crossing(name, DATATYPES[value.dtype], shape, raw))
        told.append(f"{name}: {what}")
    return MadeUp(tuple(tensors), "; ".join(told))


def _size(axis: int | str) -> int:
    return axis if isinstance(axis, int) else AXES.get(axis, AXIS)


def picture() -> bytes:
    """A PNG of colours that run into each other, with the noise that a camera has."""
    down, across = np.mgrid[0:PICTURE_HEIGHT, 0:PICTURE_WIDTH]
    channels = (down * 240 // PICTURE_HEIGHT, across * 240 // PICTURE_WIDTH, (down + across) * 240 // 1120)
    noise = np.random.default_rng(_SEED).integers(0, _NOISE, (PICTURE_HEIGHT, PICTURE_WIDTH, 3))
    pixels = (np.stack(channels, axis=-1) + noise).astype(np.uint8)
    steps = np.diff(pixels, axis=1, prepend=np.uint8(0)).reshape(PICTURE_HEIGHT, -1)
    # Each line says first how it is written: 1 is by steps from pixel to pixel.
    lines = np.insert(steps, 0, 1, axis=1).tobytes()
    head = struct.pack(">IIBBBBB", PICTURE_WIDTH, PICTURE_HEIGHT, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _content(plan: Plan, number: int, folder: Path) -> tuple[bytes, str]:
    """What the first stage that takes the value can use."""
    call = next((call for call in plan.stages if number in call.inputs), None)
    match call and call.kind:
        case "decode_image":
            content = picture()
            return content, f"a made-up PNG of {PICTURE_WIDTH} × {PICTURE_HEIGHT}, {sized(len(content))}"
        case "lookup" if call is not None:
            if (category := _category(call, folder)) is not None:
                return category.encode(), f"the category '{category}'"
        case "base64" if call is not None:
            content, what = _content(plan, call.outputs[0], folder)
            is_url = call.options.get("alphabet") == "url"
            return (base64.urlsafe_b64encode if is_url else base64.b64encode)(content), f"{what}, in base64"
    return SENTENCE.encode(), f"a made-up sentence of {len(SENTENCE.split())} words"


def _category(call: StageCall, folder: Path) -> str | None:
    if "categories" in call.options:
        return str(call.options["categories"][0])
    try:
        with (folder / str(call.options["file"])).open(encoding="utf-8-sig") as lines:
            return lines.readline(CATEGORY_CHARACTERS_MAX).rstrip("\r\n")
    except (OSError, ValueError):
        # What is wrong with the file is told by the stage itself.
        return None


def _numbers(random: np.random.Generator, dtype: str, shape: Sequence[int]) -> Array:
    """From 0 to 1: most models have places for those, whatever the numbers mean. Levels of colours are all levels."""
    if dtype == "float16":
        return random.random(shape).astype(np.float16)
    if dtype == "bfloat16":
        # The upper half of a FP32.
        return (random.random(shape, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    if dtype in {"float32", "float64"}:
        return random.random(shape).astype(ELEMENTS[dtype].numpy)
    return random.integers(0, 256 if dtype == "uint8" else 2, shape).astype(ELEMENTS[dtype].numpy)


def _fits(value: Value, sample: Sample) -> bool:
    """Whether a sample is of this input and has a row."""
    rows, *shape = sample["shape"] or [0]
    if sample["datatype"] != DATATYPES[value.dtype] or rows < 1 or len(shape) != len(value.shape):
        return False
    return all(axis == size for axis, size in zip(value.shape, shape, strict=True) if isinstance(axis, int))


def _first(sample: Sample) -> Sample:
    """The first row of a sample."""
    rows, *shape = sample["shape"]
    raw = base64.b64decode(sample["base64"])
    if sample["datatype"] == "BYTES":
        end = 0
        for _ in range(prod(shape)):
            end += 4 + int.from_bytes(raw[end : end + 4], "little")
    else:
        end = len(raw) // rows
    return _crossing(sample["name"], sample["datatype"], [1, *shape], raw[:end])


def _crossing(name: str, datatype: str, shape: Sequence[int], raw: bytes) -> Sample:
    return {"name": name, "datatype": datatype, "shape": list(shape), "base64": base64.b64encode(raw).decode()}


def _with_length(content: bytes) -> bytes:
    return len(content).to_bytes(4, "little") + content
