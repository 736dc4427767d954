"""One client who waits for each answer: there is nothing to batch, and batching costs nothing."""

import math

from loadtests.scenarios.criteria import Criterion, Verdict
from loadtests.scenarios.rounds import Round, Rounds
from loadtests.scenarios.stage import AUTOMATIC_TARGET, NO_TARGET, Configuration, Place, loops, stage
from loadtests.scenarios.subjects import MLP, TINY, Subject
from servekit.bench.sweep import Run

LATENCY_MOST = 1.03
NO_BATCHING: Configuration = {**NO_TARGET, "limits.batch_rows_max": 1, "batching.trust_batching": "true"}


def lone(place: Place) -> Verdict:
    """A server as it is installed, in turn with one that does not batch at all."""
    played = {subject.model: alone(place, subject) for subject in (TINY, MLP)}
    criteria = [
        Criterion(f"median latency of {model} over that without batching", one.median(latency_of), most=LATENCY_MOST)
        for model, one in played.items()
    ]
    notes: list[str] = []
    for model, one in played.items():
        notes += [f"{model}, median latency in µs, without batching and as installed:", *one.told(told)]
    return Verdict(criteria, notes=notes, lacking=[doubt for one in played.values() for doubt in one.lacking])


def alone(place: Place, subject: Subject) -> Rounds:
    """Closed loops of one."""
    with stage(place, subject, NO_BATCHING) as single, stage(place, subject, AUTOMATIC_TARGET) as installed:
        return loops(place, single, installed, 1)


def median_us(run: Run) -> float:
    """Of those served."""
    median_ms = run.outcome["served_ms"]["p50"]
    return math.inf if median_ms is None else float(median_ms) * 1e3


def latency_of(one: Round) -> float:
    """Over that without batching."""
    return median_us(one.run) / one.measure(median_us)


def told(one: Round) -> str:
    """A round in words."""
    before_us, after_us, run_us = (median_us(run) for run in (one.before, one.after, one.run))
    return f"{before_us:,.1f} before, {after_us:,.1f} after; as installed {run_us:,.1f}, {latency_of(one):.3f} of it"
