"""Where the time of requests goes: stages, added up over what was counted."""

from collections.abc import Iterable, Mapping

from servekit.snapshot import Anatomy

STAGES = ("queue", "input", "run", "output", "rest")
"""Waiting, gathering inputs, the run, cutting outputs, and everything else: reading, decoding, writing."""


def totals_s(anatomy: Iterable[Anatomy]) -> dict[str, float]:
    """Seconds spent in each stage; empty where no request had a result."""
    entries = list(anatomy)
    found = dict.fromkeys(STAGES, 0.0) if entries else {}
    for entry in entries:
        for stage, times in _times(entry).items():
            found[stage] += sum(times)
    return found


def slowest_s(anatomy: Iterable[Anatomy], share: float) -> dict[str, float]:
    """Seconds that one of the slowest requests spends in each stage, on average; empty without any.

    As counts are kept by bucket, the slowest are those of the last buckets that hold this share of all or more.
    """
    entries = list(anatomy)
    counts = [sum(bucket) for bucket in zip(*(entry["counts"] for entry in entries), strict=True)]
    wanted, taken, first = share * sum(counts), 0, len(counts)
    while first and (taken < wanted or not taken):
        first -= 1
        taken += counts[first]
    if not taken:
        return {}
    found = dict.fromkeys(STAGES, 0.0)
    for entry in entries:
        for stage, times in _times(entry).items():
            found[stage] += sum(times[first:])
    return {stage: seconds / taken for stage, seconds in found.items()}


def _times(entry: Anatomy) -> Mapping[str, list[float]]:
    return {
        "queue": entry["queue_s"],
        "input": entry["input_s"],
        "run": entry["run_s"],
        "output": entry["output_s"],
        "rest": entry["rest_s"],
    }
