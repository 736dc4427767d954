"""Kernels for what classifiers give: a score a class."""

import numpy as np

from servekit.kernels.contract import kernel
from servekit.kernels.ports import Array

SCORES = {"scores": ("float32", ("rows", "classes"))}
PROBABILITIES = {"probabilities": ("float32", ("rows", "classes"))}


@kernel(inputs=SCORES, outputs=PROBABILITIES)
def softmax(scores: Array, probabilities: Array) -> None:
    """Probabilities that add up to 1 in each row, also of scores as large as float32 allows."""
    rows, classes = scores.shape
    for row in range(rows):
        largest = np.float32(-np.inf)
        for column in range(classes):
            if scores[row, column] > largest:
                largest = scores[row, column]
        total = np.float32(0.0)
        for column in range(classes):
            probabilities[row, column] = np.exp(scores[row, column] - largest)
            total += probabilities[row, column]
        for column in range(classes):
            probabilities[row, column] /= total


@kernel(inputs=SCORES, outputs=PROBABILITIES)
def sigmoid(scores: Array, probabilities: Array) -> None:
    """One probability a class, each on its own."""
    rows, classes = scores.shape
    for row in range(rows):
        for column in range(classes):
            # Of the negative magnitude: the exponential cannot overflow.
            shrunk = np.exp(-np.abs(scores[row, column]))
            is_positive = scores[row, column] >= 0
            probabilities[row, column] = (np.float32(1.0) if is_positive else shrunk) / (np.float32(1.0) + shrunk)


@kernel(inputs=SCORES, outputs={"best": ("int64", ("rows",))})
def argmax(scores: Array, best: Array) -> None:
    """The class with the highest score, the first of equals; what is not a number is not chosen before a number."""
    rows, classes = scores.shape
    for row in range(rows):
        best[row] = 0
        for column in range(1, classes):
            score, highest = scores[row, column], scores[row, best[row]]
            if score > highest or (np.isnan(highest) and not np.isnan(score)):
                best[row] = column


@kernel(
    inputs={"scores": ("float32", ("classes",))},
    outputs={"values": ("float32", ("count",)), "indices": ("int64", ("count",))},
    per="row",
)
def top_k(scores: Array, values: Array, indices: Array, *, count: int = 5) -> None:
    """The highest scores and their classes, highest first, of equals the first; labels are put to classes later."""
    classes = len(scores)
    if classes < count:
        raise ValueError("there are fewer classes than top_k shows")
    for place in range(count):
        values[place] = -np.inf
        indices[place] = -1
    for column in range(classes):
        # Of what is not a number no place is won; it is last, as -inf.
        score = np.float32(-np.inf) if np.isnan(scores[column]) else scores[column]
        place = count
        while place > 0 and (indices[place - 1] < 0 or score > values[place - 1]):
            if place < count:
                values[place] = values[place - 1]
                indices[place] = indices[place - 1]
            place -= 1
        if place < count:
            values[place] = score
            indices[place] = column


@kernel(inputs=SCORES, outputs={"chosen": ("bool", ("rows", "classes"))})
def threshold(scores: Array, chosen: Array, *, least: float = 0.5) -> None:
    """Which classes have at least this score."""
    rows, classes = scores.shape
    for row in range(rows):
        for column in range(classes):
            chosen[row, column] = scores[row, column] >= least
