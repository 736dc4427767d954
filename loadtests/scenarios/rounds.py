"""Runs in turn with what they are measured by, so that both see the machine as it is at that moment."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from servekit.bench.sweep import Run

JUDGED_LEAST = 3


@dataclass(frozen=True)
class Round:
    """A run between two of what it is measured by."""

    before: Run
    run: Run
    after: Run

    @property
    def doubts(self) -> list[str]:
        """Why it says nothing: the generator was the limit."""
        return [reason for run in (self.before, self.run, self.after) for reason in run.outcome["invalid_because"]]

    def measure(self, figure: Callable[[Run], float]) -> float:
        """A figure of what it is measured by, in the middle of the round."""
        return (figure(self.before) + figure(self.after)) / 2


@dataclass(frozen=True)
class Rounds:
    """All of them, and those that can be judged."""

    played: Sequence[Round]

    @property
    def judged(self) -> list[Round]:
        """Those in which the generator kept up."""
        return [one for one in self.played if not one.doubts]

    @property
    def measures(self) -> list[Run]:
        """The runs that others are measured by."""
        return [one.before for one in self.played] + [one.after for one in self.played[-1:]]

    @property
    def lacking(self) -> list[str]:
        """Why there is nothing to be judged."""
        count = len(self.judged)
        if count >= JUDGED_LEAST:
            return []
        return [f"in {count} of {len(self.played)} rounds the generator kept up, {JUDGED_LEAST} are needed"]

    def median(self, figure: Callable[[Round], float]) -> float:
        """Of the rounds that can be judged; no number where there is none."""
        return median(figure(one) for one in self.judged) if self.judged else math.nan

    def told(self, show: Callable[[Round], str]) -> list[str]:
        """A line for each round."""
        lines = []
        for number, one in enumerate(self.played, 1):
            doubts = f"; not judged: {'; '.join(one.doubts)}" if one.doubts else ""
            lines.append(f"round {number}: {show(one)}{doubts}")
        return lines


def rounds(count: int, measure: Callable[[], Run], play: Callable[[Run], Run]) -> Rounds:
    """Measures, plays, measures, plays, …, measures; what is played is told the run before it."""
    played: list[Round] = []
    before = measure()
    for _ in range(count):
        run = play(before)
        after = measure()
        played.append(Round(before, run, after))
        before = after
    return Rounds(played)
