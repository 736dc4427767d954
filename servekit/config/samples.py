"""Rows that the operator gives to try a model with, in the form in which they cross to the native side.

An .npz holds one array for each input, under the input's name; a .json holds the `inputs` of one request as a client
would send them.
"""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from io import BytesIO
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from servekit.errors import ConfigError
from servekit.sizes import sized

if TYPE_CHECKING:
    import numpy as np

SAMPLE_BYTES_MAX = 1 << 20
"""Of all inputs together, as raw elements."""
FILE_BYTES_MAX = 8 * SAMPLE_BYTES_MAX
"""Numbers written in JSON take more room than they have bytes."""

_KINDS = {
    "BOOL": "|b1",
    "UINT8": "|u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "|i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""Datatypes that NumPy has too, as it spells them."""
_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


def read(path: Path) -> list[dict[str, Any]]:
    """The samples of one file; raises `ConfigError` where it holds none or too much."""
    if path.suffix not in _READERS:
        raise ConfigError(
            f"samples {path}: the suffix '{path.suffix}' found, '.npz' and '.json' are allowed; "
            "write it with numpy.savez, or as the inputs of a request"
        )
    text = _bounded(path)
    try:
        samples = list(_READERS[path.suffix](text))
    except _UnusableError as unusable:
        raise ConfigError(f"samples {path}: {unusable}") from None
    if not samples:
        raise ConfigError(f"samples {path}: no input found, one for each input of the model is needed; add them")
    size = sum(len(raw) for _, _, _, raw in samples)
    if size > SAMPLE_BYTES_MAX:
        raise ConfigError(
            f"samples {path}: {sized(size)} found, at most {sized(SAMPLE_BYTES_MAX)} are allowed; keep fewer rows"
        )
    return [
        {"name": name, "datatype": datatype, "shape": shape, "base64": b64encode(raw).decode()}
        for name, datatype, shape, raw in samples
    ]


class _UnusableError(Exception):
    """What is wrong with a file, to be told with its name."""


_Sample = tuple[str, str, list[int], bytes]


def _bounded(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            text = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"samples {path}: {(error.strerror or 'unreadable').lower()}; check the path") from None
    if len(text) > FILE_BYTES_MAX:
        raise ConfigError(f"samples {path}: more than {sized(FILE_BYTES_MAX)} found; keep fewer rows")
    return text


def _from_arrays(text: bytes) -> Iterator[_Sample]:
    import numpy as np

    datatypes = {kind: datatype for datatype, kind in _KINDS.items()}
    try:
        unpacked = sum(entry.file_size for entry in ZipFile(BytesIO(text)).infolist())
        if unpacked > FILE_BYTES_MAX:
            raise _UnusableError(f"{sized(unpacked)} found once unpacked; keep fewer rows")
        with np.load(BytesIO(text), allow_pickle=False) as arrays:
            named = {name: arrays[name] for name in arrays.files}
    except (BadZipFile, EOFError, KeyError, MemoryError, OSError, ValueError) as error:
        raise _UnusableError(f"no readable .npz ({str(error)[:100]}); write it with numpy.savez") from None
    for name, array in named.items():
        if array.dtype.kind in "SU":
            raw = b"".join(_with_length(element) for element in array.ravel().tolist())
            yield name, "BYTES", list(array.shape), raw
            continue
        ordered = array.astype(array.dtype.newbyteorder("<"))
        if ordered.dtype.str not in datatypes:
            raise _UnusableError(
                f"array '{name}' is of {array.dtype}, {', '.join(_KINDS)} and text are allowed; convert it"
            )
        yield name, datatypes[ordered.dtype.str], list(array.shape), ordered.tobytes()


def _from_request(text: bytes) -> Iterator[_Sample]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise _UnusableError("no JSON found; write it as the inputs of a request") from None
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(inputs, list) or not all(isinstance(tensor, dict) for tensor in inputs):
        raise _UnusableError("no list 'inputs' found; write it as the inputs of a request")
    for tensor in inputs:
        yield _tensor(tensor)


def _tensor(tensor: Mapping[str, Any]) -> _Sample:
    """One input as a client writes it."""
    name, datatype, shape = tensor.get("name"), tensor.get("datatype"), tensor.get("shape")
    if not isinstance(name, str) or not name:
        raise _UnusableError("an input without a name found; add it")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise _UnusableError(f"input '{name}': no shape of whole numbers found; add it")
    if not isinstance(datatype, str) or datatype not in {*_KINDS, "BF16", "BYTES"}:
        raise _UnusableError(
            f"input '{name}': datatype {datatype!r} found, {', '.join(_KINDS)}, BF16 and BYTES are allowed"
        )
    elements = list(_flat(tensor.get("data")))
    if len(elements) != prod(shape):
        raise _UnusableError(f"input '{name}': {len(elements)} values found, its shape has {prod(shape)}; correct one")
    try:
        return name, datatype, shape, _raw(elements, datatype)
    except (OverflowError, TypeError, ValueError):
        raise _UnusableError(f"input '{name}': a value found that is no {datatype}; correct it") from None


def _flat(data: object) -> Iterator[object]:
    """Values of nested or flat `data`, in order; deeper ones than JSON's reader lets through cannot come."""
    if isinstance(data, list):
        for part in data:
            yield from _flat(part)
    elif data is not None:
        yield data


def _raw(elements: list[Any], datatype: str) -> bytes:
    """Elements as the protocol's binary tensors have them; raises where one is of another kind."""
    import numpy as np

    if datatype == "BYTES":
        return b"".join(_with_length(element) for element in elements)
    if datatype == "BOOL":
        if not all(isinstance(element, bool) for element in elements):
            raise TypeError
        return bytes(elements)
    if any(isinstance(element, bool) for element in elements):
        raise TypeError
    if datatype not in {"FP16", "BF16", "FP32", "FP64"}:
        if not all(isinstance(element, int) for element in elements):
            raise TypeError
        return np.array(elements, _KINDS[datatype]).tobytes()
    numbers = [_number(element) for element in elements]
    if datatype == "BF16":
        return _upper_halves(np.array(numbers, "<f4"))
    return np.array(numbers, _KINDS[datatype]).tobytes()


def _number(element: object) -> float:
    if isinstance(element, str) and element not in _NOT_FINITE:
        raise ValueError
    return float(element)  # type: ignore[arg-type] # what is no number raises


def _upper_halves(numbers: "np.ndarray[Any, Any]") -> bytes:
    """BF16 is the upper half of FP32; what is between two values goes to the even one, and NaN stays one."""
    import numpy as np

    bits = numbers.view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet = (bits >> 16) | 0x40
    return np.where(np.isnan(numbers), quiet, rounded).astype("<u2").tobytes()


def _with_length(element: object) -> bytes:
    if not isinstance(element, (str, bytes)):
        raise TypeError
    raw = element.encode() if isinstance(element, str) else element
    return len(raw).to_bytes(4, "little") + raw


_READERS = {".npz": _from_arrays, ".json": _from_request}
