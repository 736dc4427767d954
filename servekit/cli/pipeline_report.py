"""What `servekit check` tells about a model's pipeline: its steps, and whether kernels are what they are in Python."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from servekit.pipelines import Plan

_WIDTH = 10


class Compared(NamedTuple):
    """A kernel's step, and the ways in which its compiled form and its Python differ."""

    step: str
    differences: tuple[str, ...]


class PipelineFinding(NamedTuple):
    """A pipeline that was planned, and what came of trying its kernels."""

    plan: "Plan"
    kernels: tuple[Compared, ...]

    @property
    def differs(self) -> bool:
        """Whether any kernel, compiled, is not what it is in Python."""
        return any(kernel.differences for kernel in self.kernels)


def tried(plan: "Plan") -> PipelineFinding:
    """Runs each kernel compiled and as Python on seeded rows, odd numbers, no rows, and rows with gaps."""
    from servekit.kernels import compare
    from servekit.pipelines import KernelCall

    kernels = tuple(
        Compared(call.step, tuple(f"{found.rows}: {found.text}" for found in compare(call.kernel)))
        for call in plan.batch
        if isinstance(call, KernelCall)
    )
    return PipelineFinding(plan, kernels)


def as_json(found: PipelineFinding) -> dict[str, Any]:
    """The same for machines."""
    contract = found.plan.contract()
    return {
        "inputs": contract["inputs"],
        "outputs": contract["outputs"],
        "raw": found.plan.raw,
        "steps": found.plan.shown(),
        "kernels": [kernel._asdict() for kernel in found.kernels],
    }


def lines(found: PipelineFinding) -> Iterator[str]:
    """A line a step, then what the kernels gave."""
    for number, step in enumerate(found.plan.shown()):
        yield _line("pipeline" if number == 0 else "", step)
    if found.plan.raw:
        yield _line("", f"its own tensors are served as {found.plan.name}.raw")
    same = sum(not kernel.differences for kernel in found.kernels)
    if same:
        yield _line("kernels", f"{same} of {len(found.kernels)} gave the same compiled and in Python")
    for kernel in found.kernels:
        for difference in kernel.differences:
            yield _line("kernels", f"{kernel.step} differs from its Python, {difference}")


def _line(subject: str, text: str) -> str:
    return f"  {subject:<{_WIDTH}} {text}"
