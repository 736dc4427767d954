"""Plausible values for a model's inputs, the same on every machine.

Only the shapes and datatypes are known, so numbers are small: floats from 0 to 1, integers from 1 to 99, a mask all
ones, type ids all zeros. A model that wants others gets them from a file.
"""

import math
import statistics
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from servekit.bench.target import Tensor
from servekit.errors import ConfigError

Array = NDArray[Any]

DTYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": np.uint16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
IDS_MAX = 99
BODIES_MAX = 64
"""Different lengths that are sent; enough for the shape of a distribution."""
LOGNORMAL_SIGMA = 0.8

_SIZE_MAX = 1 << 20
_SIGMA_MAX = 5.0
_BF16_SHIFT = 16

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Lengths:
    """Sizes of the free axes behind the first, and how often each is sent."""

    sizes: tuple[int, ...] = (1,)

    @staticmethod
    def parse(text: str) -> "Lengths":
        """`lognormal:MEDIAN:MAX[:SIGMA]`, `uniform:MIN:MAX`, or one number."""
        try:
            match text.split(":"):
                case ["lognormal", median, largest]:
                    return Lengths(_lognormal(_size(median), _size(largest), LOGNORMAL_SIGMA))
                case ["lognormal", median, largest, sigma]:
                    return Lengths(_lognormal(_size(median), _size(largest), _sigma(sigma)))
                case ["uniform", smallest, largest]:
                    return Lengths(_uniform(_size(smallest), _size(largest)))
                case [size]:
                    return Lengths((_size(size),))
        except ValueError:
            pass
        message = f"lengths {text!r}: lognormal:MEDIAN:MAX, lognormal:MEDIAN:MAX:SIGMA, uniform:MIN:MAX or N is allowed"
        raise ConfigError(message)


def _size(text: str) -> int:
    return _within(int(text), _SIZE_MAX)


def _sigma(text: str) -> float:
    return _within(float(text), _SIGMA_MAX)


def _within(number: Number, most: float) -> Number:
    if not 0 < number <= most:
        raise ValueError(number)
    return number


def _shares() -> list[float]:
    return [(at + 0.5) / BODIES_MAX for at in range(BODIES_MAX)]


def _lognormal(median: float, largest: float, sigma: float) -> tuple[int, ...]:
    """Its quantiles, so that few lengths have the shape of many."""
    normal = statistics.NormalDist()
    sizes = (median * math.exp(sigma * normal.inv_cdf(share)) for share in _shares())
    return tuple(max(1, round(min(size, largest))) for size in sizes)


def _uniform(smallest: int, largest: int) -> tuple[int, ...]:
    if smallest > largest:
        raise ValueError(smallest)
    return tuple(smallest + int(share * (largest - smallest + 1)) for share in _shares())


def shape_of(tensor: Tensor, rows: int, length: int) -> tuple[int, ...]:
    """The first axis, where it is free, holds the rows; other free axes have the length."""
    return tuple(size if size >= 0 else (length if axis else rows) for axis, size in enumerate(tensor.shape))


def values_of(tensor: Tensor, shape: tuple[int, ...], dice: np.random.Generator) -> Array:
    """An array for one input; BF16 as its bits."""
    if tensor.datatype not in DTYPES:
        message = f"input {tensor.name!r} has datatype {tensor.datatype}, which has no made-up values; give --body"
        raise ConfigError(message)
    name, dtype = tensor.name.lower(), DTYPES[tensor.datatype]
    if tensor.datatype == "BYTES":
        return np.full(shape, b"servekit", np.object_)
    if tensor.datatype == "BF16":
        return (dice.random(shape, np.float32).view(np.uint32) >> _BF16_SHIFT).astype(np.uint16)
    if tensor.datatype.startswith("FP"):
        return dice.random(shape, np.float32).astype(dtype)
    if "mask" in name:
        return np.ones(shape, dtype)
    if "type" in name:
        return np.zeros(shape, dtype)
    if tensor.datatype == "BOOL":
        return dice.integers(0, 2, shape).astype(dtype)
    return dice.integers(1, IDS_MAX + 1, shape).astype(dtype)
