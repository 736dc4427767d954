"""Twice the capacity: who can be answered in time is, and the others hear soon that they will not be."""

import math
from dataclasses import replace

from loadtests.scenarios.criteria import Criterion, Verdict
from loadtests.scenarios.rounds import Round, rounds
from loadtests.scenarios.stage import NO_TARGET, Place, Stage, stage
from loadtests.scenarios.subjects import Subject
from servekit.bench import report
from servekit.bench.sweep import Bench, Run

OVERLOAD = 2.0
# Goodput at twice the capacity, as a share of what is left of it once every refusal is paid for.
OVERLOAD_LEAST = 0.97
GREEDY_MOST = 0.2
REFUSAL_OF_TARGET_MOST = 0.1
REFUSAL_SECONDS = 2.0


def overload(place: Place, subject: Subject) -> Verdict:
    """A server with a target under twice the capacity, which one without a target shows just before and just after.

    The capacity is what a loop of callers gets who are never refused.
    """
    subject = subject.by_grpc()
    refusals: list[Run] = []
    with stage(place, subject, NO_TARGET) as free, stage(place, subject) as held:
        in_flight = free.bench.capacity().in_flight or 1

        def play(before: Run) -> Run:
            refusals.append(refused(free, in_flight))
            return flooded(held, before.steady_per_s)

        played = rounds(place.rounds, lambda: free.bench.closed(in_flight, place.seconds), play)
        capacity = played.median(capacity_of)
        if not played.judged:
            return Verdict([], notes=played.told(told), lacking=played.lacking)
        greedy = flooded(free, capacity)
    with stage(place, subject, {"batching.mode": "fail_fast"}) as failing:
        fast = flooded(failing, capacity)
    cost_s, refusal_s = cost_of(played.measures), cost_of(refusals)
    refusal_ms = fast.outcome["refusal_ms"]["p50"]
    criteria = [
        Criterion(
            "goodput at twice the capacity over the capacity",
            played.median(goodput_of),
            least=OVERLOAD_LEAST * attainable(cost_s, refusal_s),
        ),
        Criterion("the same without a target", greedy.outcome["goodput_per_s"] / capacity, most=GREEDY_MOST),
        Criterion(
            "median refusal in mode fail_fast over the target",
            math.inf if refusal_ms is None else refusal_ms / subject.settings.slo_ms,
            most=REFUSAL_OF_TARGET_MOST,
        ),
    ]
    costs = f"an answer costs {cost_s * 1e6:,.0f} µs of processor time, a refusal {refusal_s * 1e6:,.1f}"
    notes = [
        f"capacity {capacity:,.1f}/s in a loop of {in_flight}; {costs}",
        *played.told(told),
        "the rounds, then without a target, then in mode fail_fast:",
        report.heading(subject.settings.slo_ms).splitlines()[1],
        *(report.line(run) for run in (*(one.run for one in played.played), greedy)),
    ]
    return Verdict(criteria, [fast], notes, played.lacking)


def flooded(played: Stage, capacity_per_s: float) -> Run:
    """Twice as many as it can serve."""
    return played.bench.run(OVERLOAD * capacity_per_s, OVERLOAD)


def capacity_of(one: Round) -> float:
    """In the middle of a round."""
    return one.measure(lambda run: run.steady_per_s)


def goodput_of(one: Round) -> float:
    """As a share of the capacity."""
    return float(one.run.outcome["goodput_per_s"]) / capacity_of(one)


def told(one: Round) -> str:
    """A round in words."""
    return (
        f"capacity {one.before.steady_per_s:,.1f}/s before, {one.after.steady_per_s:,.1f} after; "
        f"goodput {one.run.outcome['goodput_per_s']:,.1f}/s is {goodput_of(one):.3f} of it"
    )


def attainable(cost_s: float, refusal_s: float) -> float:
    """The most that can be served at twice the capacity, as a share of it, where every refusal is paid for too."""
    # Where refusals alone fill the processor, nothing is left to serve.
    ratio = min(refusal_s / cost_s, 1 / OVERLOAD) if cost_s else 0.0
    return (1 - OVERLOAD * ratio) / (1 - ratio)


def cost_of(runs: list[Run]) -> float:
    """Processor time of the server for each of their answers, of whatever status."""
    answered: int = sum(run.outcome["answered_total"] for run in runs)
    return sum(run.server_cpu_s or 0.0 for run in runs) / max(answered, 1)


def refused(played: Stage, in_flight: int) -> Run:
    """A busy server refuses all as they arrive: requests for a model that is not there."""
    bench = played.bench
    name = bench.target.model
    absent = "x" * len(name)
    # Over gRPC the name stands in front of the message.
    made = [replace(body, content=body.content.replace(name.encode(), absent.encode(), 1)) for body in bench.bodies]
    absent_bench = Bench(replace(bench.target, model=absent), made, bench.settings, bench.server_pid)
    return absent_bench.closed(in_flight, REFUSAL_SECONDS)
