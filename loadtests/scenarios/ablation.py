"""What each choice of the configuration is worth, on the real server: a table without a bar."""

from pathlib import Path

from loadtests.scenarios.criteria import Verdict
from loadtests.scenarios.overload import flooded
from loadtests.scenarios.stage import NO_TARGET, Configuration, Place, Stage, stage
from loadtests.scenarios.subjects import Subject
from servekit.bench.sweep import Run

BUSY = 0.9
IN_FLIGHT = 128
FIRST_SECONDS = 1.0
COLUMNS = ("capacity/s", "good, 1st s", "good at 0.9", "p99 ms", "goodput at 2", "refusal ms")
WIDTHS = (38, *(14 for _ in COLUMNS))


def choices(profiles: Path) -> dict[str, Configuration]:
    """What is compared. Without more, the target is the objective."""
    return {
        "as installed, target 50 ms": {},
        "mode late": {"batching.mode": "late"},
        "mode fail_fast": {"batching.mode": "fail_fast"},
        "target 25 ms": {"limits.latency_target_ms": 25},
        "no target": NO_TARGET,
        "no egress reserve": {"batching.egress_reserve_us": 0},
        "egress reserve 2 ms": {"batching.egress_reserve_us": 2_000},
        "no warm-up": {"batching.warm_up_seconds_max": 0},
        "warm-up, profile of an earlier start": {"batching.profiles": profiles},
    }


def ablation(place: Place, subject: Subject) -> Verdict:
    """Each choice just after a loop that shows the capacity: the first second of its life, then 0.9 and twice that."""
    subject = subject.by_grpc()
    profiles = place.folder / "profiles"
    with stage(place, subject, {"batching.profiles": profiles}) as earlier:
        earlier.bench.closed(IN_FLIGHT, place.seconds)
    notes = [row("", COLUMNS)]
    with stage(place, subject, NO_TARGET) as free:
        for name, choice in choices(profiles).items():
            capacity_per_s = free.bench.closed(IN_FLIGHT, place.seconds).steady_per_s
            with stage(place, subject, choice) as played:
                runs = [
                    first(played).bench.run(BUSY * capacity_per_s, BUSY),
                    played.bench.run(BUSY * capacity_per_s, BUSY),
                    flooded(played, capacity_per_s),
                ]
            notes.append(row(name, cells(capacity_per_s, runs)))
    return Verdict([], notes=[*notes, "(…): the generator was the limit"])


def first(played: Stage) -> Stage:
    """Looks at once, and not for long."""
    return played.with_settings(warm_seconds=0.0, seconds=FIRST_SECONDS)


def cells(capacity_per_s: float, runs: list[Run]) -> list[str]:
    """What the runs of one choice gave."""
    early, busy, over = runs
    refusal_ms = over.outcome["refusal_ms"]["p50"]
    return [
        f"{capacity_per_s:,.0f}",
        doubted(early, f"{early.good_share:.2%}"),
        doubted(busy, f"{busy.good_share:.2%}"),
        doubted(busy, milliseconds(busy.outcome["offered_ms"]["p99"])),
        doubted(over, f"{over.outcome['goodput_per_s'] / capacity_per_s:.3f}"),
        doubted(over, "–" if refusal_ms is None else milliseconds(refusal_ms)),
    ]


def milliseconds(found: float | None) -> str:
    """None is for ever."""
    return "∞" if found is None else f"{found:,.2f}"


def doubted(run: Run, text: str) -> str:
    """In parentheses where the generator was the limit."""
    return text if run.valid else f"({text})"


def row(name: str, found: tuple[str, ...] | list[str]) -> str:
    """One line of the table."""
    first_width, *widths = WIDTHS
    return f"{name:<{first_width}}" + "".join(f"{cell:>{width}}" for cell, width in zip(found, widths, strict=True))
