"""Within which time a model answers, level by level, and who said so."""

from typing import NamedTuple

from servekit.config.limits import Limits
from servekit.config.schema import ModelSettings

AUTOMATIC_MS = 100.0
AUTOMATIC_ROWS = 5
"""A model that needs longer for one row gets this many times that."""


class Target(NamedTuple):
    """The target of one level of priority, 1 being the highest; 0 is none."""

    level: int
    ms: float
    source: str


def targets(settings: ModelSettings, limits: Limits, one_row_us: float | None) -> list[Target]:
    """One for each level. What is nearest to the level wins: its own target, the model's, the limit."""
    for chosen, source in (
        (settings.latency_target_ms, "models.latency_target_ms"),
        (limits.latency_target_ms, "limits.latency_target_ms"),
    ):
        if chosen is not None:
            otherwise = (float(chosen), source)
            break
    else:
        otherwise = _automatic(one_row_us)
    return [
        Target(level, float(settings.latency_targets_ms[level]), "models.latency_targets_ms")
        if level in settings.latency_targets_ms
        else Target(level, *otherwise)
        for level in range(1, limits.priority_levels_max + 1)
    ]


def _automatic(one_row_us: float | None) -> tuple[float, str]:
    if one_row_us is None:
        return AUTOMATIC_MS, "automatic: no row could be measured"
    by_row_ms = AUTOMATIC_ROWS * one_row_us / 1e3
    if by_row_ms > AUTOMATIC_MS:
        return (
            by_row_ms,
            f"automatic: {AUTOMATIC_ROWS} × one row's {one_row_us / 1e3:.1f} ms is more than {AUTOMATIC_MS:g}",
        )
    return AUTOMATIC_MS, f"automatic: {AUTOMATIC_ROWS} × one row's {one_row_us:.0f} µs is less"
