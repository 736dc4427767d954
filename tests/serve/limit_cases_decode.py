"""Limits of what is decoded, on one server: at the limit a result, one past it a refusal that leaves the connection."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.serve import models
from tests.serve.limit_cases import Bound, Group, body, message, row, tensor
from tests.serve.stubs import stub_module

LIMITS = {
    "json_depth_max": 6,
    "json_number_bytes_max": 24,
    "protobuf_depth_max": 4,
    "request_tensors_max": 2,
    "parameters_max": 3,
    "name_bytes_max": 24,
    "request_id_bytes_max": 8,
    "parameter_bytes_max": 12,
    "tensor_rank_max": 3,
    "tensor_elements_max": 60,
    "bytes_element_bytes_max": 10,
    "bytes_elements_max": 6,
    "request_rows_max": 16,
    "priority_levels_max": 3,
}


def cube(folder: Path) -> Path:
    """x FP32 of rank 3 -> y = x."""
    return models.identity(folder, "cube", "FP32", ["N", "A", "B"])


def texts(folder: Path) -> Path:
    """x BYTES [-1,-1] -> y = x."""
    return models.identity(folder, "texts", "BYTES", ["N", "D"])


GROUP = Group(
    limits=LIMITS,
    models=(models.ident, models.two, cube, texts),
    environment={"SERVEKIT__BATCHING__PRIORITY_DEFAULT": "2"},
)
FLOATS = np.array([1.5, -2.0, 3.25], np.float32).tobytes()


def floats(shape: list[int], model: str = "ident", **fields: object) -> bytes:
    """A gRPC request of zeros."""
    raw = bytes(4 * int(np.prod(shape)))
    return message(model, ("x", "FP32", shape, raw), **fields)


def with_priority(level: int) -> bytes:
    return body(row(1, 2, 3), parameters={"priority": level})


def message_with_priority(level: int) -> bytes:
    parameter = stub_module("open_inference_pb2").InferParameter(uint64_param=level)
    return floats([1, 3], parameters={"priority": parameter})


def nested_json(brackets: int) -> bytes:
    """A good request beside an ignored field; with the outermost one, so many brackets are open at once."""
    inner = brackets - 1
    return b'{"ignored":' + b"[" * inner + b"]" * inner + b"," + body(row(1, 2, 3))[1:]


def nested_groups(groups: int) -> bytes:
    """A good request and an unknown field of so many nested groups."""
    start, end = b"\xa3\x06", b"\xa4\x06"
    return floats([1, 3]) + start * groups + end * groups


def number(characters: int) -> bytes:
    """A request with one number so long."""
    return body(row(1, 2, 3)).replace(b"[1, 2, 3]", b"[1, 2, 3." + b"0" * (characters - 2) + b"]")


def with_parameters(count: int) -> bytes:
    return body(row(1, 2, 3), parameters={f"p{position}": position for position in range(count)})


def message_with_parameters(count: int) -> bytes:
    parameters = {
        f"p{position}": stub_module("open_inference_pb2").InferParameter(int64_param=position)
        for position in range(count)
    }
    return floats([1, 3], parameters=parameters)


def with_key(length: int) -> bytes:
    return body(row(1, 2, 3), **{"k" * length: 1})


def message_with_key(length: int) -> bytes:
    value = stub_module("open_inference_pb2").InferParameter(bool_param=True)
    return floats([1, 3], parameters={"k" * length: value})


def with_value(length: int) -> bytes:
    return body(row(1, 2, 3), parameters={"p": "v" * length})


def message_with_value(length: int) -> bytes:
    value = stub_module("open_inference_pb2").InferParameter(string_param="v" * length)
    return floats([1, 3], parameters={"p": value})


def ones(*shape: int) -> bytes:
    return body(tensor("x", "FP32", shape, [1.0] * int(np.prod(shape))))


def pairs(count: int) -> bytes:
    """The two inputs of `two`, and more of them."""
    return body(*(tensor(name, "FP32", [1, 2], [1, 2]) for name in ("a", "b", "c")[:count]))


def message_pairs(count: int) -> bytes:
    return message("two", *((name, "FP32", [1, 2], bytes(8)) for name in ("a", "b", "c")[:count]))


def words(*lengths: int) -> bytes:
    return body(tensor("x", "BYTES", [1, len(lengths)], ["w" * length for length in lengths]))


def message_words(*lengths: int) -> bytes:
    raw = b"".join(length.to_bytes(4, "little") + b"w" * length for length in lengths)
    return message("texts", ("x", "BYTES", [1, len(lengths)], raw))


GROUP.cases.update(
    json_depth_max=Bound("json_depth", at=nested_json(6), past=nested_json(7)),
    json_number_bytes_max=Bound("value", at=number(24), past=number(25)),
    protobuf_depth_max=Bound("protobuf", message_at=nested_groups(4), message_past=nested_groups(5)),
    request_tensors_max=Bound(
        "envelope", "two", pairs(2), pairs(3), message_at=message_pairs(2), message_past=message_pairs(3)
    ),
    parameters_max=Bound(
        "envelope",
        at=with_parameters(3),
        past=with_parameters(4),
        message_at=message_with_parameters(3),
        message_past=message_with_parameters(4),
    ),
    name_bytes_max=Bound(
        "envelope",
        at=with_key(24),
        past=with_key(25),
        message_at=message_with_key(24),
        message_past=message_with_key(25),
    ),
    request_id_bytes_max=Bound(
        "envelope",
        at=body(row(1, 2, 3), id="i" * 8),
        past=body(row(1, 2, 3), id="i" * 9),
        message_at=floats([1, 3], id="i" * 8),
        message_past=floats([1, 3], id="i" * 9),
    ),
    parameter_bytes_max=Bound(
        "envelope",
        at=with_value(12),
        past=with_value(13),
        message_at=message_with_value(12),
        message_past=message_with_value(13),
    ),
    tensor_rank_max=Bound(
        "tensor_size",
        "cube",
        ones(1, 1, 1),
        ones(1, 1, 1, 1),
        message_at=floats([1, 1, 1], "cube"),
        message_past=floats([1, 1, 1, 1], "cube"),
    ),
    tensor_elements_max=Bound(
        "tensor_size",
        at=ones(1, 60),
        past=ones(1, 61),
        message_at=floats([1, 60]),
        message_past=floats([1, 61]),
    ),
    bytes_element_bytes_max=Bound(
        "tensor_size", "texts", words(10), words(11), message_at=message_words(10), message_past=message_words(11)
    ),
    bytes_elements_max=Bound(
        "tensor_size",
        "texts",
        words(*[1] * 6),
        words(*[1] * 7),
        message_at=message_words(*[1] * 6),
        message_past=message_words(*[1] * 7),
    ),
    request_rows_max=Bound(
        "rows", at=ones(16, 3), past=ones(17, 3), message_at=floats([16, 3]), message_past=floats([17, 3])
    ),
    priority_levels_max=Bound(
        "field",
        at=with_priority(3),
        past=with_priority(4),
        message_at=message_with_priority(3),
        message_past=message_with_priority(4),
    ),
)
