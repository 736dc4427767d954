"""Which values of a batch can lie in the same memory, because no two of them are needed at once."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from servekit.pipelines.contracts import Shape
from servekit.pipelines.plan import Value


class Use(NamedTuple):
    """One call of the batch: the values that it reads, and those that it writes while it still reads."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def slots(values: Sequence[Value], calls: Sequence[Use], kept: Collection[int]) -> dict[int, int]:
    """A buffer for each value of the batch; what is `kept` is read when all calls are done, by the answers.

    What rows bring is there before the first call. A call's outputs never lie where its inputs do, and a value that
    nobody reads has a buffer as long as the call that writes it.
    """
    last = _last_uses(calls) | {number: len(calls) + 1 for number in kept if values[number].place == "batch"}
    gathered = tuple(number for number in sorted(last) if values[number].place == "row")
    assigned: dict[int, int] = {}
    free: dict[int, tuple[str, Shape]] = {}
    count = 0
    for time, begun in enumerate([gathered, *(call.outputs for call in calls)]):
        for number in begun:
            # Memory of just this size first: a buffer grows to the largest value that it ever holds.
            alike = [slot for slot, held in free.items() if held == _size(values[number])]
            slot = min(alike or free or [count])
            count = max(count, slot + 1)
            free.pop(slot, None)
            assigned[number] = slot
        free |= {assigned[number]: _size(values[number]) for number in assigned if last[number] == time}
    return assigned


def _size(value: Value) -> tuple[str, Shape]:
    return value.dtype, value.shape


def _last_uses(calls: Sequence[Use]) -> dict[int, int]:
    """The call, counted from 1, after which a value is not needed any more."""
    last: dict[int, int] = {}
    for time, call in enumerate(calls, 1):
        last |= dict.fromkeys((*call.inputs, *call.outputs), time)
    return last
