"""What `servekit check` tells about a pipeline: its steps and their cost, and whether kernels are as in Python."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from servekit.plan import RAW_SUFFIX

if TYPE_CHECKING:
    from servekit.pipelines import Plan
    from servekit.pipelines.made_up import MadeUp

_WIDTH = 10


class Compared(NamedTuple):
    """A kernel's step, and the ways in which its compiled form and its Python differ."""

    step: str
    differences: tuple[str, ...]


class Run(NamedTuple):
    """So many rows that were run together, and the median time of each step."""

    rows: int
    steps_us: tuple[float, ...]


class Costs(NamedTuple):
    """What a pipeline's steps cost, as the native side found it out; `unknown` says why there are no runs, or fewer."""

    runs: tuple[Run, ...]
    unknown: str | None

    @staticmethod
    def of(told: Mapping[str, Any]) -> "Costs":
        """From what it told."""
        return Costs(tuple(Run(run["rows"], tuple(run["steps_us"])) for run in told["runs"]), told["unknown"])


class PipelineFinding(NamedTuple):
    """A pipeline that was planned, what came of trying its kernels, and a row to try all of it with."""

    plan: "Plan"
    kernels: tuple[Compared, ...]
    row: "MadeUp"
    costs: Costs | None = None

    @property
    def differs(self) -> bool:
        """Whether any kernel, compiled, is not what it is in Python."""
        return any(kernel.differences for kernel in self.kernels)


def tried(plan: "Plan", folder: Path, samples: Sequence[Mapping[str, Any]]) -> PipelineFinding:
    """Runs each kernel compiled and as Python on seeded rows, odd numbers, no rows, and rows with gaps."""
    from servekit.kernels import compare
    from servekit.pipelines import KernelCall, made_up

    kernels = tuple(
        Compared(call.step, tuple(f"{found.rows}: {found.text}" for found in compare(call.kernel)))
        for call in plan.batch
        if isinstance(call, KernelCall)
    )
    return PipelineFinding(plan, kernels, made_up.row(plan, folder, samples))


def as_json(found: PipelineFinding) -> dict[str, Any]:
    """The same for machines."""
    contract = found.plan.contract()
    return {
        "inputs": contract["inputs"],
        "outputs": contract["outputs"],
        "raw": found.plan.raw,
        "steps": found.plan.shown(),
        "kernels": [kernel._asdict() for kernel in found.kernels],
        "costs": found.costs and _costs_as_json(found.costs, found.row.told),
    }


def _costs_as_json(costs: Costs, row: str) -> dict[str, Any]:
    return {"row": row, "runs": [run._asdict() for run in costs.runs], "unknown": costs.unknown}


def lines(found: PipelineFinding) -> Iterator[str]:
    """A line a step, then what the kernels gave."""
    for number, (step, cost) in enumerate(zip(found.plan.shown(), _costs(found), strict=True)):
        yield _line("pipeline" if number == 0 else "", step + cost)
    if found.plan.raw:
        yield _line("", f"its own tensors are served as {found.plan.name}{RAW_SUFFIX}")
    if found.costs is not None:
        yield _line("costs", f"of one row, {found.row.told}")
        if (why := _of_no_step(found)) is not None:
            yield _line("", why)
    same = sum(not kernel.differences for kernel in found.kernels)
    if same:
        yield _line("kernels", f"{same} of {len(found.kernels)} gave the same compiled and in Python")
    for kernel in found.kernels:
        for difference in kernel.differences:
            yield _line("kernels", f"{kernel.step} differs from its Python, {difference}")


def _costs(found: PipelineFinding) -> list[str]:
    """What stands behind each step's line."""
    steps = _steps(found.plan)
    if found.costs is None:
        return [""] * len(steps)
    if not found.costs.runs:
        # Texts of refusals begin with the step.
        reasons = [(found.costs.unknown or "").partition(f"{step}: ")[2] for step in steps]
        return ["  cost unknown" + (f", the row was refused: {reason}" if reason else "") for reason in reasons]
    first, *more = found.costs.runs
    lines = [f"  {_took(took)}" for took in first.steps_us]
    for run in more:
        lines = [f"{line}, {_took(took)} for {run.rows} rows" for line, took in zip(lines, run.steps_us, strict=True)]
    return lines


def _of_no_step(found: PipelineFinding) -> str | None:
    """Why costs are unknown, where no step's line says it."""
    costs = found.costs
    if costs is None or costs.unknown is None:
        return None
    if costs.runs:
        return f"of several rows they are unknown: {costs.unknown}"
    is_told = any(f"{step}: " in costs.unknown for step in _steps(found.plan))
    return None if is_told else f"they are unknown: {costs.unknown}"


def _steps(plan: "Plan") -> list[str]:
    """As `Plan.shown` has them, and the native side."""
    return [call.step for call in (*plan.stages, *plan.batch)]


def _took(took_us: float) -> str:
    if took_us == 0:
        return "not run, as there were no entries"
    return f"{took_us / 1e3:.1f} ms" if took_us >= 1e3 else f"{took_us:.1f} µs"


def _line(subject: str, text: str) -> str:
    return f"  {subject:<{_WIDTH}} {text}"
