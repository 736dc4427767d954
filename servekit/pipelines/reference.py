"""The meaning of a plan, in plain Python: what native lanes are compared with. Nothing is served this way."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from servekit.kernels.ports import Array
from servekit.pipelines.plan import KernelCall, ModelCall, Plan, StageCall
from servekit.pipelines.schema import TEXTS

Row = Mapping[str, Any]
StageFunction = Callable[..., Sequence[Any]]
"""Takes the inputs in order and the options by keyword; gives the outputs in order; refuses by `ValueError`."""
RunModel = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]


class Refused(NamedTuple):
    """A row that a step refused."""

    step: str
    text: str


class _Batch:
    """Rows that go on together, and the values that they share."""

    def __init__(self, plan: Plan, rows: Mapping[int, Mapping[int, Any]]) -> None:
        self.places = list(rows)
        """Of the rows that are left, among those that were given."""
        self.values = {
            number: _stacked(plan.values[number].dtype, [row[number] for row in rows.values()])
            for number in plan.gathered
        }

    def without(self, places: Collection[int]) -> None:
        """Takes rows out."""
        left = [index for index, place in enumerate(self.places) if place not in places]
        self.values = {number: array[left] for number, array in self.values.items()}
        self.places = [self.places[index] for index in left]


def reference_run(
    plan: Plan, rows: Sequence[Row], run_model: RunModel, stages: Mapping[str, StageFunction] | None = None
) -> list[dict[str, Any] | Refused]:
    """What each row gets. A row is a table of the inputs; `run_model` is given a model's name and its arrays.

    Rows of the same sizes share a batch. Nothing is padded: a lane that pads has to give the same.
    """
    answers: dict[int, dict[str, Any] | Refused] = {}
    alike: dict[tuple[tuple[int, ...], ...], dict[int, dict[int, Any]]] = {}
    for place, row in enumerate(rows):
        values = {number: row[name] for name, number in plan.inputs.items()}
        refused = _staged(plan.stages, values, stages or {})
        if refused is None:
            alike.setdefault(tuple(np.shape(values[number]) for number in plan.gathered), {})[place] = values
        else:
            answers[place] = refused
    for together in alike.values():
        answers |= _batch_run(plan, together, run_model)
    return [answers[place] for place in range(len(rows))]


def _batch_run(
    plan: Plan, rows: Mapping[int, Mapping[int, Any]], run_model: RunModel
) -> dict[int, dict[str, Any] | Refused]:
    answers: dict[int, dict[str, Any] | Refused] = {}
    batch = _Batch(plan, rows)
    for call in plan.batch:
        if not batch.places:
            break
        if isinstance(call, ModelCall):
            given = run_model(call.model, {name: batch.values[number] for name, number in call.inputs.items()})
            batch.values |= {number: given[name] for name, number in call.outputs.items()}
        else:
            refusals = _kernel_run(call, batch)
            answers |= refusals
            batch.without(refusals)
    for index, place in enumerate(batch.places):
        answers[place] = {
            name: rows[place][number] if plan.values[number].place == "row" else batch.values[number][index]
            for name, number in plan.outputs.items()
        }
    return answers


def _stacked(dtype: str, values: Sequence[Any]) -> Array:
    if dtype not in TEXTS:
        return np.stack(values)
    # As they were sent: NumPy's own texts lose zeros at their end.
    texts = np.empty(len(values), object)
    texts[:] = values
    return texts


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
