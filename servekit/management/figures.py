"""Live figures for people: rates and percentiles of the last seconds, worked out from two snapshots."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from servekit.sizes import sized
from servekit.snapshot import ModelFigures, Snapshot

WINDOW_S = 10.0
STEP_S_MIN = 0.5
UNKNOWN = "–"


@dataclass(frozen=True)
class Sample:
    """Counters of one moment that only ever grow, for each model."""

    taken_at_s: float
    answered: dict[str, list[int]]
    rows: dict[str, int]
    runs: dict[str, int]


class Meter:
    """Remembers the samples of the window. One thread asks it; any number of viewers share what it remembers."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque()

    def figures(self, snapshot: Snapshot, now_s: float) -> dict[str, str]:
        """Every figure of the first page, by the name of the place where it stands."""
        newest = _sample(snapshot, now_s)
        oldest = self._remember(newest)
        server = snapshot["server"]
        figures = {
            "server/state": server["state"],
            "server/connections": f"{server['connections']:,}",
            "server/in_flight_requests": f"{server['in_flight_requests']:,}",
            "server/in_flight_bytes": sized(server["in_flight_bytes"]),
            "server/memory": f"{sized(server['memory']['resident_bytes'])} of {sized(server['memory']['limit_bytes'])}",
            "server/answered": f"{server['answered']:,}",
            "server/cancelled": f"{server['cancelled']:,}",
            "server/refusals": _tally(server["refusals"]),
            "server/connections_closed": _tally(server["connections_closed"]),
        }
        total_per_s: float | None = None
        for model in snapshot["models"]:
            rate = _rate(oldest, newest, key(model))
            total_per_s = total_per_s if rate is None else (total_per_s or 0.0) + rate
            figures.update(_model(model, oldest, newest, snapshot["bounds"]["seconds"]))
        return figures | {"server/requests_per_s": _per_second(total_per_s)}

    def _remember(self, newest: Sample) -> Sample:
        """Keeps the sample, and returns the one at the start of the window."""
        if not self._samples or newest.taken_at_s - self._samples[-1].taken_at_s >= STEP_S_MIN:
            self._samples.append(newest)
        while len(self._samples) > 1 and newest.taken_at_s - self._samples[1].taken_at_s >= WINDOW_S:
            self._samples.popleft()
        return self._samples[0]


def key(model: ModelFigures) -> str:
    """The place of a model's figures on the page."""
    return f"{model['name']}/{model['version']}"


def quantile_s(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """The time within which `share` of the requests were answered, evenly spread within a bucket; None without any."""
    total = sum(counts)
    if not total:
        return None
    wanted, below = share * total, 0
    for position, up_to in enumerate(accumulate(counts)):
        if up_to >= wanted and up_to > below:
            if position >= len(bounds):
                break
            lower = bounds[position - 1] if position else 0.0
            return lower + (bounds[position] - lower) * (wanted - below) / (up_to - below)
        below = up_to
    return bounds[-1] if bounds else None


def _sample(snapshot: Snapshot, now_s: float) -> Sample:
    models = snapshot["models"]
    return Sample(
        now_s,
        {key(model): _answered(model) for model in models},
        {key(model): model["rows"] for model in models},
        {key(model): model["runs"] for model in models},
    )


def _answered(model: ModelFigures) -> list[int]:
    """Bucket counts of all requests with a result."""
    counts = [requests["counts"] for requests in model["requests"] if requests["outcome"] == "ok"]
    return [sum(bucket) for bucket in zip(*counts, strict=True)]


def _model(model: ModelFigures, oldest: Sample, newest: Sample, bounds: Sequence[float]) -> dict[str, str]:
    of = key(model)
    counts = newest.answered[of]
    before = oldest.answered.get(of, [])
    recent = [now - then for now, then in zip(counts, before, strict=True)] if len(before) == len(counts) else counts
    shown = recent if sum(recent) else counts
    runs = newest.runs[of] - oldest.runs.get(of, 0)
    rows = newest.rows[of] - oldest.rows.get(of, 0)
    if runs <= 0:
        runs, rows = newest.runs[of], newest.rows[of]
    refusals: dict[str, int] = {}
    for requests in model["requests"]:
        if requests["outcome"] != "ok":
            refusals[requests["outcome"]] = refusals.get(requests["outcome"], 0) + sum(requests["counts"])
    return {
        f"{of}/requests_per_s": _per_second(_rate(oldest, newest, of)),
        f"{of}/p50": _time(quantile_s(shown, bounds, 0.50)),
        f"{of}/p99": _time(quantile_s(shown, bounds, 0.99)),
        f"{of}/batch_rows": f"{rows / runs:.1f}" if runs else UNKNOWN,
        f"{of}/queue": f"{sum(queue['queue_requests'] for queue in (model, *model['legs'])):,}",
        f"{of}/in_flight": f"{model['in_flight_requests']:,}",
        f"{of}/refusals": _tally(refusals),
    }


def _rate(oldest: Sample, newest: Sample, of: str) -> float | None:
    elapsed_s = newest.taken_at_s - oldest.taken_at_s
    if elapsed_s < STEP_S_MIN or of not in oldest.answered:
        return None
    return (sum(newest.answered[of]) - sum(oldest.answered[of])) / elapsed_s


def _per_second(rate: float | None) -> str:
    return UNKNOWN if rate is None else (f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return "0 µs"


def _tally(counts: dict[str, int]) -> str:
    parts = [f"{reason} {count:,}" for reason, count in sorted(counts.items()) if count]
    return ", ".join(parts) or "none"
