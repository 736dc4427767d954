"""Kernels for detectors: boxes by their corners (`left, top, right, bottom`) unless a name says otherwise."""

import numpy as np

from servekit.kernels.contract import kernel
from servekit.kernels.ports import Array

CANDIDATES = {"boxes": ("float32", ("rows", "candidates", 4))}
# A cache line of float32: turning rows into columns touches each line once.
ANCHORS_TOGETHER = 16


def overlap(first: Array, second: Array) -> float:
    """Intersection over union of two boxes, 0 where both are empty."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    if not (width > 0 and height > 0):
        return 0.0
    shared = width * height
    union = (first[2] - first[0]) * (first[3] - first[1]) + (second[2] - second[0]) * (second[3] - second[1]) - shared
    return float(shared / union) if union > 0 else 0.0


@kernel(
    inputs={"first": ("float32", ("rows", "first_count", 4)), "second": ("float32", ("rows", "second_count", 4))},
    outputs={"overlaps": ("float32", ("rows", "first_count", "second_count"))},
)
def iou(first: Array, second: Array, overlaps: Array) -> None:
    """Intersection over union of each box of the first with each of the second."""
    rows, first_count, second_count = overlaps.shape
    for row in range(rows):
        for one in range(first_count):
            for other in range(second_count):
                overlaps[row, one, other] = overlap(first[row, one], second[row, other])


@kernel(inputs=CANDIDATES, outputs={"corners": ("float32", ("rows", "candidates", 4))})
def corners_of_centres(boxes: Array, corners: Array) -> None:
    """From centre, width and height (`x, y, width, height`) to corners."""
    rows, candidates, _ = boxes.shape
    for row in range(rows):
        for candidate in range(candidates):
            for axis in range(2):
                centre, half = boxes[row, candidate, axis], boxes[row, candidate, axis + 2] / 2
                corners[row, candidate, axis] = centre - half
                corners[row, candidate, axis + 2] = centre + half


@kernel(inputs=CANDIDATES, outputs={"centres": ("float32", ("rows", "candidates", 4))})
def centres_of_corners(boxes: Array, centres: Array) -> None:
    """From corners to centre, width and height."""
    rows, candidates, _ = boxes.shape
    for row in range(rows):
        for candidate in range(candidates):
            for axis in range(2):
                start, end = boxes[row, candidate, axis], boxes[row, candidate, axis + 2]
                centres[row, candidate, axis] = (start + end) / 2
                centres[row, candidate, axis + 2] = end - start


@kernel(
    inputs={"scores": ("float32", ("rows", "candidates", "classes"))},
    outputs={"best": ("float32", ("rows", "candidates")), "kinds": ("int64", ("rows", "candidates"))},
)
def best_class(scores: Array, best: Array, kinds: Array) -> None:
    """The class with the highest score of each candidate, for `nms`; -1 and no score where none is a number."""
    rows, candidates, classes = scores.shape
    for row in range(rows):
        for candidate in range(candidates):
            best[row, candidate] = -np.inf
            kinds[row, candidate] = -1
            for column in range(classes):
                if scores[row, candidate, column] > best[row, candidate]:
                    best[row, candidate] = scores[row, candidate, column]
                    kinds[row, candidate] = column


@kernel(
    inputs={"predictions": ("float32", ("values", "anchors"))},
    outputs={"boxes": ("float32", ("anchors", 4)), "scores": ("float32", ("anchors", "values - 4"))},
    per="row",
)
def split_predictions(predictions: Array, boxes: Array, scores: Array) -> None:
    """A detector's one output, four sides and a score a class in columns of anchors, as a box and scores an anchor."""
    values, anchors = predictions.shape
    if values < 4:
        raise ValueError("the predictions have less than the four sides of a box")
    for first in range(0, anchors, ANCHORS_TOGETHER):
        end = min(first + ANCHORS_TOGETHER, anchors)
        for side in range(4):
            for anchor in range(first, end):
                boxes[anchor, side] = predictions[side, anchor]
        for column in range(values - 4):
            for anchor in range(first, end):
                scores[anchor, column] = predictions[4 + column, anchor]


@kernel(
    inputs={
        "boxes": ("float32", ("candidates", 4)),
        "scores": ("float32", ("candidates",)),
        "kinds": ("int64", ("candidates",)),
    },
    outputs={
        "kept_boxes": ("float32", ("keep", 4)),
        "kept_scores": ("float32", ("keep",)),
        "kept_kinds": ("int64", ("keep",)),
        "kept": ("int64", (1,)),
    },
    scratch={"remaining": ("float32", ("candidates",))},
    per="row",
)
def nms(  # noqa: PLR0913 - a detector's output has that many parts
    boxes: Array,
    scores: Array,
    kinds: Array,
    kept_boxes: Array,
    kept_scores: Array,
    kept_kinds: Array,
    kept: Array,
    remaining: Array,
    *,
    keep: int = 100,
    score_min: float = 0.25,
    overlap_max: float = 0.45,
    softness: float = 0.0,
    by_class: bool = True,
) -> None:
    """The best boxes, best first, without those that mean what a better one means: at most `keep`, then zeros.

    Of one class, or of all (`by_class=False`), a box goes if it overlaps a better one by more than `overlap_max`. With
    a `softness` (the sigma of soft NMS) its score shrinks instead, the more, the more they overlap.
    """
    kept_boxes[:] = 0.0
    kept_scores[:] = 0.0
    kept_kinds[:] = -1
    for candidate in range(len(scores)):
        remaining[candidate] = scores[candidate]
    kept[0] = 0
    for place in range(keep):
        best = -1
        for candidate in range(len(scores)):
            score = remaining[candidate]
            if score >= score_min and (best < 0 or score > remaining[best]):
                best = candidate
        if best < 0:
            return
        for side in range(4):
            kept_boxes[place, side] = boxes[best, side]
        kept_scores[place] = remaining[best]
        kept_kinds[place] = kinds[best]
        kept[0] = place + 1
        remaining[best] = -np.inf
        for candidate in range(len(scores)):
            if remaining[candidate] >= score_min and (not by_class or kinds[candidate] == kinds[best]):
                shared = overlap(boxes[best], boxes[candidate])
                if softness > 0:
                    remaining[candidate] *= np.exp(-shared * shared / softness)
                elif shared > overlap_max:
                    remaining[candidate] = -np.inf


@kernel(
    inputs={**CANDIDATES, "placement": ("float32", ("rows", 4))},
    outputs={"original": ("float32", ("rows", "candidates", 4))},
)
def un_letterbox(boxes: Array, placement: Array, original: Array) -> None:
    """From the pixels of a resized picture to those of the one that was sent, by what `resize` says: left, top, scales.

    All corners move alike, so boxes overlap as before; one that reached over an edge does so still.
    """
    rows, candidates, _ = boxes.shape
    for row in range(rows):
        for candidate in range(candidates):
            for side in range(4):
                start, scale = placement[row, side % 2], placement[row, side % 2 + 2]
                original[row, candidate, side] = (boxes[row, candidate, side] - start) / scale
