"""As many requests as the server takes: it serves as many as with the best batch size that one could have set."""

from contextlib import ExitStack

from loadtests.scenarios.criteria import Criterion, Verdict
from loadtests.scenarios.rounds import Round, Rounds, rounds
from loadtests.scenarios.stage import AUTOMATIC_TARGET, NO_TARGET, Place, Stage, stage
from loadtests.scenarios.subjects import Subject

BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
RIVALS = 2
THROUGHPUT_LEAST = 0.98
# Twice the largest batch, where so many are answered within half the target: who waits for longer is not served.
IN_FLIGHT_MAX = 2 * BATCH_ROWS[-1]
IN_FLIGHT_MIN = 8
TARGET_SHARE = 0.5


def saturation(place: Place, subject: Subject) -> Verdict:
    """A server as it is installed, in turn with the two best of those with a set batch size and without a target."""
    subject = subject.by_grpc()
    with ExitStack() as stages:
        fixed = {
            rows: stages.enter_context(stage(place, subject, {**NO_TARGET, "limits.batch_rows_max": rows}))
            for rows in BATCH_ROWS
        }
        installed = stages.enter_context(stage(place, subject, AUTOMATIC_TARGET))
        in_flight = loop_size(installed.bench.closed(IN_FLIGHT_MIN).steady_per_s, subject.settings.slo_ms)
        found = {rows: rival.bench.closed(in_flight).steady_per_s for rows, rival in fixed.items()}
        best = sorted(found, key=lambda rows: found[rows], reverse=True)[:RIVALS]
        played = {rows: against(place, fixed[rows], installed, in_flight) for rows in best}
    criteria = [
        Criterion(f"throughput over that of batches of {rows}", one.median(throughput_of), least=THROUGHPUT_LEAST)
        for rows, one in played.items()
    ]
    steps = ", ".join(f"{rows}: {per_s:,.0f}" for rows, per_s in found.items())
    notes = [f"in loops of {in_flight}; requests/s by the batch size that is set: {steps}"]
    for rows, one in played.items():
        notes += [f"against batches of {rows}, requests/s:", *one.told(told)]
    return Verdict(criteria, notes=notes, lacking=[doubt for one in played.values() for doubt in one.lacking])


def loop_size(served_per_s: float, target_ms: float) -> int:
    """A power of two, of which the last is answered in time if the server gets no faster with more."""
    size = IN_FLIGHT_MIN
    while 2 * size <= min(IN_FLIGHT_MAX, TARGET_SHARE * served_per_s * target_ms / 1e3):
        size *= 2
    return size


def against(place: Place, rival: Stage, installed: Stage, in_flight: int) -> Rounds:
    """Closed loops in turn."""
    return rounds(
        place.rounds,
        lambda: rival.bench.closed(in_flight, place.seconds),
        lambda _: installed.bench.closed(in_flight, place.seconds),
    )


def throughput_of(one: Round) -> float:
    """Over that of the rival."""
    return one.run.steady_per_s / one.measure(lambda run: run.steady_per_s)


def told(one: Round) -> str:
    """A round in words."""
    return (
        f"{one.before.steady_per_s:,.1f} before, {one.after.steady_per_s:,.1f} after; "
        f"as installed {one.run.steady_per_s:,.1f}, {throughput_of(one):.3f} of it"
    )
