"""A pipeline that has been checked: values with types, what makes each of them, and where it lies."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from servekit.kernels import Kernel, KernelError
from servekit.kernels.comparing import mixture
from servekit.kernels.ports import ROWS, Port
from servekit.pipelines.contracts import DATATYPES, Shape, metadata_shape
from servekit.pipelines.faults import PipelineError

VERSION: Final = 2

Place = Literal["row", "batch"]


@dataclass(frozen=True)
class Value:
    """Something that a client sends or a step gives. Each has a number; a name may come to mean another value."""

    number: int
    name: str
    dtype: str
    shape: Shape
    """Of a row: a size, or a symbol for what is known only with the row."""
    place: Place
    """`row`: it exists before the batch forms; `batch`: the lane makes it."""
    origin: str
    """Who gives it, for messages."""

    @property
    def port(self) -> Port:
        """Of one row."""
        return Port(self.name, self.dtype, self.shape)

    @property
    def batch_port(self) -> Port:
        """Of all rows."""
        return Port(self.name, self.dtype, (ROWS, *self.shape))

    def described(self, slot: int | None) -> dict[str, Any]:
        """As the native side reads it; a slot is the buffer of the lane that holds it."""
        shown = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape), "place": self.place}
        return {**shown, "slot": slot}


@dataclass(frozen=True)
class StageCall:
    """A native stage, run on each row by a lane of the pool."""

    step: str
    kind: str
    options: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def described(self) -> dict[str, Any]:
        """As the native side reads it."""
        return {
            "step": self.step,
            "kind": self.kind,
            "options": dict(self.options),
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
        }


@dataclass(frozen=True)
class Entries:
    """What makes several rows of one: a call takes each entry of the first axis as a row of its own."""

    axis: int | str
    """Of everything that the call takes and gives."""
    count: int | None = None
    """The value that says how many entries mean something; the others are not run, and are zeros in what it gives."""

    def described(self) -> dict[str, Any]:
        """As the native side reads it."""
        return {"axis": self.axis, "count": self.count}


@dataclass(frozen=True)
class KernelCall:
    """A kernel, run on the batch inside the lane. It lives as long as the plan: the native side has its address."""

    step: str
    kernel: Kernel
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    each: Entries | None = None

    @property
    def reads(self) -> tuple[int, ...]:
        """The values that have to be there."""
        return (*self.inputs, *_counts(self.each))

    @property
    def writes(self) -> tuple[int, ...]:
        """The values that it makes."""
        return self.outputs

    def described(self) -> dict[str, Any]:
        """As the native side reads it; compiles the kernel."""
        kernel = self.kernel.described()
        return {
            "step": self.step,
            "kernel": {**kernel, "options": _finite(kernel["options"])},
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "each": self.each and self.each.described(),
        }


@dataclass(frozen=True)
class ModelCall:
    """A run of a model on the batch: its tensors by name, and the values they are."""

    step: str
    model: str
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    each: Entries | None = None

    @property
    def reads(self) -> tuple[int, ...]:
        """The values that have to be there."""
        return (*self.inputs.values(), *_counts(self.each))

    @property
    def writes(self) -> tuple[int, ...]:
        """The values that it makes."""
        return tuple(self.outputs.values())

    def described(self) -> dict[str, Any]:
        """As the native side reads it."""
        return {
            "step": self.step,
            "model": self.model,
            "inputs": [{"name": name, "value": number} for name, number in self.inputs.items()],
            "outputs": [{"name": name, "value": number} for name, number in self.outputs.items()],
            "each": self.each and self.each.described(),
        }


BatchCall = KernelCall | ModelCall


@dataclass(frozen=True)
class Plan:
    """One pipeline, ready to cross to the native side."""

    name: str
    """Of the model that clients ask for."""
    raw: bool
    values: tuple[Value, ...]
    """By number."""
    inputs: Mapping[str, int]
    stages: tuple[StageCall, ...]
    """In an order in which each finds what it takes; all before the batch forms."""
    batch: tuple[BatchCall, ...]
    """What the lane does with the batch, in order."""
    outputs: Mapping[str, int]
    slots: Mapping[int, int]
    """The buffer of the lane for each value of the batch; what rows bring into it has one too."""

    @property
    def models(self) -> tuple[str, ...]:
        """The models it runs, in order."""
        return tuple(call.model for call in self.batch if isinstance(call, ModelCall))

    @property
    def gathered(self) -> tuple[int, ...]:
        """Values that rows bring and the batch is gathered from."""
        return tuple(number for number in sorted(self.slots) if self.values[number].place == "row")

    def compile(self) -> None:
        """Compiles every kernel, which else happens when the plan crosses, and sees that none mixes rows.

        An error names the step.
        """
        for call in self.batch:
            if not isinstance(call, KernelCall):
                continue
            try:
                call.kernel.compiled()
                # Those that come with servekit are known not to.
                is_own = call.kernel.py_func.__module__.startswith("servekit.kernels.")
                mixed = None if is_own else mixture(call.kernel)
            except KernelError as error:
                raise PipelineError(f"pipeline of '{self.name}': {call.step}: {error}") from None
            if mixed:
                raise PipelineError(
                    f"pipeline of '{self.name}': {call.step}: {mixed}, and requests of others share its batch; declare "
                    'it per="row"'
                )

    def contract(self) -> dict[str, Any]:
        """What clients see in place of the model's own contract."""
        inputs, outputs = (
            [
                {
                    "name": name,
                    "datatype": DATATYPES[self.values[number].dtype],
                    "shape": metadata_shape(self.values[number].shape),
                }
                for name, number in found.items()
            ]
            for found in (self.inputs, self.outputs)
        )
        return {"name": self.name, "inputs": inputs, "outputs": outputs}

    def described(self) -> dict[str, Any]:
        """As the native side reads it; compiles what is not compiled."""
        return {
            "version": VERSION,
            "name": self.name,
            "raw": self.raw,
            "values": [value.described(self.slots.get(value.number)) for value in self.values],
            "slots": len(set(self.slots.values())),
            "inputs": [{"name": name, "value": number} for name, number in self.inputs.items()],
            "stages": [call.described() for call in self.stages],
            "batch": [call.described() for call in self.batch],
            "outputs": [{"name": name, "value": number} for name, number in self.outputs.items()],
        }

    def as_json(self) -> str:
        """The same as a text."""
        return json.dumps(self.described(), allow_nan=False)

    def digest(self) -> str:
        """SHA-256 of what is computed, in hexadecimal; the same in every process. Files of stages are not looked at."""
        described = self.described()
        for call, told in zip(self.batch, described["batch"], strict=True):
            if isinstance(call, KernelCall):
                told["kernel"]["address"] = call.kernel.key
        return hashlib.sha256(json.dumps(described, allow_nan=False).encode()).hexdigest()

    def shown(self) -> list[str]:
        """A line a step for people: where it runs, what it takes and gives."""
        lines = [self._line("row", call.step, call.inputs, call.outputs) for call in self.stages]
        for call in self.batch:
            step = call.step + self._each(call.each)
            if isinstance(call, ModelCall):
                lines.append(self._line("model", step, call.inputs.values(), call.outputs.values()))
            else:
                lines.append(self._line("batch", step, call.inputs, call.outputs))
        return lines

    def _each(self, entries: Entries | None) -> str:
        if entries is None:
            return ""
        return ", each" if entries.count is None else f", each of {self.values[entries.count].name}"

    def _line(self, place: str, step: str, inputs: Any, outputs: Any) -> str:  # noqa: ANN401 - any numbers
        ports = [[self.values[number].port for number in numbers] for numbers in (inputs, outputs)]
        taken, given = (", ".join(f"{port.name} {port}" for port in some) for some in ports)
        return f"{place:5} {step}: {taken} → {given}"


def _counts(entries: Entries | None) -> tuple[int, ...]:
    return () if entries is None or entries.count is None else (entries.count,)


def _finite(value: Any) -> Any:  # noqa: ANN401 - what JSON holds
    """What JSON cannot hold as the texts that the protocols have for it."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
