"""Kernels for images: bytes by rows and pixels (`height, width, channels`), as decoders give them."""

import numpy as np

from servekit.kernels.contract import kernel
from servekit.kernels.options import derived
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
    mean: tuple[float, ...] = (0.0, 0.0, 0.0),
    std: tuple[float, ...] = (1.0, 1.0, 1.0),
    channels: tuple[int, ...] = (0, 1, 2),  # noqa: ARG001 - the order is derived from it
    order: tuple[int, ...] = _permutation,
) -> None:
    """`(image * scale - mean) / std`, channels first, in one pass; `channels` says which channel each plane is."""
    planes = len(order)
    for row in range(image.shape[0]):
        # One index instead of two: only then does the compiler work on many pixels at a time.
        values = image[row].reshape(-1)
        for plane in range(planes):
            target, source = pixels[row, plane].reshape(-1), order[plane]
            factor = np.float32(scale / std[plane])
            offset = np.float32(-mean[plane] / std[plane])
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


@kernel(
    inputs={"image": ("uint8", ("height", "width", "channels"))},
    outputs={"padded": ("uint8", ("box_height", "box_width", "channels"))},
    per="row",
)
def letterbox(image: Array, padded: Array, *, box_height: int = 640, box_width: int = 640, fill: int = 114) -> None:
    """The image in the middle of a box, with bars of one colour; it is resized to fit before."""
    height, width, channels = image.shape
    if height > box_height or width > box_width:
        raise ValueError("the image is larger than the box")
    top = (box_height - height) // 2
    left = (box_width - width) // 2
    padded[:] = np.uint8(fill)
    for y in range(height):
        for x in range(width):
            for channel in range(channels):
                padded[top + y, left + x, channel] = image[y, x, channel]
