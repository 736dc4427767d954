"""Kernels for embeddings: vectors of tokens, and of texts."""

import numpy as np

from servekit.kernels.contract import kernel
from servekit.kernels.ports import Array

POOLED = {"pooled": ("float32", ("rows", "width"))}


@kernel(
    inputs={"tokens": ("float32", ("rows", "length", "width")), "mask": ("int64", ("rows", "length"))},
    outputs=POOLED,
)
def mean_pool(tokens: Array, mask: Array, pooled: Array) -> None:
    """The mean over the tokens whose mask is not 0; zeros where there is none."""
    rows, length, width = tokens.shape
    for row in range(rows):
        pooled[row, :] = 0.0
        count = 0
        for token in range(length):
            if mask[row, token] != 0:
                count += 1
                for column in range(width):
                    pooled[row, column] += tokens[row, token, column]
        for column in range(width):
            pooled[row, column] /= np.float32(max(count, 1))


@kernel(inputs={"tokens": ("float32", ("length", "width"))}, outputs={"pooled": ("float32", ("width",))}, per="row")
def cls_pool(tokens: Array, pooled: Array) -> None:
    """The vector of the first token."""
    if len(tokens) == 0:
        raise ValueError("there is no token")
    for column in range(tokens.shape[1]):
        pooled[column] = tokens[0, column]


@kernel(
    inputs={"vectors": ("float32", ("rows", "width"))},
    outputs={"unit": ("float32", ("rows", "width"))},
)
def l2_normalise(vectors: Array, unit: Array, *, norm_min: float = 1e-12) -> None:
    """Vectors of length 1, so that a dot product is a cosine; zeros stay zeros."""
    rows, width = vectors.shape
    for row in range(rows):
        # In float64: squares of large float32 are not finite in float32.
        total = 0.0
        for column in range(width):
            total += np.float64(vectors[row, column]) * np.float64(vectors[row, column])
        norm = max(np.sqrt(total), norm_min)
        for column in range(width):
            unit[row, column] = vectors[row, column] / norm
