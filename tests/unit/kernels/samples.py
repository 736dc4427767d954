"""Kernels as a user would write them, for the tests of the contract."""

import math

import numpy as np

from servekit.kernels import derived, kernel

VALUES = {"values": ("float32", ("rows", "columns"))}
RESULT = {"result": ("float32", ("rows", "columns"))}
ROW = {"values": ("float32", ("columns",))}
ROW_RESULT = {"result": ("float32", ("columns",))}
HALF = 0.5


@kernel(inputs=VALUES, outputs=RESULT)
def doubled(values, result, *, factor=2.0):
    """Each value, times the factor."""
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            result[row, column] = values[row, column] * factor


def is_good(value, low=-10.0):
    return math.isfinite(value) and value > low


@kernel(inputs=ROW, outputs=ROW_RESULT, per="row")
def checked(values, result):
    for column in range(len(values)):
        if values[column] < 0:
            raise ValueError("a value is negative")
        if not is_good(values[column]):
            raise ValueError("a value is not finite")
        result[column] = values[column] * HALF


@kernel(inputs=ROW, outputs=ROW_RESULT, per="row")
def bounded(values, result):
    if len(values) > 0 and values[0] > 100:
        raise ValueError("the first value is above 100")
    checked(values, result)


@kernel(
    inputs={"age": ("float32", ()), "name": ("int64", ())},
    outputs={"both": ("float32", (2,))},
    per="row",
)
def paired(age, name, both):
    """Of inputs without axes, a row is a number."""
    both[0] = age
    both[1] = name * 2


def explode(value):
    if value > 5:
        raise RuntimeError("nobody meant this")
    return value


@kernel(inputs=ROW, outputs=ROW_RESULT, per="row")
def explosive(values, result):
    for column in range(len(values)):
        result[column] = explode(values[column])


@kernel(inputs=VALUES, outputs=RESULT)
def explosive_batch(values, result):
    for row in range(values.shape[0]):
        result[row, 0] = explode(values[row, 0])


@derived
def squares(count):
    return np.arange(count, dtype=np.float64) ** 2


@kernel(
    inputs={"start": ("int64", ("rows",)), "wanted": ("bool", ("rows",))},
    outputs={"sums": ("float64", ("rows", "count // 2 + 1"))},
    scratch={"running": ("float64", ("count + 1",)), "seen": ("uint8", ("count",))},
)
def summed(start, wanted, sums, running, seen, *, count=6, table=squares):
    """Sums of squares, by way of both scratch arrays."""
    for row in range(len(start)):
        running[0] = start[row]
        for place in range(count):
            seen[place] = 1
            running[place + 1] = running[place] + table[place] * seen[place]
        for place in range(sums.shape[1]):
            sums[row, place] = running[place] if wanted[row] else -1.0
