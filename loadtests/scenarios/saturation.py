"""As many requests as the server takes: it serves as many as with the best batch size that one could have set."""

from contextlib import ExitStack

from loadtests.scenarios.criteria import Criterion, Verdict
from loadtests.scenarios.rounds import Round, Rounds
from loadtests.scenarios.stage import AUTOMATIC_TARGET, NO_TARGET, Configuration, Place, loops, stage
from loadtests.scenarios.subjects import Subject

BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
# The same server started twice differs by a few per cent, by where its memory comes to lie: several are compared.
PAIRS = 4
THROUGHPUT_LEAST = 0.98
# Twice the largest batch, where so many are answered within half the target: who waits for longer is not served.
IN_FLIGHT_MAX = 2 * BATCH_ROWS[-1]
IN_FLIGHT_MIN = 8
TARGET_SHARE = 0.5


def saturation(place: Place, subject: Subject) -> Verdict:
    """Servers as they are installed, in turn with those of the best set batch size and without a target."""
    subject = subject.by_grpc()
    with ExitStack() as stages:
        fixed = {rows: stages.enter_context(stage(place, subject, of_size(rows))) for rows in BATCH_ROWS}
        with stage(place, subject, AUTOMATIC_TARGET) as installed:
            in_flight = loop_size(installed.bench.closed(IN_FLIGHT_MIN).steady_per_s, subject.settings.slo_ms)
        found = {rows: rival.bench.closed(in_flight).steady_per_s for rows, rival in fixed.items()}
    best = max(found, key=lambda rows: found[rows])
    played: list[Round] = []
    for _ in range(PAIRS):
        with stage(place, subject, of_size(best)) as rival, stage(place, subject, AUTOMATIC_TARGET) as installed:
            played += loops(place, rival, installed, in_flight).played
    compared = Rounds(played)
    steps = ", ".join(f"{rows}: {per_s:,.0f}" for rows, per_s in found.items())
    notes = [
        f"in loops of {in_flight}; requests/s by the batch size that is set: {steps}",
        f"{PAIRS} servers as installed against as many with batches of {best}, requests/s:",
        *compared.told(told),
    ]
    what = f"throughput over that of batches of {best}"
    criteria = [Criterion(what, compared.median(throughput_of), least=THROUGHPUT_LEAST)]
    return Verdict(criteria, notes=notes, lacking=compared.lacking)


def of_size(rows: int) -> Configuration:
    """Batches of so many rows and no target."""
    return {**NO_TARGET, "limits.batch_rows_max": rows}


def loop_size(served_per_s: float, target_ms: float) -> int:
    """A power of two, of which the last is answered in time if the server gets no faster with more."""
    size = IN_FLIGHT_MIN
    while 2 * size <= min(IN_FLIGHT_MAX, TARGET_SHARE * served_per_s * target_ms / 1e3):
        size *= 2
    return size


def throughput_of(one: Round) -> float:
    """Over that of the rival."""
    return one.run.steady_per_s / one.measure(lambda run: run.steady_per_s)


def told(one: Round) -> str:
    """A round in words."""
    return (
        f"{one.before.steady_per_s:,.1f} before, {one.after.steady_per_s:,.1f} after; "
        f"as installed {one.run.steady_per_s:,.1f}, {throughput_of(one):.3f} of it"
    )
