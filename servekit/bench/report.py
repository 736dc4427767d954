"""What people read while a bench goes on and when it has ended."""

from collections.abc import Sequence
from typing import Any

from servekit.bench.sweep import Capacity, Run, knee, problems

_COLUMNS = (
    ("rate", 9),
    ("load", 6),
    ("offered/s", 10),
    ("good/s", 9),
    ("good", 8),
    ("p50", 8),
    ("p90", 8),
    ("p99", 8),
    ("p99.9", 8),
    ("served p99", 11),
    ("refused", 8),
    ("refusal", 8),
    ("late p99", 9),
    ("generator", 10),
    ("server µs", 10),
)


def heading(slo_ms: float) -> str:
    """The first two lines of the table."""
    about = f"times in ms from when a request was due; good: served within {slo_ms:g} ms; p50 to p99.9 of all offered"
    return about + "\n" + "".join(f"{name:>{width}}" for name, width in _COLUMNS)


def line(run: Run) -> str:
    """One run, and below it what went wrong."""
    outcome = run.outcome
    offered, refused = outcome["offered"], sum(outcome["refused"].values())
    cells = [
        "trace" if run.rate is None else f"{run.rate:,.0f}",
        "" if run.load is None else f"{run.load:.2f}",
        f"{outcome['offered_per_s']:,.0f}",
        f"{outcome['goodput_per_s']:,.0f}",
        f"{run.good_share:.2%}",
        *(_time(outcome["offered_ms"][name]) for name in ("p50", "p90", "p99", "p999")),
        _time(outcome["served_ms"]["p99"]),
        f"{refused / offered:.2%}" if offered else "",
        "" if outcome["refusal_ms"]["p50"] is None else _time(outcome["refusal_ms"]["p50"]),
        _time(outcome["late_ms"]["p99"]),
        f"{outcome['cpu_share']:.0%}",
        "" if run.server_cpu_us is None else f"{run.server_cpu_us:,.0f}",
    ]
    shown = "".join(f"{cell:>{width}}" for cell, (_, width) in zip(cells, _COLUMNS, strict=True))
    below = [f"  not valid: {reason}" for reason in outcome["invalid_because"]]
    if outcome["refused"] or outcome["failed"]:
        below.append(f"  not served: {problems(outcome)}")
    below += [
        f"  priority {one['level']}: {one['good'] / one['offered']:.2%} of {one['offered']} good, "
        f"p99 {_time(one['offered_ms']['p99'])}"
        for one in outcome["priorities"]
        if one["offered"]
    ]
    return "\n".join([shown, *below])


def ending(runs: Sequence[Run], capacity: Capacity | None) -> list[str]:
    """What the sweep as a whole says."""
    lines = []
    found = knee(runs)
    if found is not None and len(runs) > 1:
        share = f", {found / capacity.requests_per_s:.2f} of the capacity" if capacity else ""
        lines.append(f"knee: {found:,.0f} requests/s is the highest rate with 99 % of the requests good{share}")
    invalid = sum(not run.valid for run in runs)
    if invalid:
        lines.append(f"{invalid} of {len(runs)} runs not valid: the generator was the limit there, not the server")
    return lines


def capacity_line(capacity: Capacity) -> str:
    """How much the server can do, and how that is known."""
    if capacity.in_flight is None:
        return f"capacity {capacity.requests_per_s:,.0f} requests/s, as given"
    return f"capacity {capacity.requests_per_s:,.0f} requests/s, in a closed loop of {capacity.in_flight}"


def document(about: dict[str, Any], runs: Sequence[Run], capacity: Capacity | None) -> dict[str, Any]:
    """The bench for machines; times that never ended are null."""
    measured = None
    if capacity:
        measured = {
            "requests_per_s": capacity.requests_per_s,
            "in_flight": capacity.in_flight,
            "steps": [{"in_flight": in_flight, "requests_per_s": served} for in_flight, served in capacity.steps],
        }
    valid = all(run.valid for run in runs)
    return about | {
        "capacity": measured,
        "knee_requests_per_s": knee(runs),
        "valid": valid,
        "runs": [run.as_json() for run in runs],
    }


def _time(milliseconds: float | None) -> str:
    if milliseconds is None:
        return "∞"
    return f"{milliseconds:.2f}" if milliseconds < 100 else f"{milliseconds:,.0f}"
