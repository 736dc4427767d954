"""What a scenario has to reach, and what it did."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from servekit.bench.sweep import Run


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

    @property
    def doubts(self) -> list[str]:
        """Why nothing can be judged: the generator was the limit."""
        reasons = [(run.rate or 0.0, reason) for run in self.runs for reason in run.outcome["invalid_because"]]
        return [f"at {rate:,.0f}/s: {reason}" for rate, reason in reasons]

    @property
    def passed(self) -> bool:
        """Everything was reached."""
        return all(criterion.met for criterion in self.criteria)


def recovery_s(run: Run, window_s: float, after_s: float, share: float, windows: int) -> float:
    """Seconds from `after_s` of the part that counts until so many windows in a row were good; for ever if never."""
    timeline = run.outcome["timeline"]
    # The window in which it went on is not whole.
    first = int(after_s / window_s) + 1
    for at in range(first, len(timeline) - windows + 1):
        span = timeline[at : at + windows]
        offered = sum(window["offered"] for window in span)
        if offered and sum(window["good"] for window in span) >= share * offered:
            return max(0.0, at * window_s - after_s)
    return float("inf")
