"""Kernels for columns of numbers, as tables have them; categories are numbers, of strings their ids."""

import numpy as np

from servekit.kernels.contract import kernel
from servekit.kernels.options import derived, each
from servekit.kernels.ports import Array

COLUMNS = {"values": ("float32", ("rows", "columns"))}


@derived
def deviations(std: tuple[float, ...]) -> tuple[float, ...]:
    """What to divide by."""
    if 0 in std:
        raise ValueError(f"std {std} holds 0, by which nothing can be divided; use 1 where all values are the same")
    return std


@kernel(
    inputs={"values": ("float32", ("rows", "mean_count"))},
    outputs={"standard": ("float32", ("rows", "mean_count"))},
)
def standardise(
    values: Array,
    standard: Array,
    *,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = each("mean", 1.0),  # noqa: ARG001 - the divisors are derived from it
    divisors: tuple[float, ...] = deviations,
) -> None:
    """`(values - mean) / std`, a mean and a deviation a column."""
    rows, columns = values.shape
    for row in range(rows):
        for column in range(columns):
            standard[row, column] = (values[row, column] - mean[column]) / divisors[column]


@kernel(
    inputs={"left": ("float32", ("rows", "left_columns")), "right": ("float32", ("rows", "right_columns"))},
    outputs={"both": ("float32", ("rows", "left_columns + right_columns"))},
)
def concat(left: Array, right: Array, both: Array) -> None:
    """Columns side by side, as models with one input take them; of three inputs, the third beside what two gave."""
    rows, columns = left.shape
    for row in range(rows):
        for column in range(columns):
            both[row, column] = left[row, column]
        for column in range(right.shape[1]):
            both[row, columns + column] = right[row, column]


@kernel(inputs={"integers": ("int64", ("rows", "columns"))}, outputs={"floats": ("float32", ("rows", "columns"))})
def as_floats(integers: Array, floats: Array) -> None:
    """Whole numbers, such as those of categories, in the type that other columns have."""
    rows, columns = integers.shape
    for row in range(rows):
        for column in range(columns):
            floats[row, column] = integers[row, column]


@kernel(inputs=COLUMNS, outputs={"clipped": ("float32", ("rows", "columns"))})
def clip(values: Array, clipped: Array, *, low: float = 0.0, high: float = 1.0) -> None:
    """Values within bounds; what is not a number stays that."""
    rows, columns = values.shape
    for row in range(rows):
        for column in range(columns):
            value = values[row, column]
            if value < low:
                clipped[row, column] = low
            elif value > high:
                clipped[row, column] = high
            else:
                clipped[row, column] = value


@kernel(
    inputs={"values": ("float32", ("rows", "fill_count"))},
    outputs={"filled": ("float32", ("rows", "fill_count"))},
)
def impute(values: Array, filled: Array, *, fill: tuple[float, ...] = (0.0,)) -> None:
    """A value a column in place of what is not a number."""
    rows, columns = values.shape
    for row in range(rows):
        for column in range(columns):
            value = values[row, column]
            filled[row, column] = fill[column] if np.isnan(value) else value


@kernel(inputs=COLUMNS, outputs={"buckets": ("int64", ("rows", "columns"))})
def bucketise(values: Array, buckets: Array, *, edges: tuple[float, ...] = (0.0,)) -> None:
    """How many of the rising edges a value has reached, as `np.digitize` counts; what is not a number, all."""
    rows, columns = values.shape
    for row in range(rows):
        for column in range(columns):
            value = values[row, column]
            reached = 0
            while reached < len(edges) and not value < edges[reached]:
                reached += 1
            buckets[row, column] = reached


@kernel(
    inputs={"category": ("int64", (1,))},
    outputs={"hot": ("float32", ("categories",))},
    per="row",
)
def one_hot(category: Array, hot: Array, *, categories: int = 2, refuses_unknown: bool = True) -> None:
    """1 at the category, 0 elsewhere; an unknown category is refused, or 0 everywhere."""
    hot[:] = 0.0
    if 0 <= category[0] < categories:
        hot[category[0]] = 1.0
    elif refuses_unknown:
        raise ValueError("the category is not one that the model knows")


@kernel(
    inputs={"value": ("float64", (1,))},
    outputs={"category": ("int64", (1,))},
    per="row",
)
def ordinal(
    value: Array,
    category: Array,
    *,
    categories: tuple[float, ...] = (0.0, 1.0),
    unknown: int = -1,
    refuses_unknown: bool = True,
) -> None:
    """The place of the value among the categories; an unknown value is refused, or `unknown`."""
    category[0] = unknown
    for place in range(len(categories)):
        if value[0] == categories[place]:
            category[0] = place
    if refuses_unknown and category[0] == unknown:
        raise ValueError("the value is no category that the model knows")
