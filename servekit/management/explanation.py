"""Why a model's answers take as long as they do, for people: what is counted, in words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from servekit.anatomy import STAGES, slowest_s
from servekit.snapshot import Estimate, ModelFigures, QueueFigures, Surface
from servekit.surfaces import predicted_s

UNKNOWN = "–"

DISPATCH_MEANINGS: Mapping[str, str] = {
    "idle": "a lane was free, and this is what there was",
    "full": "no further row fitted",
    "window": "more rows would have made the most urgent one late",
    "held": "it was held for rows that were expected, and they came or time was up",
    "alone": "it may share its run with nobody",
}
SHED_MEANINGS: Mapping[str, str] = {
    "arrival": "refused as it arrived: its answer was predicted to come too late",
    "window": "given up in the queue: serving it would have made more of those behind it late",
    "miss": "given up in the queue: not even an immediate run would have answered it in time",
    "expired": "its deadline passed in the queue",
}


class Share(NamedTuple):
    """One reason of several: how often, and how much of all."""

    reason: str
    meaning: str
    times: int
    share: str


class Leg(NamedTuple):
    """One of the queues that a request goes through."""

    name: str
    waiting: str
    batch: str
    run: str
    room: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """What the page of a model shows beside its counters."""

    sentences: tuple[str, ...]
    advice: tuple[str, ...]
    dispatch: tuple[Share, ...]
    shed: tuple[Share, ...]
    targets: str
    waste: str
    estimate: Mapping[str, str]
    surfaces: tuple[Mapping[str, str], ...]
    anatomy: tuple[tuple[str, tuple[str, ...]], ...]
    legs: tuple[Leg, ...]


def explain(model: ModelFigures, why: str | None) -> Explanation:
    """Puts what was counted into words; `why` is what the native side concludes."""
    concluded = json.loads(why) if why else {}
    padding = model["padding"]
    elements = padding.get("useful", 0) + padding.get("padded", 0)
    estimate = model["estimate"]
    return Explanation(
        sentences=tuple(concluded.get("sentences", ())),
        advice=tuple(concluded.get("advice", ())),
        dispatch=_shares(model["dispatch"], DISPATCH_MEANINGS),
        shed=_shares(model["shed"], SHED_MEANINGS),
        targets=_targets(model["targets_ms"]),
        waste=f"{padding.get('padded', 0) / elements:.1%} of {elements:,} elements" if elements else "none",
        estimate={} if estimate is None else _estimate(estimate),
        surfaces=tuple(
            _surface(surface, model["batch_rows_max"])
            for surface in (model["surfaces"] if estimate is None else estimate["surfaces"])
        ),
        anatomy=tuple(
            (words, tuple(_time(spent_s[stage]) for stage in STAGES))
            for words, share in (("on average", 1.0), ("of the slowest hundredth", 0.01))
            if (spent_s := slowest_s(model["anatomy"], share))
        ),
        legs=_legs(model, {told["name"]: told["sentences"] for told in concluded.get("legs", ())}),
    )


def _legs(model: ModelFigures, concluded: Mapping[str, Sequence[str]]) -> tuple[Leg, ...]:
    if not model["legs"]:
        return ()
    return tuple(_leg(queue, concluded.get(queue["name"], ())) for queue in (model, *model["legs"]))


def _leg(queue: QueueFigures, sentences: Sequence[str]) -> Leg:
    runs, lanes = queue["runs"], queue["lanes"]
    return Leg(
        name=queue["name"],
        waiting=f"{queue['queue_requests']:,} with {queue['queue_rows']:,} rows",
        batch=f"{queue['rows'] / runs:.1f} rows" if runs else UNKNOWN,
        run=_time(queue["run"]["sum_s"] / runs) if runs else UNKNOWN,
        room=f"{queue['batch_rows_max']:,} rows, {lanes} {'lane' if lanes == 1 else 'lanes'}",
        sentences=tuple(sentences),
    )


def _shares(counts: Mapping[str, int], meanings: Mapping[str, str]) -> tuple[Share, ...]:
    total = sum(counts.values())
    found = sorted(((count, reason) for reason, count in counts.items() if count), reverse=True)
    return tuple(Share(reason, meanings.get(reason, ""), count, f"{count / total:.1%}") for count, reason in found)


def _targets(targets_ms: list[float]) -> str:
    """`50 ms for level 1, 100 ms for levels 2 to 8`."""
    parts = []
    for held_ms, levels in groupby(enumerate(targets_ms, 1), key=lambda entry: entry[1]):
        numbers = [level for level, _ in levels]
        said = f"level {numbers[0]}" if len(numbers) == 1 else f"levels {numbers[0]} to {numbers[-1]}"
        parts.append(f"{held_ms:g} ms for {said}" if held_ms else f"none for {said}")
    return ", ".join(parts) or "none"


def _estimate(estimate: Estimate) -> dict[str, str]:
    return {
        "Rows arriving per second": f"{estimate['rows_per_s']:,.0f}",
        "Rows servable per second": f"{estimate['capacity_rows_per_s']:,.0f}",
        "Best batch": f"{estimate['knee_rows']:,} rows" if estimate["knee_rows"] else UNKNOWN,
        "Lanes busy": f"{estimate['lanes_busy']} of {estimate['lanes']}",
        "Given up in the last second": f"{estimate['shed_share']:.1%}",
        "Hopeless requests are told": "as they arrive" if estimate["is_failing_fast"] else "as batches form",
    }


def _surface(surface: Surface, rows_max: int) -> dict[str, str]:
    return {
        "of": surface["class"],
        "base": _time(surface["base_ns"] / 1e9),
        "row": _time(surface["row_ns"] / 1e9),
        "one": _time(predicted_s(surface, 1)),
        "full": _time(predicted_s(surface, max(1, rows_max))),
        "spread": f"± {surface['spread']:.0%}",
        "runs": f"{surface['samples']:,}",
    }


def _time(seconds: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1e9:.0f} ns"
