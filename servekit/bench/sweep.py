"""Runs at one rate after the other, against a capacity that was measured before them."""

import json
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
CAPACITY_SECONDS = 2.0
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

    def closed(self, in_flight: int, seconds: float = CAPACITY_SECONDS) -> Run:
        """A closed loop of so many requests."""
        return self._watched(self.settings.closed_plan(in_flight, seconds), None, None)

    def capacity(self, in_flight: int | None = None) -> Capacity:
        """Measures closed loops of more and more requests until more bring no more; or the one that is given."""
        if in_flight is not None:
            served = self._served(in_flight)
            return Capacity(served, in_flight, ((in_flight, served),))
        steps: list[tuple[int, float]] = []
        wanted = IN_FLIGHT_FIRST
        while wanted <= IN_FLIGHT_MAX:
            steps.append((wanted, self._served(wanted)))
            before = [served for _, served in steps[:-2]]
            if wanted >= IN_FLIGHT_LEAST and max(served for _, served in steps[-2:]) < GAIN_MIN * max(before):
                break
            wanted *= 2
        best, served = max(steps, key=lambda step: step[1])
        return Capacity(served, best, tuple(steps))

    def sweep(self, rates: Sequence[float], capacity: Capacity | None) -> Iterator[Run]:
        """One run for each rate, told as it ends."""
        for rate in rates:
            yield self.run(rate, rate / capacity.requests_per_s if capacity else None)

    def _served(self, in_flight: int) -> float:
        outcome = self.closed(in_flight).outcome
        if not outcome["ok"]:
            message = f"no request of a closed loop of {in_flight} was served: {problems(outcome)}"
            raise BindError(message)
        return float(outcome["served_per_s"])

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
