"""What a scenario has to reach, and what it did."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from servekit.bench.sweep import Run

Timeline = Sequence[Mapping[str, int]]
"""Requests by the window in which they were due: `Window` in `native/loadgen`."""


@dataclass(frozen=True)
class Recovered:
    """What counts as being well again: this share is good from then on, for this long."""

    share: float
    for_s: float


@dataclass(frozen=True)
class Criterion:
    """One figure and its bar."""

    what: str
    found: float
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool:
        """Within its bars."""
        return (self.least is None or self.found >= self.least) and (self.most is None or self.found <= self.most)

    def __str__(self) -> str:
        bars = [f"at least {self.least:.3f}"] if self.least is not None else []
        bars += [f"at most {self.most:.3f}"] if self.most is not None else []
        return f"{'PASS' if self.met else 'FAIL'}  {self.what}: {self.found:.3f}, {' and '.join(bars)}"


@dataclass(frozen=True)
class Verdict:
    """How a scenario ended."""

    criteria: Sequence[Criterion]
    runs: Sequence[Run] = field(default_factory=tuple)
    notes: Sequence[str] = ()
    lacking: Sequence[str] = ()
    """What is missing that would have to be judged."""

    @property
    def doubts(self) -> list[str]:
        """Why nothing can be judged: the generator was the limit."""
        reasons = [(run.rate or 0.0, reason) for run in self.runs for reason in run.outcome["invalid_because"]]
        return [*self.lacking, *(f"at {rate:,.0f}/s: {reason}" for rate, reason in reasons)]

    @property
    def passed(self) -> bool:
        """Everything was reached."""
        return all(criterion.met for criterion in self.criteria)


def stall_end_s(timeline: Timeline, window_s: float, stalled_s: float) -> float:
    """When a server went on that stood still for so long, on the clock of the run.

    It is the longest time that nothing was good; the first window of that was good only up to its beginning.
    """
    longest, first, since = 0, 0, 0
    for at, window in enumerate(timeline):
        if window["good"]:
            since = at + 1
        elif at + 1 - since > longest:
            longest, first = at + 1 - since, since
    before = timeline[first - 1] if first else {"offered": 0, "good": 0}
    missed = 1 - before["good"] / before["offered"] if before["offered"] else 0.0
    return (first - missed) * window_s + stalled_s


def recovery_s(timeline: Timeline, window_s: float, after_s: float, recovered: Recovered) -> float:
    """Seconds from `after_s` until as many as wanted are good for as long as wanted; for ever if that never comes."""
    windows = math.ceil(recovered.for_s / window_s)
    for at in range(math.ceil(after_s / window_s), len(timeline) - windows + 1):
        span = timeline[at : at + windows]
        offered = sum(window["offered"] for window in span)
        if offered and sum(window["good"] for window in span) >= recovered.share * offered:
            return at * window_s - after_s
    return math.inf
