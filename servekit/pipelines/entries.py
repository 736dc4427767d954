"""Steps to which each entry of a row is a row of its own: which axis counts the entries, and what such a step gives."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from servekit.kernels import ports
from servekit.kernels.ports import ELEMENTS, RANK_MAX, Port
from servekit.pipelines import matching
from servekit.pipelines.faults import PipelineError
from servekit.pipelines.plan import Entries, Value

_WHOLE_NUMBERS: Final = tuple(name for name in ELEMENTS if name.startswith(("int", "uint")))


def axis_of(where: str, taken: Mapping[str, Value]) -> int | str:
    """The axis that counts entries: the first of every value that the step takes."""
    if not taken:
        raise PipelineError(f"{where}: each found, and it takes nothing that has entries; name a value in from")
    first = next(iter(taken.values()))
    for port, value in taken.items():
        found = f"{where}: each found, and input '{port}' is '{value.name}' {value.port}, expected"
        if not value.shape:
            raise PipelineError(f"{found} an axis that counts entries; leave each out, or take another value by from")
        if value.shape[0] != first.shape[0]:
            opened = any(isinstance(one.shape[0], str) for one in (first, value))
            raise PipelineError(
                f"{found} the first axis {first.shape[0]} of '{first.name}' {first.port}; "
                f"{matching.SYMBOLS if opened else matching.ADVICE}"
            )
    return first.shape[0]


def seen(taken: Mapping[str, Value], each: Entries | None) -> dict[str, Value]:
    """The values as the step sees them: entries, where those are its rows."""
    return {port: replace(value, shape=value.shape[1:] if each else value.shape) for port, value in taken.items()}


def place(where: str, each: Entries | None) -> str:
    """Where the step stands, for messages about what it sees."""
    return f"{where}, each entry" if each else where


def check_count(where: str, value: Value) -> None:
    """Whether a value can say how many entries of a row mean something."""
    if value.dtype not in _WHOLE_NUMBERS or value.shape not in ((), (1,)):
        raise PipelineError(
            f"{where}: each names '{value.name}' {value.port}, expected a whole number a row, such as int64 [1]; name "
            "another value, or write each: true"
        )


def check_sized(
    where: str, outputs: Sequence[Port], known: Mapping[str, int | str], taken: Mapping[str, Value]
) -> None:
    """Whether outputs, of an entry, have a size before the step runs: of rows without entries nothing else tells it."""
    told = set().union(*(ports.symbols(axis) for value in taken.values() for axis in value.shape))
    for port in outputs:
        for axis in port.shape:
            meant = [known.get(symbol) for symbol in ports.symbols(axis)]
            if any(one is None or not ports.symbols(one) <= told for one in meant):
                raise PipelineError(
                    f"{where}: output '{port.name}' is {port}, and a row without entries leaves '{axis}' open; write "
                    "its size under shapes"
                )


def given(where: str, outputs: Sequence[Port], each: Entries | None) -> list[Port]:
    """What the step gives a row: of outputs of an entry, all of them."""
    if each is None:
        return list(outputs)
    found = [port._replace(shape=(each.axis, *port.shape)) for port in outputs]
    for port in found:
        if len(port.shape) >= RANK_MAX:
            raise PipelineError(
                f"{where}: output '{port.name}' would be {port}, up to {RANK_MAX - 1} axes of a row are allowed; "
                "leave each out"
            )
    return found
