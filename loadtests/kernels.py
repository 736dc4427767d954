"""What a kernel costs, beside the bars it has to stay under: `python -m loadtests.kernels`.

Contestants take turns, so that whatever else the machine does meets all of them; what is compared is the ratio of two
neighbours in time, and shown is its median over the rounds.
"""

import argparse
import ctypes
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Final, NamedTuple

import numba
import numpy as np

from servekit.kernels import Kernel, image, kernel
from servekit.kernels.calling import Call
from servekit.kernels.ports import Array

SHAPE: Final = (32, 224, 224, 3)
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
CALLS: Final = 200_000
NUMBA_RATIO_MAX: Final = 1.1
NUMPY_RATIO_MAX: Final = 0.5
CALL_NS_MAX: Final = 200.0


class Line(NamedTuple):
    """One figure and the bar it has to stay under."""

    name: str
    figure: float
    bar: float
    unit: str


@kernel(inputs={"values": ("float32", ("rows", 4))}, outputs={"result": ("float32", ("rows", 4))})
def small(values: Array, result: Array) -> None:
    """As little work as a kernel can have: what its call costs is nearly all."""
    for row in range(values.shape[0]):
        for column in range(4):
            result[row, column] = values[row, column] * np.float32(2.0)


def plain_normalise(photos: Array, pixels: Array) -> None:
    """The loop of `image.normalise`, as a user of Numba writes it."""
    for row in range(photos.shape[0]):
        values = photos[row].reshape(-1)
        for plane in range(3):
            target = pixels[row, plane].reshape(-1)
            factor = np.float32(1 / 255 / STD[plane])
            offset = np.float32(-MEAN[plane] / STD[plane])
            for pixel in range(len(target)):
                target[pixel] = values[pixel * 3 + plane] * factor + offset


def numpy_normalise(photos: Array) -> Array:
    """As tutorials write it, in float32."""
    scaled = photos.astype(np.float32) / np.float32(255)
    mean, std = np.array(MEAN, np.float32), np.array(STD, np.float32)
    return np.ascontiguousarray(((scaled - mean) / std).transpose(0, 3, 1, 2))


def numpy_normalise_in_place(photos: Array, pixels: Array) -> None:
    """As somebody writes it who knows what arrays in between cost."""
    factor = (1 / 255 / np.array(STD)).astype(np.float32)[:, None, None]
    offset = (np.array(MEAN) / np.array(STD)).astype(np.float32)[:, None, None]
    np.multiply(photos.transpose(0, 3, 1, 2), factor, out=pixels)
    np.subtract(pixels, offset, out=pixels)


def call_of(one: Kernel, inputs: dict[str, Array], outputs: dict[str, Array]) -> Call:
    """A call that can be repeated; the first one was good."""
    call = Call(one, inputs, outputs, one.sizes(inputs))
    assert call.run()  # noqa: S101
    return call


def seconds(work: Callable[[], object]) -> float:
    """Of one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def normalise_lines(rounds: int) -> list[Line]:
    """The kernel beside the same loop, and beside NumPy."""
    photos = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    pixels = np.empty((SHAPE[0], 3, *SHAPE[1:3]), np.float32)
    # Into the same memory: where an array lies shows in its speed.
    call = call_of(image.normalise.bind(mean=MEAN, std=STD), {"image": photos}, {"pixels": pixels})
    plain = numba.njit(error_model="numpy")(plain_normalise)
    plain(photos, pixels)
    assert np.abs(numpy_normalise(photos) - pixels).max() < 1e-5  # noqa: S101
    to_numba, to_numpy, to_numpy_in_place, milliseconds = [], [], [], []
    for number in range(rounds):
        # Whoever runs second finds warmer caches; so they also take turns at that.
        first, second = (call.run, lambda: plain(photos, pixels))[:: 1 if number % 2 else -1]
        times = [seconds(first), seconds(second)][:: 1 if number % 2 else -1]
        to_numba.append(times[0] / times[1])
        to_numpy.append(times[0] / seconds(lambda: numpy_normalise(photos)))
        to_numpy_in_place.append(times[0] / seconds(lambda: numpy_normalise_in_place(photos, pixels)))
        milliseconds.append(times[0] * 1e3)
    return [
        Line("normalise, kernel", statistics.median(milliseconds), float("inf"), "ms"),
        Line("normalise, kernel to the same loop in Numba", statistics.median(to_numba), NUMBA_RATIO_MAX, "×"),
        Line("normalise, kernel to NumPy", statistics.median(to_numpy), NUMPY_RATIO_MAX, "×"),
        Line("normalise, kernel to NumPy in place", statistics.median(to_numpy_in_place), NUMPY_RATIO_MAX, "×"),
    ]


def call_lines(rounds: int) -> list[Line]:
    """What a call costs beyond the loop, both called from compiled code as a lane does."""
    values, result = np.ones((1, 4), np.float32), np.empty((1, 4), np.float32)
    call = call_of(small, {"values": values}, {"result": result})
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(small.compiled().address)
    loop = numba.njit(error_model="numpy")(small.py_func)

    def through_the_abi(frame: int, calls: int) -> int:
        done = 0
        for _ in range(calls):
            done += function(frame)
        return done

    def direct(values: Array, result: Array, calls: int) -> float:
        total = 0.0
        for number in range(calls):
            # Another value each time: else the compiler sees that each turn does the same.
            values[0, 0] = number
            loop(values, result)
            total += result[0, 0]
        return total

    frame = ctypes.addressof(call.frame)
    calling, looping = numba.njit(through_the_abi), numba.njit(direct)
    assert calling(frame, 1) == 1  # noqa: S101
    looping(values, result, 1)
    beyond, whole = [], []
    for _ in range(rounds):
        with_call = seconds(lambda: calling(frame, CALLS))
        without = seconds(lambda: looping(values, result, CALLS))
        beyond.append((with_call - without) / CALLS * 1e9)
        whole.append(with_call / CALLS * 1e9)
    return [
        Line("call of a kernel, with a loop over 4 values", statistics.median(whole), float("inf"), "ns"),
        Line("call of a kernel, beyond its loop", statistics.median(beyond), CALL_NS_MAX, "ns"),
    ]


def main() -> int:
    """Prints the table; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31, help="runs of each contestant, in turns")
    rounds = parser.parse_args().rounds
    lines = [*normalise_lines(rounds), *call_lines(rounds)]
    versions = ", ".join(f"{package} {version(package)}" for package in ("numba", "numpy"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {versions}, {rounds} rounds\n")
    print("| What | Measured | Bar |\n|---|---|---|")
    for line in lines:
        bar = "–" if line.bar == float("inf") else f"≤ {line.bar:g} {line.unit}"
        print(f"| {line.name} | {line.figure:.2f} {line.unit} | {bar} |")
    return int(any(line.figure > line.bar for line in lines))


if __name__ == "__main__":
    sys.exit(main())
