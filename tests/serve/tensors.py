"""Arrays as the protocol spells them: datatypes, raw bytes, JSON values, and one telling sample of each datatype."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
FLOATS = ("FP16", "BF16", "FP32", "FP64")
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def datatype_of(array: np.ndarray) -> str:
    """The protocol's name of an array's dtype."""
    return _NAMES[array.dtype]


def texts(*rows: Sequence[bytes]) -> np.ndarray:
    """A BYTES tensor of these elements."""
    array = np.empty((len(rows), len(rows[0])), np.object_)
    array[:] = [list(row) for row in rows]
    return array


def _integers(name: str) -> np.ndarray:
    about = np.iinfo(DTYPES[name])
    return np.array([[about.min, about.max, 0], [1, about.max - 1, 7]], DTYPES[name])


def _floats(name: str) -> np.ndarray:
    about = ml_dtypes.finfo(DTYPES[name])
    least = float(about.smallest_subnormal)
    return np.array([[0.1, float(about.max), -1.5], [-0.0, least, float(about.min)]], DTYPES[name])


SAMPLES: dict[str, np.ndarray] = {
    "BOOL": np.array([[True, False, True], [False, False, True]]),
    **{name: _integers(name) for name in DTYPES if "INT" in name},
    **{name: _floats(name) for name in FLOATS},
    "BYTES": texts([b"", b"a", "größe \U0001f600".encode()], [b"\x00b", b"x" * 300, b'"\\/\n\x7f']),
}
"""Two rows of three: the ends of the range, zero, both signs, and what encoders trip over."""


def to_raw(array: np.ndarray) -> bytes:
    """Little-endian, row-major; elements of BYTES with their length in front."""
    if array.dtype != np.object_:
        return array.tobytes()
    return b"".join(struct.pack("<I", len(element)) + element for element in array.ravel())


def from_raw(data: bytes, datatype: str, shape: Sequence[int]) -> np.ndarray:
    """The array of these bytes; every byte has to be used."""
    if datatype != "BYTES":
        return np.frombuffer(data, DTYPES[datatype]).reshape(tuple(shape))
    array = np.empty(int(np.prod(shape)), np.object_)
    elements = list(_elements(data))
    assert len(elements) == array.size, (len(elements), shape)
    array[:] = elements
    return array.reshape(tuple(shape))


def _elements(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        assert at + 4 + size <= len(data), "an element runs past the end"
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def to_json(array: np.ndarray) -> list[Any]:
    """Flat JSON values; floats exactly as they are, what is not finite as the protocol's strings."""
    return [_json_value(value, array.dtype) for value in array.ravel()]


def _json_value(value: Any, dtype: np.dtype) -> Any:
    if dtype == np.object_:
        return value.decode()
    if dtype.kind in "biu":
        return value.item()
    number = float(value)
    if np.isfinite(number):
        return number
    return "NaN" if np.isnan(number) else ("Infinity" if number > 0 else "-Infinity")


def from_json(output: dict[str, Any]) -> np.ndarray:
    """The array of one output of a JSON answer."""
    datatype, data = output["datatype"], output["data"]
    shape = tuple(output["shape"])
    if datatype == "BYTES":
        is_base64 = output.get("parameters", {}).get("content_type") == "base64"
        array = np.empty(len(data), np.object_)
        array[:] = [base64.b64decode(text) if is_base64 else text.encode() for text in data]
        return array.reshape(shape)
    if datatype in FLOATS:
        # A shortest float of a narrow type reads back through the wide one.
        return np.array([float(value) for value in data], np.float64).astype(DTYPES[datatype]).reshape(shape)
    return np.array(data, DTYPES[datatype]).reshape(shape)


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal to the last bit, shape and dtype included."""
    return one.dtype == other.dtype and one.shape == other.shape and to_raw(one) == to_raw(other)
