"""How a value and a port come together, and what to say where they do not."""

from collections.abc import Mapping, Sequence
from typing import Final

from servekit.kernels import ports
from servekit.kernels.ports import Port
from servekit.pipelines.faults import PipelineError, meant
from servekit.pipelines.finding import built_in

ADVICE: Final = "change the step, or what it takes by from"
EACH: Final = "if its first axis counts entries, write each: true; else change what it takes by from"
SYMBOLS: Final = "sizes with two names may differ, so give them one name in inputs or in the model's shapes"

_BY_TYPES: Final = {
    ("bytes", "uint8"): "decode it first, by decode_image",
    ("bytes", "string"): "declare the input as string",
    ("string", "bytes"): "declare the input as bytes, or put base64 before the step",
    ("string", "int64"): "turn it into numbers first, by tokenize or lookup",
    ("int64", "float32"): "make columns of categories by numbers.one_hot, or numbers by numbers.as_floats",
    ("uint8", "float32"): "make numbers of the pixels first, by image.normalise",
}


def unify(where: str, expected: Port, found: Port, known: dict[str, int | str], *, may_be_each: bool = False) -> None:
    """Fits a value to a port; `known` grows by what the port's symbols stand for.

    A step that `may_be_each` is told so where that alone is missing.
    """
    fits = expected.dtype == found.dtype and len(expected.shape) == len(found.shape)
    for declared, axis in zip(expected.shape, found.shape, strict=False):
        if isinstance(declared, str) and declared.isidentifier():
            known.setdefault(declared, axis)
        fits = fits and ports.substituted(declared, known) == axis
    if not fits:
        shown = expected._replace(shape=tuple(ports.substituted(axis, known) for axis in expected.shape))
        raise PipelineError(
            f"{where}: input '{expected.name}' is '{found.name}' {found}, expected {shown}; "
            f"{advice(expected, found, may_be_each=may_be_each)}"
        )


def advice_of_several(expected: Mapping[str, Port], found: Mapping[str, Port], *, may_be_each: bool) -> str:
    """The same for all inputs of a step, of which one does not fit."""
    wrong = [name for name, port in found.items() if not _is_alike(expected[name], port)]
    if wrong:
        return advice(expected[wrong[0]], found[wrong[0]], may_be_each=may_be_each)
    # Rows are a symbol of every batch.
    opened = any(isinstance(axis, str) for port in found.values() for axis in port.shape[1:])
    return SYMBOLS if opened else ADVICE


def _is_alike(expected: Port, found: Port) -> bool:
    """Whether they would fit, whatever the symbols of the port stand for."""
    if expected.dtype != found.dtype or len(expected.shape) != len(found.shape):
        return False
    return not any(_differs(*axes) for axes in zip(expected.shape, found.shape, strict=True))


def _differs(declared: int | str, axis: int | str) -> bool:
    return isinstance(declared, int) and declared != axis


def advice(expected: Port, found: Port, *, may_be_each: bool) -> str:
    """What to do about a value that does not fit."""
    if expected.dtype != found.dtype:
        return _BY_TYPES.get((found.dtype, expected.dtype), ADVICE)
    if may_be_each and len(expected.shape) + 1 == len(found.shape):
        return EACH
    if len(expected.shape) == len(found.shape):
        wrong = [axis for declared, axis in zip(expected.shape, found.shape, strict=True) if _differs(declared, axis)]
        opened = [axis for axis in wrong if isinstance(axis, str)]
        if len(wrong) > len(opened):
            return ADVICE
        if opened:
            step = "resize" if found.dtype == "uint8" else "the step that makes it, inputs or the model's shapes"
            return f"'{opened[0]}' is open here, fix its size by {step}"
        if any(isinstance(axis, str) for axis in found.shape):
            return SYMBOLS
    return ADVICE


def by_port(where: str, key: str, said: Sequence[str] | Mapping[str, str], expected: Sequence[str]) -> dict[str, str]:
    """What a step says about its ports, in order or by name, as a table."""
    way = "takes" if key == "from" else "gives"
    if isinstance(said, Mapping):
        for port in said:
            if port not in expected:
                raise PipelineError(f"{where}: '{port}' in {key} is nothing it {way}; {meant(port, expected)}")
        return dict(said)
    if len(said) > len(expected):
        raise PipelineError(
            f"{where}: {key} names {len(said)} values, it {way} {len(expected)} ({', '.join(expected)}); remove some"
        )
    return dict(zip(expected, said, strict=False))


def kernels_alike(name: str) -> list[str]:
    """Kernels whose last word is the name: `softmax` means `scores.softmax`."""
    return [kernel for kernel in built_in() if kernel.partition(".")[2] == name] if name else []
