"""The meaning of a plan, in plain Python: what native lanes are compared with. Nothing is served this way."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from servekit.kernels import ports
from servekit.kernels.ports import ELEMENTS, Array
from servekit.pipelines.plan import BatchCall, Entries, KernelCall, ModelCall, Plan, StageCall, Value
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
        refusals = _call_run(plan, call, batch, run_model)
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


def _call_run(plan: Plan, call: BatchCall, batch: _Batch, run_model: RunModel) -> dict[int, Refused]:
    """Adds what the call gives to the batch; the rows that it refuses."""
    names = call.inputs if isinstance(call, ModelCall) else dict(zip(call.kernel.inputs, call.inputs, strict=True))
    arrays = {name: batch.values[number] for name, number in names.items()}
    places = np.array(batch.places)
    meant = None if call.each is None else _meant(call.each, batch, next(iter(arrays.values())).shape[1])
    if meant is not None:
        arrays = {name: array[meant] for name, array in arrays.items()}
        # Of the row that each entry is of.
        places = places[np.nonzero(meant)[0]]
    given: Mapping[int, Array] = {}
    refusals: dict[int, Refused] = {}
    if isinstance(call, KernelCall):
        ran = call.kernel.run(**arrays)
        given = dict(zip(call.outputs, ran.outputs.values(), strict=True))
        for index in np.flatnonzero(ran.faults):
            text = call.kernel.messages[ran.faults[index] - 1]
            refusals.setdefault(int(places[index]), Refused(call.step, text))
    elif len(places):
        found = run_model(call.model, arrays)
        given = {number: found[name] for name, number in call.outputs.items()}
    if meant is not None:
        given = {
            number: _spread(plan.values[number], given.get(number), meant, _sizes(plan, batch))
            for number in call.writes
        }
    batch.values |= given
    return refusals


def _meant(entries: Entries, batch: _Batch, count: int) -> Array:
    """Which entries of the rows mean something."""
    if entries.count is None:
        return np.ones((len(batch.places), count), bool)
    said = batch.values[entries.count].reshape(len(batch.places), 1)
    # Compared as they are: of unsigned numbers some do not fit a signed one.
    return np.arange(count, dtype=np.uint64) < np.where(said > 0, said, 0).astype(np.uint64)


def _sizes(plan: Plan, batch: _Batch) -> dict[str, int]:
    """What symbols and arithmetic stand for in the values that there are."""
    shapes = [(plan.values[number].shape, array.shape[1:]) for number, array in batch.values.items()]
    return {
        axis: size for shape, sizes in shapes for axis, size in zip(shape, sizes, strict=True) if isinstance(axis, str)
    }


def _spread(value: Value, found: Array | None, meant: Array, sizes: Mapping[str, int]) -> Array:
    """What was given for the entries that mean something, and zeros for the others."""
    if found is None:
        shape = [ports.size(sizes.get(str(axis), axis), sizes) for axis in value.shape[1:]]
        dtype = np.dtype(object) if value.dtype in TEXTS else ELEMENTS[value.dtype].numpy
        found = np.empty((0, *shape), dtype)
    spread = np.full((*meant.shape, *found.shape[1:]), b"" if value.dtype in TEXTS else 0, found.dtype)
    spread[meant] = found
    return spread
