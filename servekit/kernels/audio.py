"""Kernels for sound: samples between -1 and 1, one channel."""

import numpy as np

from servekit.kernels.contract import kernel
from servekit.kernels.options import derived
from servekit.kernels.ports import Array

FRAMES = "(samples - window + hop) // hop"


@derived
def _step(window: int, hop: int) -> int:
    if window < 1 or hop < 1:
        raise ValueError(f"window is {window} and hop is {hop}, samples from 1 on are needed for both")
    return hop


@kernel(
    inputs={"sound": ("float32", ("rows", "samples"))},
    outputs={"framed": ("float32", ("rows", FRAMES, "window"))},
)
def frames(
    sound: Array,
    framed: Array,
    *,
    window: int = 400,
    hop: int = 160,  # noqa: ARG001 - the step is derived from it
    step: int = _step,
) -> None:
    """Windows that begin every `hop` samples; what does not fill the last one is left out."""
    rows, count, _ = framed.shape
    for row in range(rows):
        for frame in range(count):
            for place in range(window):
                framed[row, frame, place] = sound[row, frame * step + place]


@derived
def _hann(window: int) -> Array:
    """Periodic, as for spectra."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)).astype(np.float32)


@derived
def _turns(points: int, window: int) -> Array:
    """Cosine and minus sine of each part of a turn that the transform needs."""
    if points < 2 or points & (points - 1) or points < window:
        raise ValueError(f"points is {points}, a power of two of at least {window} (window) is needed")
    angles = -2 * np.pi * np.arange(points // 2) / points
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@derived
def _reversed_bits(points: int) -> Array:
    """Where each sample goes before the transform."""
    places = np.zeros(1, np.int64)
    while len(places) < points:
        places = np.concatenate([places * 2, places * 2 + 1])
    return places


@derived
def _mel_filters(sample_rate: int, points: int, bands: int) -> Array:
    """Triangles over the spectrum, even on the mel scale (2595 log10(1 + f / 700)), each with a peak of 1."""
    if sample_rate < 1 or bands < 1:
        raise ValueError(f"sample_rate is {sample_rate} and bands is {bands}, numbers from 1 on are needed for both")
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + sample_rate / 1400), bands + 2) / 2595) - 1)
    heard = np.arange(points // 2 + 1) * sample_rate / points
    rising = (heard - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - heard) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def transform(real: Array, imaginary: Array, turns: Array) -> None:
    """The Fourier transform of samples in bit-reversed order, in place."""
    points = len(real)
    length = 2
    while length <= points:
        half, step = length // 2, points // length
        for start in range(0, points, length):
            for place in range(half):
                low, high = start + place, start + place + half
                cosine, sine = turns[place * step, 0], turns[place * step, 1]
                turned_real = real[high] * cosine - imaginary[high] * sine
                turned_imaginary = real[high] * sine + imaginary[high] * cosine
                real[high], imaginary[high] = real[low] - turned_real, imaginary[low] - turned_imaginary
                real[low], imaginary[low] = real[low] + turned_real, imaginary[low] + turned_imaginary
        length *= 2


@kernel(
    inputs={"sound": ("float32", ("samples",))},
    outputs={"mel": ("float32", ("bands", FRAMES))},
    scratch={"real": ("float64", ("points",)), "imaginary": ("float64", ("points",))},
    per="row",
)
def log_mel(  # noqa: PLR0913 - a spectrogram has that many settings
    sound: Array,
    mel: Array,
    real: Array,
    imaginary: Array,
    *,
    sample_rate: int = 16_000,  # noqa: ARG001 - the filters are derived from it
    window: int = 400,
    hop: int = 160,  # noqa: ARG001 - the step is derived from it
    points: int = 512,
    bands: int = 80,
    power_min: float = 1e-10,
    step: int = _step,
    hann: Array = _hann,
    turns: Array = _turns,
    places: Array = _reversed_bits,
    filters: Array = _mel_filters,
) -> None:
    """The natural logarithm of the power in each mel band of each frame."""
    if len(sound) < window:
        raise ValueError("the sound is shorter than one window")
    for frame in range(mel.shape[1]):
        for point in range(points):
            place = places[point]
            real[point] = sound[frame * step + place] * hann[place] if place < window else 0.0
            imaginary[point] = 0.0
        transform(real, imaginary, turns)
        for band in range(bands):
            power = 0.0
            for heard in range(points // 2 + 1):
                if filters[band, heard] > 0:
                    power += filters[band, heard] * (real[heard] * real[heard] + imaginary[heard] * imaginary[heard])
            # Not max(): of what is not a number it would depend on the order.
            mel[band, frame] = np.log(power_min if power < power_min else power)
