"""Arrays as bodies of requests, in the three encodings of the Open Inference Protocol."""

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from servekit.bench.inputs import Array
from servekit.bench.target import Protocol, Target, Tensor
from servekit.errors import ConfigError

JSON_TYPE = "application/json"
BINARY_TYPE = "application/octet-stream"

_RAW_ONLY = {"FP16", "BF16"}
_LENGTH_DELIMITED = 2
_MORE = 0x80


@dataclass(frozen=True)
class Body:
    """One body and how often it is sent."""

    content: bytes
    content_type: str
    json_bytes: int | None = None
    """Where the JSON part of a binary body ends."""
    weight: float = 1.0


@dataclass(frozen=True)
class Given:
    """One input with its values."""

    tensor: Tensor
    values: Array


def encoded(target: Target, protocol: Protocol, given: Sequence[Given], weight: float) -> Body:
    """The request for some inputs."""
    if protocol == "grpc":
        return Body(grpc_message(target, given), "application/grpc", None, weight)
    if protocol == "binary":
        content, json_bytes = binary_body(given)
        return Body(content, BINARY_TYPE, json_bytes, weight)
    return Body(json_body(given), JSON_TYPE, None, weight)


def json_body(given: Sequence[Given]) -> bytes:
    """Each number is the shortest decimal that reads back as the same."""
    inputs = []
    for one in given:
        if one.tensor.datatype in _RAW_ONLY:
            message = f"input {one.tensor.name!r} is {one.tensor.datatype}, which JSON cannot hold; use binary or grpc"
            raise ConfigError(message)
        inputs.append(_described(one) | {"data": _plain(one.values)})
    return json.dumps({"inputs": inputs}, separators=(",", ":")).encode()


def binary_body(given: Sequence[Given]) -> tuple[bytes, int]:
    """JSON, then the bytes of the tensors; the answer is asked for in the same form."""
    raw = [raw_bytes(one) for one in given]
    inputs = [
        _described(one) | {"parameters": {"binary_data_size": len(content)}}
        for one, content in zip(given, raw, strict=True)
    ]
    parameters = {"binary_data_output": True}
    head = json.dumps({"parameters": parameters, "inputs": inputs}, separators=(",", ":")).encode()
    return head + b"".join(raw), len(head)


def grpc_message(target: Target, given: Sequence[Given]) -> bytes:
    """A ModelInferRequest with raw contents."""
    message = _field(1, target.model.encode())
    if target.version:
        message += _field(2, target.version.encode())
    for one in given:
        shape = b"".join(_varint(size) for size in one.values.shape)
        tensor = _field(1, one.tensor.name.encode()) + _field(2, one.tensor.datatype.encode()) + _field(3, shape)
        message += _field(5, tensor)
    return message + b"".join(_field(7, raw_bytes(one)) for one in given)


def raw_bytes(one: Given) -> bytes:
    """Row-major and little-endian; an element of BYTES stands behind its length."""
    if one.tensor.datatype == "BYTES":
        return b"".join(struct.pack("<I", len(element)) + element for element in one.values.ravel())
    return np.ascontiguousarray(one.values, one.values.dtype.newbyteorder("<")).tobytes()


def _described(one: Given) -> dict[str, object]:
    return {"name": one.tensor.name, "shape": list(one.values.shape), "datatype": one.tensor.datatype}


def _plain(values: Array) -> list[object]:
    if values.dtype == np.float32:
        return [float(str(number)) for number in values.ravel()]
    if values.dtype == np.object_:
        return [element.decode() for element in values.ravel()]
    return list(values.ravel().tolist())


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | _LENGTH_DELIMITED]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoding = bytearray()
    while number >= _MORE:
        encoding.append(number & (_MORE - 1) | _MORE)
        number >>= 7
    encoding.append(number)
    return bytes(encoding)
