"""Kernels for detectors: boxes by their corners (`left, top, right, bottom`) unless a name says otherwise."""

import numpy as np

from servekit.kernels.contract import kernel
from servekit.kernels.ports import Array

CANDIDATES = {"boxes": ("float32", ("rows", "candidates", 4))}


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
    inputs={"boxes": ("float32", ("rows", "candidates", 4)), "size": ("int64", ("rows", 2))},
    outputs={"original": ("float32", ("rows", "candidates", 4))},
)
def un_letterbox(boxes: Array, size: Array, original: Array, *, box_height: int = 640, box_width: int = 640) -> None:
    """Boxes in a letterbox as boxes in the image it was made of, whose `size` is height and width, and within it."""
    rows, candidates, _ = boxes.shape
    for row in range(rows):
        height, width = max(size[row, 0], 1), max(size[row, 1], 1)
        scale = min(box_height / height, box_width / width)
        top = (box_height - round(height * scale)) // 2
        left = (box_width - round(width * scale)) // 2
        for candidate in range(candidates):
            for side in range(4):
                start, length = (left, width) if side % 2 == 0 else (top, height)
                place = (boxes[row, candidate, side] - start) / scale
                original[row, candidate, side] = min(max(place, 0.0), float(length))
