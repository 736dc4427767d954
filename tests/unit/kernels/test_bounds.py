"""No kernel that comes with servekit reaches past its arrays, whatever shapes and options it accepts.

Compiled code does not look: an index too far reads memory that is somebody else's.
"""

import inspect
import zlib

import numpy as np
import pytest

from servekit.kernels import KernelError, kernel
from servekit.kernels.options import Derived, Each
from servekit.kernels.ports import ROWS, size
from servekit.pipelines.finding import built_in

ACCEPTED = 60
TRIED_MAX = 4_000
SIZES = (-3, -1, 0, 1, 2, 3, 4, 8)
NUMBERS = (0.0, -0.0, 1.0, -2.5, 0.25, 1e30, -1e30, np.nan, np.inf, -np.inf)
INTEGERS = (0, 1, 2, 3, -1, 4, 7, 2**40, -(2**40), 2**63 - 1, -(2**63))


class OutOfBoundsError(Exception):
    """What compiled code would not have noticed."""


def look(places, sizes):
    """Negative places too, which Python counts from the end: no kernel means that."""
    for place, length in zip(places if isinstance(places, tuple) else (places,), sizes, strict=False):
        if isinstance(place, int | np.integer) and not 0 <= place < length:
            raise OutOfBoundsError(f"{place} of {length}")


class BoundedArray(np.ndarray):
    __repr__ = object.__repr__

    def __getitem__(self, places):
        look(places, self.shape)
        return super().__getitem__(places)

    def __setitem__(self, places, value):
        look(places, self.shape)
        super().__setitem__(places, value)


class BoundedTuple(tuple):
    __slots__ = ()

    def __getitem__(self, place):
        look(place, (len(self),))
        return super().__getitem__(place)


def bounded(value):
    if isinstance(value, np.ndarray):
        return value.view(BoundedArray)
    return BoundedTuple(value) if isinstance(value, tuple) else value


def drawn_option(default, dice):
    if isinstance(default, Each):
        return drawn_option((default.value,), dice)
    if isinstance(default, bool):
        return bool(dice.integers(2))
    if isinstance(default, tuple):
        count = int(dice.integers(5))
        if isinstance(default[0], int) and dice.random() < 0.7:
            return dice.permutation(count).tolist()
        return [drawn_option(default[0], dice) for _ in range(count)]
    return int(dice.choice(SIZES)) if isinstance(default, int) else float(dice.choice(NUMBERS))


def drawn_options(kernel, dice):
    parameters = inspect.signature(kernel.py_func).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}
    return {
        name: drawn_option(default, dice)
        for name, default in defaults.items()
        if not isinstance(default, Derived) and dice.random() < 0.8
    }


def drawn_ports(kernel, dice):
    """Inputs that mostly fit."""
    known = {}
    for port in kernel.batch_inputs.values():
        known |= {axis: int(dice.integers(6)) for axis in port.shape if isinstance(axis, str) and axis not in known}
    found = {}
    for name, port in kernel.batch_inputs.items():
        shape = [size(axis, known) for axis in port.shape]
        if shape and dice.random() < 0.2:
            shape[dice.integers(len(shape))] = int(dice.integers(6))
        found[name] = port._replace(shape=tuple(shape))
    return found


def drawn_array(port, dice):
    dtype = port.element.numpy
    values = NUMBERS if dtype.kind == "f" else INTEGERS
    if dtype.kind == "f" and dice.random() < 0.5:
        return dice.standard_normal(port.shape).astype(dtype)
    with np.errstate(all="ignore"):
        return dice.choice(np.array(values), port.shape).astype(dtype)


def filled(shape, dtype):
    """As a lane's buffers, which hold what the last batch left."""
    array = np.empty(tuple(max(length, 0) for length in shape), dtype)
    array.reshape(-1).view(np.uint8)[:] = 0x4B
    return array.view(BoundedArray)


def run(kernel, given, dice):
    """What the lane does with shapes that were accepted, in Python that looks; returns whether there was a row."""
    outputs = kernel.typed(given)
    inputs = [drawn_array(port, dice).view(BoundedArray) for port in given.values()]
    known = {}
    for port, array in zip(kernel.batch_inputs.values(), inputs, strict=True):
        known |= {axis: length for axis, length in zip(port.shape, array.shape, strict=True) if isinstance(axis, str)}
    tensors = inputs + [filled(port.shape, port.element.numpy) for port in outputs.values()]
    scratch = [
        filled([size(axis, known) for axis in port.shape], port.element.numpy) for port in kernel.scratch.values()
    ]
    options = {name: bounded(value) for name, value in kernel.options.items()}
    with np.errstate(all="ignore"):
        if kernel.per == "batch":
            kernel.py_func(*tensors, *scratch, **options)
            return known[ROWS] > 0
        for row in range(known[ROWS]):
            try:
                kernel.py_func(*(tensor[row] for tensor in tensors), *scratch, **options)
            except ValueError as error:
                assert str(error) in kernel.refusals  # noqa: PT017 - any other is a fault of the kernel
    return known[ROWS] > 0


def accepted(kernel):
    """Runs what is accepted of what is drawn, until that is enough; returns how many."""
    dice = np.random.default_rng(zlib.crc32(kernel.name.encode()))
    count = 0
    for _ in range(TRIED_MAX):
        try:
            bound = kernel.bind(**drawn_options(kernel, dice))
            given = drawn_ports(bound, dice)
            bound.typed(given)
        except KernelError:
            continue
        count += run(bound, given, dice)
        if count == ACCEPTED:
            break
    return count


@pytest.mark.parametrize("name", built_in())
def test_no_kernel_reaches_past_arrays_of_shapes_that_it_accepts(name):
    assert accepted(built_in()[name]) == ACCEPTED


def declared(function):
    shape = ("float32", ("rows", "columns"))
    return kernel(inputs={"values": shape}, outputs={"result": shape})(function)


@declared
def too_far(values, result):
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            result[row, column] = values[row, column + 1]


@declared
def before_the_first(values, result):
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            result[row, column] = values[row, column - 1]


@declared
def past_a_slice(values, result):
    for row in range(values.shape[0]):
        flat = result[row].reshape(-1)
        flat[values.shape[1]] = 1.0


@declared
def past_an_option(values, result, *, factors=(1.0, 2.0)):
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            result[row, column] = factors[column]


@pytest.mark.parametrize("wrong", [too_far, before_the_first, past_a_slice, past_an_option], ids=lambda one: one.name)
def test_a_kernel_that_reaches_past_its_arrays_is_noticed(wrong):
    with pytest.raises((OutOfBoundsError, IndexError)):
        accepted(wrong)
