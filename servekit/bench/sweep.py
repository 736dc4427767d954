"""Runs at one rate after the other, against a capacity that was measured before them."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servekit.bench.encoding import Body
from servekit.bench.settings import Settings
from servekit.bench.target import Target
from servekit.errors import BindError, ConfigError, native_errors

IN_FLIGHT_FIRST = 8
# Batches of a model may pay only once there are many.
IN_FLIGHT_LEAST = 64
IN_FLIGHT_MAX = 512
LOOP_SECONDS = 2.0
# A slow model needs longer loops: so often each of those in flight is answered, while the best number is sought and
# once it is known; no loop is longer than the most.
TURNS_SOUGHT = 4.0
TURNS_KEPT = 30.0
LOOP_SECONDS_MAX = 10.0
LOOP_WINDOWS = 1_000
# Twice as many on their way have to bring this much more, or there is no more to be had.
GAIN_MIN = 1.05
GOOD_SHARE_MIN = 0.99
"""The knee is the highest rate at which this share of what was offered was good."""

Outcome = dict[str, Any]
"""One run as the native side told it: the fields of `Outcome` in `native/loadgen`."""


@dataclass(frozen=True)
class Run:
    """One rate and what it gave."""

    rate: float | None
    """None: a trace at its own speed."""
    load: float | None
    """The rate as a multiple of the capacity, where that is known."""
    outcome: Outcome
    server_cpu_s: float | None
    """Processor time of the server meanwhile, the warm-up too; None where nobody asked."""

    @property
    def valid(self) -> bool:
        """False where the generator was the limit."""
        return bool(self.outcome["valid"])

    @property
    def good_share(self) -> float:
        """Good answers among all that were offered and not cancelled."""
        expected = self.outcome["offered"] - self.outcome["cancelled"]
        return float(self.outcome["good"] / expected) if expected else 0.0

    @property
    def steady_per_s(self) -> float:
        """Served per second of a closed loop, whatever burst its ends cut off."""
        served = [window["ok"] for window in self.outcome["timeline"]]
        return steady_rate(served, self.outcome["seconds"] / LOOP_WINDOWS)

    @property
    def server_cpu_us(self) -> float | None:
        """Processor time of the server for each request that it served."""
        served = self.outcome["ok_total"]
        return None if self.server_cpu_s is None or not served else self.server_cpu_s * 1e6 / served

    def as_json(self) -> dict[str, Any]:
        """The run for machines."""
        about = {"rate": self.rate, "load": self.load, "good_share": self.good_share}
        return about | {"server_cpu_us_per_request": self.server_cpu_us} | self.outcome


@dataclass(frozen=True)
class Capacity:
    """What the server serves at most, and with how many requests on their way."""

    requests_per_s: float
    in_flight: int | None = None
    """None: the caller said it."""
    steps: tuple[tuple[int, float], ...] = ()
    """What each number in flight gave."""


@dataclass(frozen=True)
class Bench:
    """Bodies, ready to be sent to a model."""

    target: Target
    bodies: Sequence[Body]
    settings: Settings
    server_pid: int | None = None

    def run(self, rate: float | None, load: float | None = None) -> Run:
        """One rate."""
        return self._watched(self.settings.open_plan(rate), rate, load)

    def closed(self, in_flight: int, seconds: float = LOOP_SECONDS) -> Run:
        """A closed loop of so many requests."""
        plan = self.settings.closed_plan(in_flight, seconds) | {"window_ms": seconds * 1e3 / LOOP_WINDOWS}
        return self._watched(plan, None, None)

    def capacity(self, in_flight: int | None = None) -> Capacity:
        """Closed loops of more and more requests until more bring no more, or of the number that is given.

        What is answered later than the objective is of no use: a loop in which a turn takes longer shows no capacity,
        however well its large batches run. The best of several noisy figures is too high, so the number that gave it is
        measured once more, and longer.
        """
        steps = self._climb() if in_flight is None else [(in_flight, self._served(in_flight, LOOP_SECONDS))]
        in_time = [(number, served) for number, served in steps if number <= served * self.settings.slo_ms / 1e3]
        best, served = max(in_time or steps[:1], key=lambda step: step[1])
        served = self._served(best, seconds_of(TURNS_KEPT, best, served, 2 * LOOP_SECONDS))
        return Capacity(served, best, tuple(steps))

    def sweep(self, rates: Sequence[float], capacity: Capacity | None) -> Iterator[Run]:
        """One run for each rate, told as it ends."""
        for rate in rates:
            yield self.run(rate, rate / capacity.requests_per_s if capacity else None)

    def _climb(self) -> list[tuple[int, float]]:
        steps: list[tuple[int, float]] = []
        wanted, seconds = IN_FLIGHT_FIRST, LOOP_SECONDS
        while wanted <= IN_FLIGHT_MAX:
            steps.append((wanted, self._served(wanted, seconds)))
            before = [served for _, served in steps[:-2]]
            if wanted >= IN_FLIGHT_LEAST and max(served for _, served in steps[-2:]) < GAIN_MIN * max(before):
                break
            wanted *= 2
            seconds = seconds_of(TURNS_SOUGHT, wanted, steps[-1][1], LOOP_SECONDS)
        return steps

    def _served(self, in_flight: int, seconds: float) -> float:
        run = self.closed(in_flight, seconds)
        if not run.outcome["ok"]:
            message = f"no request of a closed loop of {in_flight} was served: {problems(run.outcome)}"
            raise BindError(message)
        return run.steady_per_s

    def _watched(self, plan: dict[str, Any], rate: float | None, load: float | None) -> Run:
        before_s = self._server_cpu_s()
        outcome = self._carry_out(plan)
        after_s = self._server_cpu_s()
        used_s = None if before_s is None or after_s is None else after_s - before_s
        return Run(rate, load, outcome, used_s)

    def _carry_out(self, plan: dict[str, Any]) -> Outcome:
        from servekit import _native

        described = [
            {"content_type": body.content_type, "json_bytes": body.json_bytes, "weight": body.weight}
            for body in self.bodies
        ]
        whole = plan | {"target": self.target.asked(self.settings.protocol), "bodies": described}
        with native_errors():
            outcome: Outcome = json.loads(_native.bench(json.dumps(whole), [body.content for body in self.bodies]))
        return outcome

    def _server_cpu_s(self) -> float | None:
        if self.server_pid is None:
            return None
        try:
            stat = Path(f"/proc/{self.server_pid}/stat").read_text()
        except OSError:
            message = f"--server-pid {self.server_pid}: no such process"
            raise ConfigError(message) from None
        # The name before these may hold anything but the last parenthesis.
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def steady_rate(counts: Sequence[int], window_s: float) -> float:
    """Events per second, from how many fell into each of equal windows.

    The slope of the least-squares line through the time and the rank of every event; those of one window share the mean
    of their ranks. Over the whole time instead, events that come in bursts, as the answers of a large batch do, are too
    many or too few by up to a burst, depending on where the ends of the time cut.
    """
    total = sum(counts)
    if not total:
        return 0.0
    events = [(at * window_s, count) for at, count in enumerate(counts) if count]
    time_mean_s = sum(at_s * count for at_s, count in events) / total
    rank_mean = (total + 1) / 2
    variance = covariance = before = 0.0
    for at_s, count in events:
        away_s, rank = at_s - time_mean_s, before + (count + 1) / 2
        variance += count * away_s**2
        covariance += count * away_s * (rank - rank_mean)
        before += count
    return covariance / variance if variance else total / (window_s * len(counts))


def seconds_of(turns: float, in_flight: int, served_per_s: float, least_s: float) -> float:
    """How long a closed loop takes to answer each of those in flight so often, in whole tenths and within bounds."""
    wanted_s = math.ceil(10 * turns * in_flight / served_per_s) / 10
    return min(max(least_s, wanted_s), LOOP_SECONDS_MAX)


def problems(outcome: Outcome) -> str:
    """What went wrong with requests, in words: counts by status and reason, and the first text of each."""
    texts = outcome["refusal_texts"]
    told = [f"{count} x {status} {texts.get(status, '')}".rstrip() for status, count in outcome["refused"].items()]
    return "; ".join(told + [f"{count} x {reason}" for reason, count in outcome["failed"].items()]) or "nothing"


def knee(runs: Sequence[Run]) -> float | None:
    """The highest rate up to which all valid runs were good enough."""
    highest = None
    for run in sorted((run for run in runs if run.rate is not None), key=lambda run: run.rate or 0.0):
        if not run.valid:
            continue
        if run.good_share < GOOD_SHARE_MIN:
            break
        highest = run.rate
    return highest


def numbers(text: str, name: str) -> list[float]:
    """`100,200,400`, or `A..B` in eight steps, or `A..B:STEPS`."""
    message = f"{name} {text!r}: numbers above 0 are allowed, as 100,200 or 0.1..2.0 or 0.1..2.0:5"
    try:
        if ".." in text:
            span, _, steps = text.partition(":")
            first, last = (float(bound) for bound in span.split(".."))
            count = int(steps or 8)
            found = [first + (last - first) * at / max(count - 1, 1) for at in range(count)]
        else:
            found = [float(number) for number in text.split(",")]
    except ValueError:
        raise ConfigError(message) from None
    if not found or not all(0 < number < float("inf") for number in found):
        raise ConfigError(message)
    return found
