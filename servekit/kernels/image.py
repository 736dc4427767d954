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
