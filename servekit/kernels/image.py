"""Kernels for images: bytes by rows and pixels (`height, width, channels`), as decoders give them."""

import numpy as np

from servekit.kernels.contract import kernel
from servekit.kernels.numbers import deviations
from servekit.kernels.options import derived, each
from servekit.kernels.ports import Array


@derived
def _permutation(channels: tuple[int, ...]) -> tuple[int, ...]:
    if sorted(channels) != list(range(len(channels))):
        raise ValueError(f"channels {channels} do not name each channel once; (2, 1, 0) is BGR from RGB")
    return channels


@kernel(
    inputs={"image": ("uint8", ("rows", "height", "width", "channels_count"))},
    outputs={"pixels": ("float32", ("rows", "channels_count", "height", "width"))},
)
def normalise(  # noqa: PLR0913 - images come in that many ways
    image: Array,
    pixels: Array,
    *,
    scale: float = 1 / 255,
    mean: tuple[float, ...] = each("channels", 0.0),
    std: tuple[float, ...] = each("channels", 1.0),  # noqa: ARG001 - the divisors are derived from it
    channels: tuple[int, ...] = (0, 1, 2),  # noqa: ARG001 - the order is derived from it
    order: tuple[int, ...] = _permutation,
    divisors: tuple[float, ...] = deviations,
) -> None:
    """`(image * scale - mean) / std`, channels first, in one pass; `channels` says which channel each plane is."""
    planes = len(order)
    for row in range(image.shape[0]):
        # One index instead of two: only then does the compiler work on many pixels at a time.
        values = image[row].reshape(-1)
        for plane in range(planes):
            target, source = pixels[row, plane].reshape(-1), order[plane]
            factor = np.float32(scale / divisors[plane])
            offset = np.float32(-mean[plane] / divisors[plane])
            for pixel in range(len(target)):
                target[pixel] = values[pixel * planes + source] * factor + offset


@kernel(
    inputs={"image": ("uint8", ("height", "width", "channels"))},
    outputs={"cropped": ("uint8", ("crop_height", "crop_width", "channels"))},
    per="row",
)
def centre_crop(image: Array, cropped: Array, *, crop_height: int = 224, crop_width: int = 224) -> None:
    """The middle of an image that is at least as large."""
    height, width, channels = image.shape
    if height < crop_height or width < crop_width:
        raise ValueError("the image is smaller than the crop")
    top = (height - crop_height) // 2
    left = (width - crop_width) // 2
    for y in range(crop_height):
        for x in range(crop_width):
            for channel in range(channels):
                cropped[y, x, channel] = image[top + y, left + x, channel]


@derived
def _level(fill: int) -> int:
    if not 0 <= fill <= 255:
        raise ValueError(f"fill is {fill}, a level from 0 to 255 is needed")
    return fill


@kernel(
    inputs={"image": ("uint8", ("height", "width", "channels"))},
    outputs={"padded": ("uint8", ("box_height", "box_width", "channels"))},
    per="row",
)
def letterbox(  # noqa: PLR0913 - a box has that many sides
    image: Array,
    padded: Array,
    *,
    box_height: int = 640,
    box_width: int = 640,
    fill: int = 114,  # noqa: ARG001 - the level is derived from it
    level: int = _level,
) -> None:
    """The image in the middle of a box, with bars of one colour; it is resized to fit before."""
    height, width, channels = image.shape
    if height > box_height or width > box_width:
        raise ValueError("the image is larger than the box")
    top = (box_height - height) // 2
    left = (box_width - width) // 2
    padded[:] = np.uint8(level)
    for y in range(height):
        for x in range(width):
            for channel in range(channels):
                padded[top + y, left + x, channel] = image[y, x, channel]


def reached(middle: float, reach: float, length: int) -> tuple[int, int]:
    """The pixels of a line that weigh something at a point of it: the first, and the one after the last."""
    return max(int(middle - reach + 0.5), 0), min(int(middle + reach + 0.5), length)


def share(pixel: int, middle: float, reach: float) -> float:
    """What a pixel weighs there: all at its middle, nothing from the reach on."""
    return max(1.0 - abs(pixel + 0.5 - middle) / reach, 0.0)


@kernel(
    inputs={
        "image": ("uint8", ("image_height", "image_width", "channels")),
        "boxes": ("float32", ("candidates", 4)),
    },
    outputs={"crops": ("uint8", ("candidates", "height", "width", "channels"))},
    scratch={"line": ("float32", ("image_width * channels",)), "sums": ("float32", ("channels",))},
    per="row",
)
def crops(  # noqa: PLR0913 - lines are worked on in scratch
    image: Array,
    boxes: Array,
    crops: Array,
    line: Array,
    sums: Array,
    *,
    height: int = 224,
    width: int = 224,
    antialias: bool = True,
) -> None:
    """The picture in each box (`left, top, right, bottom`, in pixels), in one size; zeros where there is none.

    A box ends where the image does. One that is empty then, or has a side that is no finite number, holds no picture.
    It is resized as `resize` does it with its bilinear filter.
    """
    image_height, image_width, channels = image.shape
    for box in range(len(boxes)):
        crops[box] = 0
        left, top = max(float(boxes[box, 0]), 0.0), max(float(boxes[box, 1]), 0.0)
        right, bottom = min(float(boxes[box, 2]), float(image_width)), min(float(boxes[box, 3]), float(image_height))
        if not (np.isfinite(boxes[box]).all() and left < right and top < bottom):
            continue
        across, down = (right - left) / max(width, 1), (bottom - top) / max(height, 1)
        reach_across, reach_down = (max(across, 1.0), max(down, 1.0)) if antialias else (1.0, 1.0)
        begin, end = max(int(left - reach_across), 0), min(int(right + reach_across) + 1, image_width)
        joined = line[begin * channels : end * channels]
        for y in range(height):
            # Lines first, all of a line's values at a time; then the columns of the one line that they become.
            middle = top + (y + 0.5) * down
            joined[:] = 0.0
            total_down = 0.0
            first, last = reached(middle, reach_down, image_height)
            for source in range(first, last):
                weight = share(source, middle, reach_down)
                total_down += weight
                values, factor = image[source].reshape(-1)[begin * channels : end * channels], np.float32(weight)
                for place in range(len(joined)):
                    joined[place] += factor * np.float32(values[place])
            for x in range(width):
                middle = left + (x + 0.5) * across
                sums[:] = 0.0
                total = 0.0
                first, last = reached(middle, reach_across, image_width)
                for source in range(first, last):
                    weight = share(source, middle, reach_across)
                    total += weight
                    for channel in range(channels):
                        sums[channel] += np.float32(weight) * line[source * channels + channel]
                scale = 1.0 / (total * total_down)
                for channel in range(channels):
                    crops[box, y, x, channel] = np.uint8(float(sums[channel]) * scale + 0.5)
