"""Compares a kernel with itself, compiled and as plain Python, on rows that are random, odd, none, not contiguous."""

import zlib
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np

from servekit.kernels.contract import RAISED, Kernel, Ran
from servekit.kernels.ports import ROWS, Array, Port, size

ROWS_COMPARED: Final = 5
AXIS_COMPARED: Final = 6
# Compiled code computes some steps in float64 where NumPy uses float32, or adds in another order.
TOLERANCE_RELATIVE: Final = 1e-4
TOLERANCE_ABSOLUTE: Final = 1e-5


class Difference(NamedTuple):
    """One way in which the two are not the same."""

    rows: str
    """Which rows showed it: seeded, nan, infinite, empty, strided; alone: those of others changed a row."""
    text: str


def mixture(kernel: Kernel, sizes: Mapping[str, int] | None = None, seed: int = 0) -> str | None:
    """How a row's outputs depend on the other rows of its batch.

    None where they do not, as far as seeded rows show, or where the kernel takes no such rows.
    Requests of strangers share batches, so a kernel must give each row what it gives it alone.
    """
    if kernel.per == "row":
        return None
    dice, known = _surroundings(kernel, sizes, seed)
    arrays = {port.name: _seeded(port, known, dice) for port in kernel.batch_inputs.values()}
    try:
        kernel.run(**arrays)
    except Exception:  # noqa: BLE001 - compiled, an index out of bounds would not be noticed
        return None
    together = kernel.run_compiled(**arrays).outputs
    for row in range(known[ROWS]):
        alone = kernel.run_compiled(**{name: array[row : row + 1] for name, array in arrays.items()}).outputs
        for name, expected in alone.items():
            if not _same(together[name][row : row + 1], expected).all():
                return f"row {row} of '{name}' is another alone than among {known[ROWS]} rows"
    return None


def compare(kernel: Kernel, sizes: Mapping[str, int] | None = None, seed: int = 0) -> list[Difference]:
    """Runs both; nothing is returned where they agree.

    Symbols have the sizes given, or a small one each. Rows are the same for a kernel of this name and a seed.
    """
    dice, known = _surroundings(kernel, sizes, seed)
    found = [
        Difference(name, text)
        for name, make in _CASES.items()
        if not (kernel.fastmath and name in ("nan", "infinite"))
        for text in _differences(kernel, {port.name: make(port, known, dice) for port in kernel.batch_inputs.values()})
    ]
    mixed = None if found else mixture(kernel, sizes, seed)
    return [*found, Difference("alone", mixed)] if mixed else found


def _surroundings(
    kernel: Kernel, sizes: Mapping[str, int] | None, seed: int
) -> tuple[np.random.Generator, dict[str, int]]:
    """Dice, and a size for every symbol."""
    known = {ROWS: ROWS_COMPARED, **(sizes or {})}
    for port in kernel.batch_inputs.values():
        for axis in port.shape:
            if isinstance(axis, str) and axis.isidentifier():
                known.setdefault(axis, AXIS_COMPARED)
    return np.random.default_rng([seed, zlib.crc32(kernel.name.encode())]), known


def _differences(kernel: Kernel, arrays: dict[str, Array]) -> list[str]:
    try:
        plain = kernel.run(**arrays)
    except Exception as error:  # noqa: BLE001 - a kernel may raise anything
        return [f"as Python it raises {type(error).__name__}: {error}"]
    if kernel.per == "row" and (raised := np.flatnonzero(plain.faults == len(kernel.messages))).size:
        # Compiled, an index out of bounds is not noticed: such a row would read memory that is not its own.
        return [f"row {raised[0]}: {RAISED}, so it was not run compiled; refuse such rows with a text of their own"]
    compiled = kernel.run_compiled(**arrays)
    # Two messages may have one text: which of them it was makes no difference.
    texts = ["accepted", *kernel.messages]
    for row, (ours, theirs) in enumerate(zip(compiled.faults, plain.faults, strict=True)):
        if texts[ours] != texts[theirs]:
            return [f"row {row}: compiled {texts[ours]!r}, as Python {texts[theirs]!r}"]
    return list(_unequal(plain, compiled))


def _unequal(plain: Ran, compiled: Ran) -> list[str]:
    found = []
    good = plain.faults == 0
    for name, expected in plain.outputs.items():
        row_shape = (int(good.sum()), -1) if good.any() else (0, 0)
        ours, theirs = (array[good].reshape(row_shape) for array in (compiled.outputs[name], expected))
        same = _same(ours, theirs)
        if not same.all():
            row, value = np.argwhere(~same)[0]
            kept = np.flatnonzero(good)[row]
            found.append(f"'{name}' row {kept}: {ours[row, value]!s} compiled, {theirs[row, value]!s} as Python")
    return found


def _same(ours: Array, theirs: Array) -> Array:
    if ours.dtype.kind != "f":
        return np.equal(ours, theirs)
    with np.errstate(all="ignore"):
        return np.isclose(ours, theirs, TOLERANCE_RELATIVE, TOLERANCE_ABSOLUTE, equal_nan=True)


# Rows ----------------------------------------------------------------------------------------------------------------


def _seeded(port: Port, known: Mapping[str, int], dice: np.random.Generator) -> Array:
    shape = tuple(size(axis, known) for axis in port.shape)
    dtype = port.element.numpy
    if dtype.kind == "f":
        return (dice.standard_normal(shape) * 3).astype(dtype)
    if dtype.kind == "b":
        return dice.random(shape) < 0.5
    low, high = (0, 256) if dtype == np.uint8 else (0 if dtype.kind == "u" else -2, 9)
    return dice.integers(low, high, shape).astype(dtype)


def _with(*values: float) -> Callable[[Port, Mapping[str, int], np.random.Generator], Array]:
    def made(port: Port, known: Mapping[str, int], dice: np.random.Generator) -> Array:
        array = _seeded(port, known, dice)
        if array.dtype.kind == "f":
            chosen = dice.random(array.shape) < 0.3
            array[chosen] = dice.choice(values, int(chosen.sum()))
        return array

    return made


def _empty(port: Port, known: Mapping[str, int], dice: np.random.Generator) -> Array:
    return _seeded(port, {**known, ROWS: 0}, dice)


def _strided(port: Port, known: Mapping[str, int], dice: np.random.Generator) -> Array:
    """Every second row, last axis first, backwards."""
    array = np.repeat(_seeded(port, known, dice), 2, axis=0)[::2]
    if array.ndim > 1:
        array = np.moveaxis(np.ascontiguousarray(np.moveaxis(array, -1, 1)), 1, -1)
    return array[::-1]


_CASES: Final = {
    "seeded": _seeded,
    "nan": _with(np.nan),
    "infinite": _with(np.inf, -np.inf, np.nan, 0.0),
    "empty": _empty,
    "strided": _strided,
}
