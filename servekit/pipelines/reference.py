"""The meaning of a plan, in plain Python: what native lanes are compared with. Nothing is served this way."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from servekit.kernels import ports
from servekit.kernels.ports import ROWS, Array
from servekit.pipelines.plan import KernelCall, ModelCall, Plan, StageCall

Row = Mapping[str, Any]
StageFunction = Callable[..., Sequence[Any]]
"""Takes the inputs in order and the options by keyword; gives the outputs in order; refuses by `ValueError`."""
RunModel = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]


class Refused(NamedTuple):
    """A row that a step refused."""

    step: str
    text: str


class _Batch:
    """Rows that go on, and the values of the batch that they share."""

    def __init__(self, plan: Plan, rows: Mapping[int, dict[int, Any]]) -> None:
        self.plan = plan
        self.rows = dict(rows)
        self.places = list(rows)
        """Of the rows that are left, among those that were given."""
        self.values = {number: self._gathered(number) for number in plan.gathered} if rows else {}

    def sizes(self, place: int) -> dict[str, int]:
        """What symbols stand for in one row."""
        known: dict[str, int] = {}
        for number, value in self.rows[place].items():
            shape = self.plan.values[number].shape
            known |= {axis: size for axis, size in zip(shape, np.shape(value), strict=True) if isinstance(axis, str)}
        return known

    def without(self, places: Sequence[int]) -> None:
        """Takes rows out."""
        left = [index for index, place in enumerate(self.places) if place not in places]
        self.values = {number: array[left] for number, array in self.values.items()}
        self.places = [self.places[index] for index in left]

    def _gathered(self, number: int) -> Array:
        """One array of all rows; shorter ones are padded with zeros, as the batcher pads."""
        values = [np.asarray(self.rows[place][number]) for place in self.places]
        sizes = [max(axis) for axis in zip(*(value.shape for value in values), strict=True)]
        is_text = self.plan.values[number].dtype in {"bytes", "string"}
        gathered = np.zeros((len(values), *sizes), object if is_text else values[0].dtype)
        for index, value in enumerate(values):
            place: tuple[Any, ...] = (index, *map(slice, value.shape))
            # As it was sent: NumPy's own texts lose zeros at their end.
            gathered[place] = self.rows[self.places[index]][number] if is_text else value
        return gathered


def reference_run(
    plan: Plan, rows: Sequence[Row], run_model: RunModel, stages: Mapping[str, StageFunction] | None = None
) -> list[dict[str, Any] | Refused]:
    """What each row gets. A row is a table of the inputs; `run_model` is given a model's name and its arrays."""
    answers: dict[int, dict[str, Any] | Refused] = {}
    made: dict[int, dict[int, Any]] = {}
    for place, row in enumerate(rows):
        values = {number: row[name] for name, number in plan.inputs.items()}
        refused = _staged(plan.stages, values, stages or {})
        if refused is None:
            made[place] = values
        else:
            answers[place] = refused
    batch = _Batch(plan, made)
    for call in plan.batch:
        if not batch.places:
            break
        if isinstance(call, ModelCall):
            given = run_model(call.model, {name: batch.values[number] for name, number in call.inputs.items()})
            batch.values |= {number: given[name] for name, number in call.outputs.items()}
        else:
            refusals = _kernel_run(call, batch)
            answers |= refusals
            batch.without(list(refusals))
    for index, place in enumerate(batch.places):
        answers[place] = {name: _own(batch, number, index) for name, number in plan.outputs.items()}
    return [answers[place] for place in range(len(rows))]


def _staged(calls: Sequence[StageCall], values: dict[int, Any], stages: Mapping[str, StageFunction]) -> Refused | None:
    for call in calls:
        try:
            given = stages[call.kind](*(values[number] for number in call.inputs), **call.options)
        except ValueError as error:
            return Refused(call.step, str(error))
        values.update(zip(call.outputs, given, strict=True))
    return None


def _kernel_run(call: KernelCall, batch: _Batch) -> dict[int, Refused]:
    arrays = {port: batch.values[number] for port, number in zip(call.kernel.inputs, call.inputs, strict=True)}
    ran = call.kernel.run(**arrays)
    batch.values |= dict(zip(call.outputs, ran.outputs.values(), strict=True))
    messages = call.kernel.messages
    return {
        batch.places[index]: Refused(call.step, messages[fault - 1]) for index, fault in enumerate(ran.faults) if fault
    }


def _own(batch: _Batch, number: int, index: int) -> Any:  # noqa: ANN401 - an array, or a text as it was sent
    """One row's part of a value, without what its neighbours' lengths added."""
    value, place = batch.plan.values[number], batch.places[index]
    if value.place == "row":
        return batch.rows[place][number]
    known = {**batch.sizes(place), ROWS: len(batch.places)}
    array = batch.values[number][index]
    kept = []
    for axis, size in zip(value.shape, np.shape(array), strict=True):
        is_known = isinstance(axis, int) or ports.symbols(axis) <= set(known)
        kept.append(slice(ports.size(axis, known) if is_known else size))
    return array[tuple(kept)] if kept else array
