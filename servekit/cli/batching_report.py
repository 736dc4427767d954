"""What `servekit check` tells about a model's batches: the proof, the targets, and how long runs take."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from servekit.config.limits import Limits
from servekit.config.schema import ModelSettings
from servekit.snapshot import ModelFigures, Surface
from servekit.surfaces import busiest, knee_rows, predicted_s
from servekit.targets import Target, targets

_WIDTH = 10


def effective_targets(settings: ModelSettings, limits: Limits, figures: ModelFigures) -> list[Target]:
    """Targets as the server has them, with where each comes from."""
    expected = targets(settings, limits, figures["one_row_us"])
    return [
        target._replace(ms=held_ms)
        for target, held_ms in zip(expected, figures["targets_ms"] or [target.ms for target in expected], strict=False)
    ]


def as_json(figures: ModelFigures, found: Sequence[Target]) -> dict[str, Any]:
    """The same for machines."""
    keys = ("proof", "one_row_us", "surfaces", "mode", "priority_default", "intra_op", "warm_up", "profile")
    return {key: figures.get(key) for key in keys} | {"targets": [target._asdict() for target in found]}


def lines(figures: ModelFigures, found: Sequence[Target]) -> Iterator[str]:
    """One line for each thing that was decided."""
    proof = figures["proof"]
    if proof is not None:
        yield _line("proof", proof_text(figures))
        if not any(proof["why"] in reason for _, reason in figures["decisions"]):
            yield _line("", proof["why"])
    threads = f" on {figures['intra_op']} threads" if figures["intra_op"] > 1 else ""
    yield _line("lanes", f"{figures['lanes']}, each runs one batch at a time{threads}")
    told = {subject for subject, _ in figures["decisions"]}
    for subject, text in (("warm_up", figures["warm_up"]), ("profile", figures["profile"])):
        if text and subject not in told:
            yield _line(subject, text)
    if figures["mode"]:
        yield _line("mode", f"{figures['mode']}, requests that name no level have {figures['priority_default']}")
    for (held_ms, source), levels in groupby(found, key=lambda target: (target.ms, target.source)):
        numbers = [target.level for target in levels]
        said = f"level {numbers[0]}" if len(numbers) == 1 else f"levels {numbers[0]} to {numbers[-1]}"
        held = f"{held_ms:g} ms" if held_ms else "none"
        yield _line("target", f"{held} for {said} ({source})")


def proof_text(figures: ModelFigures) -> str:
    """The verdict, how far outputs were apart, and for how many rows it holds."""
    proof = figures["proof"]
    if proof is None:
        return "none yet"
    text = proof["verdict"]
    if proof["difference"] is not None and proof["tolerance"] is not None:
        text += f", difference {proof['difference']:.2g} of {proof['tolerance']:.2g} allowed"
    return text + (f", up to {proof['rows_proved']} rows" if proof["rows_proved"] else "")


def profile(figures: ModelFigures, found: Sequence[Target]) -> Iterator[str]:
    """The measured surface as a table."""
    surface = busiest(figures["surfaces"])
    if surface is None:
        yield "  no run was measured: made-up rows could not be run, or warm_up_seconds_max left no time for it"
        return
    target_s = found[0].ms / 1e3 if found else 0.0
    rows_max, lanes = figures["batch_rows_max"], figures["lanes"]
    knee = knee_rows(surface, rows_max, target_s, lanes)
    for measured in figures["surfaces"]:
        yield _line(
            "surface",
            f"{measured['class']}: {measured['base_ns'] / 1e3:.1f} µs a run + {measured['row_ns'] / 1e3:.2f} µs a row, "
            f"± {measured['spread']:.0%}, {measured['samples']} runs",
        )
    yield f"  {'rows':>8}  {'a run takes':>12}  {'rows a second':>14}   ({surface['class']})"
    for rows in sorted({*_steps(rows_max), *([knee] if knee else [])}):
        mark = "  knee" if rows == knee else ""
        yield f"  {rows:>8}  {_took(surface, rows):>12}  {_rate(surface, rows):>14}{mark}"
    if not knee:
        yield f"  not even one row meets {target_s * 1e3:g} ms after a wait for a lane"


def _steps(rows_max: int) -> Iterator[int]:
    rows = 1
    while rows < rows_max:
        yield rows
        rows *= 2
    yield rows_max


def _took(surface: Surface, rows: int) -> str:
    seconds = predicted_s(surface, rows)
    return f"{seconds * 1e3:.3f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} µs"


def _rate(surface: Surface, rows: int) -> str:
    seconds = predicted_s(surface, rows)
    return f"{rows / seconds:,.0f}" if seconds else "–"


def _line(subject: str, text: str) -> str:
    return f"  {subject:<{_WIDTH}} {text}"
