"""A pipeline as it is written: what clients send, the steps before the model and after it, what they get."""

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from servekit.config.limits import Frozen
from servekit.kernels.ports import ELEMENTS, RANK_MAX, ROWS
from servekit.pipelines.faults import meant

__all__ = ["KEYS", "MainModel", "Pipeline", "Sent", "Step"]

NAME_BYTES_MAX: Final = 256
TEXTS: Final = ("bytes", "string")
"""Types of which a row is one element: anything at all, or text in UTF-8."""

_TYPE = re.compile(r"\s*([A-Za-z0-9_]+)\s*(?:\[([^\]]*)\])?\s*")
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Sent(NamedTuple):
    """What clients send under one name, a row: `bytes`, `string`, or numbers of a shape."""

    dtype: str
    shape: tuple[int | str, ...]


def _name(value: object) -> str:
    if not isinstance(value, str) or not value or len(value.encode()) > NAME_BYTES_MAX:
        raise ValueError(f"a name of 1 to {NAME_BYTES_MAX} bytes is allowed; put words that YAML reads into quotes")
    return value


def _names(value: object) -> tuple[str, ...] | dict[str, str]:
    """One name, some in order, or a table by port."""
    if isinstance(value, dict):
        return {_name(port): _name(name) for port, name in value.items()}
    return tuple(_name(name) for name in (value if isinstance(value, list | tuple) else [value]))


def _options(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("a table of options is allowed")
    for name, option in value.items():
        if not _is_option(option):
            raise ValueError(f"'{name}' is {option!r:.64}, a finite number, a text, true, false or a list is allowed")
    return {_name(name): option for name, option in value.items()}


def _is_option(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_option(item) for item in value)
    return isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value))


def _each(value: object) -> bool | str:
    if not isinstance(value, bool | str):
        raise ValueError("true, false or the name of a value that counts entries is allowed")
    return value if isinstance(value, bool) else _name(value)


def _outputs(value: object) -> dict[str, str]:
    """Names of values, or a table of what clients see and the value it is."""
    names = _names(value)
    if isinstance(names, dict):
        return names
    if doubles := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"'{doubles[0]}' stands twice, once is allowed; remove one")
    return {name: name for name in names}


def _sent(value: object) -> Sent:
    """Reads `bytes`, `float32`, `float32[4]` or `float32[height, width]`; without a shape it is one number a row."""
    found = _TYPE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("a type such as bytes, string, float32 or float32[3, 224, 224] is allowed")
    dtype, axes = found[1], found[2]
    if dtype not in (*TEXTS, *ELEMENTS):
        raise ValueError(f"'{dtype}' is no type; {meant(dtype, (*TEXTS, *ELEMENTS))}")
    if dtype in TEXTS:
        if axes is not None:
            raise ValueError(f"{dtype} has no shape, a row is one element; leave [{axes}] out")
        return Sent(dtype, ())
    # As columns of tables are, and as kernels take them: an array of a row has at least one axis.
    return Sent(dtype, (1,) if axes is None else shape([axis.strip() for axis in axes.split(",") if axis.strip()]))


def shape(axes: object) -> tuple[int | str, ...]:
    """Axes of one row, each a size or a symbol."""
    if not isinstance(axes, list | tuple):
        raise ValueError("a list of sizes and symbols is allowed, such as [length, 384]")
    if len(axes) >= RANK_MAX:
        raise ValueError(f"{len(axes)} axes of a row found, up to {RANK_MAX - 1} are allowed; join some")
    return tuple(_axis(axis) for axis in axes)


def _axis(axis: object) -> int | str:
    text = str(axis)
    if text.isdecimal() and len(text) <= 18 and not isinstance(axis, bool):
        return int(text)
    if text == ROWS:
        raise ValueError(f"axis '{ROWS}' found, it stands for the batch and is left out; give the other axes")
    if not isinstance(axis, str) or not _SYMBOL.fullmatch(axis):
        raise ValueError(f"axis {axis!r} found, a size or a name is allowed; write 224 or height")
    return axis


def _shapes(value: object) -> dict[str, tuple[int | str, ...]]:
    if not isinstance(value, dict):
        raise ValueError("a table of outputs and their axes is allowed, such as {last_hidden_state: [length, 384]}")
    return {_name(output): shape(axes) for output, axes in value.items()}


def _table_of(values: Callable[[object], Any], what: str) -> PlainValidator:
    def read(value: object) -> dict[str, Any]:
        if not isinstance(value, dict) or not value:
            raise ValueError(f"a table of {what} is allowed")
        return {_name(name): named(name, entry) for name, entry in value.items()}

    def named(name: str, entry: object) -> Any:  # noqa: ANN401 - what the values are
        try:
            return values(entry)
        except ValueError as error:
            raise ValueError(f"'{name}' is {entry!r:.64}, {error}") from None

    return PlainValidator(read)


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


Names = Annotated[tuple[str, ...] | dict[str, str], PlainValidator(_names)]
Name = Annotated[str, PlainValidator(_name)]
Each = Annotated[bool | str, PlainValidator(_each)]
Shapes = Annotated[dict[str, tuple[int | str, ...]], PlainValidator(_shapes)]


def key(alias: str, description: str) -> Any:  # noqa: ANN401
    """A key whose name is a word of Python's own."""
    return Field((), validation_alias=alias, serialization_alias=alias, description=description)


class MainModel(Frozen):
    """The model between before and after."""

    name: Name | None = Field(default=None, description="a served model; without it the one of the folder")
    taken: Names = key("from", "values for its inputs, in order or by input; else values called like the inputs")
    given: Names = key("as", "names for its outputs, in order or by output; else the outputs' own")
    shapes: Shapes = Field(default={}, description="axes of a row of outputs, where the model's file leaves them open")
    each: Each = Field(default=False, description="of a step, see there")


class Step(Frozen):
    """One step: a stage or kernel in `use`, or another `model`."""

    use: Name | None = Field(default=None, description="a stage, a kernel such as image.normalise, or kernels.py:name")
    model: Name | None = Field(default=None, description="a served model")
    options: Annotated[dict[str, Any], PlainValidator(_options)] = Field(
        default_factory=dict, validation_alias="with", description="options of a stage or kernel"
    )
    taken: Names = key("from", "values to take, in order or by port; else the first that the step before gave")
    given: Names = key("as", "names for what it gives, in order or by port; else the ports' own")
    shapes: Shapes = Field(default={}, description="of a model, see there")
    each: Each = Field(
        default=False, description="entries of the first axis are rows to it: true, or the value that says how many"
    )

    @model_validator(mode="after")
    def _does_one_thing(self) -> "Step":
        if (self.use is None) == (self.model is None):
            found = "both use and model" if self.use else "neither use nor model"
            raise ValueError(f"{found} found, one of them is allowed; write use for a stage or kernel")
        if self.model is not None and self.options:
            raise ValueError("with found, a model has no options; remove it")
        if self.use is not None and self.shapes:
            raise ValueError("shapes found, a stage or kernel says its own; remove it")
        return self

    @property
    def name(self) -> str:
        """What the step is called in messages."""
        return self.use or self.model or ""


class Pipeline(Frozen):
    """Everything that a pipeline says."""

    inputs: Annotated[dict[str, Sent], _table_of(_sent, "names and types")] = Field(
        default_factory=dict, description="what clients send; without it what the model takes"
    )
    before: tuple[Step, ...] = Field(default=(), description="steps before the model")
    model: Annotated[MainModel, BeforeValidator(_named)] = Field(
        default_factory=MainModel, description="the model, or its name alone"
    )
    after: tuple[Step, ...] = Field(default=(), description="steps after the model")
    outputs: Annotated[dict[str, str], PlainValidator(_outputs)] = Field(
        default_factory=dict, description="what clients get; without it what the last step gives"
    )
    raw: bool = Field(default=False, description="serve the model's own tensors too, as name.raw")


KEYS: Final = tuple(Pipeline.model_fields)
"""What a pipeline is told by, in `model.yaml` and under `models` of the configuration."""
