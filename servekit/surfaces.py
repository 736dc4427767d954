"""What a measured surface says: how long a run of so many rows takes, and how many rows pay best."""

from collections.abc import Sequence

from servekit.snapshot import Surface


def predicted_s(surface: Surface, rows: int) -> float:
    """How long a run of so many rows is expected to take."""
    corrections = surface["corrections"]
    correction = corrections[min(rows, len(corrections)) - 1] if corrections else 1.0
    return (surface["base_ns"] + surface["row_ns"] * rows) * correction / 1e9


def busiest(surfaces: Sequence[Surface]) -> Surface | None:
    """The one that most runs were seen of; the model as a whole where it is among them."""
    return max(surfaces, key=lambda surface: surface["samples"], default=None)


def knee_rows(surface: Surface, rows_max: int, target_s: float, lanes: int) -> int:
    """Rows of a run that serve the most rows a second and still meet the target after a wait for a lane.

    A target of 0 bounds nothing. 0 where not even one row meets it.
    """
    waits = 1 + 1 / max(1, lanes)
    meeting = [
        rows for rows in range(1, rows_max + 1) if not target_s or predicted_s(surface, rows) * waits <= target_s
    ]
    return max(meeting, key=lambda rows: rows / predicted_s(surface, rows), default=0)
