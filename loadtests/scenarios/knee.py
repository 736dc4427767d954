"""The knee that the simulator predicts from what the server has learned, beside the one that is measured."""

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests.scenarios.criteria import Criterion, Verdict
from loadtests.scenarios.stage import Place, stage
from loadtests.scenarios.subjects import Subject
from servekit.bench.sweep import GOOD_SHARE_MIN, Bench, Run
from servekit.snapshot import Surface
from servekit.surfaces import knee_rows, predicted_s

BATCH_ROWS_MAX = 64
IN_FLIGHT = 2 * BATCH_ROWS_MAX
# Between these multiples of the capacity it is sought, in so many halves.
SPAN = (0.5, 1.2)
HALVES = 6
ATTEMPTS = 3
# Of the simulated runs: with few, a rate above the capacity seems good before its queue has grown.
REQUESTS_LEAST = 12_000
REQUESTS_MOST = 500_000
GAP_MOST = 0.05
SIMULATED_KNEE = re.compile(r"\*\*Slackline\*\* auto \| (?P<rows_per_s>[\d.]+) \|")


@dataclass(frozen=True)
class Line:
    """How long a run takes, as the simulator wants it."""

    base_s: float
    row_s: float


def knee(place: Place, subject: Subject) -> Verdict:
    """The highest rate of which 99 % are answered in time: on the virtual clock, and on this machine."""
    subject = subject.by_grpc()
    folder = place.folder / "profiles"
    with stage(place, subject, {"batching.profiles": folder, "limits.batch_rows_max": BATCH_ROWS_MAX}) as played:
        loop = played.bench.closed(IN_FLIGHT, place.seconds)
        measured, runs = sought(played.bench, loop.steady_per_s)
    surface, target_ms = learned(folder), subject.settings.slo_ms
    line, rows = line_of(surface, target_ms / 1e3)
    cost_s = (loop.server_cpu_s or 0.0) / max(loop.outcome["answered_total"], 1)
    beside_s = max(cost_s - predicted_s(surface, rows) / rows, 0.0)
    requests = round(loop.steady_per_s * place.seconds)
    bare = simulated(line, target_ms, requests)
    whole = simulated(replace(line, row_s=line.row_s + beside_s), target_ms, requests)
    criteria = [
        Criterion(
            "measured knee over the simulated one, the data plane counted",
            measured / whole,
            least=1 - GAP_MOST,
            most=1 + GAP_MOST,
        )
    ]
    notes = [
        f"capacity {loop.steady_per_s:,.0f}/s in a loop of {IN_FLIGHT}; learned from {surface['samples']} runs:",
        f"{line.base_s * 1e6:,.1f} µs + {line.row_s * 1e6:,.2f} µs a row, right for 1 and {rows} rows",
        f"scatter of runs {surface['spread']:.1%} (simulated: 8 %, and one in 500 takes three times as long)",
        f"simulated knee {bare:,.0f}/s from the runs alone, measured {measured:,.0f}/s, {measured / bare:.3f} of it",
        f"data plane {beside_s * 1e6:,.1f} µs a request beside its run; simulated knee with it {whole:,.0f}/s",
    ]
    return Verdict(criteria, runs, notes, [] if measured else ["no rate was found at which 99 % were good"])


def sought(bench: Bench, capacity_per_s: float) -> tuple[float, list[Run]]:
    """The highest rate that is good enough, and the runs that say so."""
    (low, high), runs = SPAN, []
    found = 0.0
    for _ in range(HALVES):
        load = (low + high) / 2
        run = tried(bench, load * capacity_per_s, load)
        runs.append(run)
        if run.good_share >= GOOD_SHARE_MIN:
            low, found = load, load * capacity_per_s
        else:
            high = load
    return found, runs


def tried(bench: Bench, rate: float, load: float) -> Run:
    """A run in which the generator kept up, if it ever does."""
    for _ in range(ATTEMPTS):
        run = bench.run(rate, load)
        if run.valid:
            break
    return run


def learned(folder: Path) -> Surface:
    """What the server kept as it ended: the model's own surface."""
    files = list(folder.glob("*.json"))
    if len(files) != 1:
        message = f"{len(files)} profiles were kept, 1 was expected: the server has seen too few runs; raise --seconds"
        raise RuntimeError(message)
    surface: Surface = json.loads(files[0].read_text())["payload"]["surfaces"][0]["surface"]
    return surface


def line_of(surface: Surface, target_s: float) -> tuple[Line, int]:
    """The line that is right for one row and for the batch that pays best, and the rows of that."""
    rows = max(knee_rows(surface, BATCH_ROWS_MAX, target_s, 1), 2)
    one_s, many_s = predicted_s(surface, 1), predicted_s(surface, rows)
    row_s = max((many_s - one_s) / (rows - 1), 1e-9)
    return Line(max(one_s - row_s, 1e-9), row_s), rows


def simulated(line: Line, target_ms: float, requests: int) -> float:
    """The knee on the virtual clock, in requests of one row a second, from runs of about so many requests."""
    from servekit import _native

    base_us, row_us = line.base_s * 1e6, line.row_s * 1e6
    model = f"base_us={base_us:.4f},row_us={row_us:.4f},target_ms={target_ms:g},rows_max={BATCH_ROWS_MAX}"
    count = str(min(max(requests, REQUESTS_LEAST), REQUESTS_MOST))
    found = SIMULATED_KNEE.search(_native.simulate(["--only", "knee", "--requests", count, "--model", model]))
    return float(found["rows_per_s"]) if found else math.nan
