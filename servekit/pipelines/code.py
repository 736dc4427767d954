"""Pipelines written in Python: `pipeline.py` in a model's folder, which the operator has to allow.

It holds a table called `pipeline` with the keys of `model.yaml`. In place of a kernel's name a step may `use` the
kernel itself, one of the file's own or one that comes with servekit.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from servekit.kernels import Kernel
from servekit.pipelines.faults import PipelineError
from servekit.pipelines.finding import Kernels, built_in
from servekit.pipelines.reading import parsed
from servekit.pipelines.schema import Pipeline
from servekit.plan import CODE_FILE_NAME, PIPELINE_FILE_NAME

TABLE: Final = "pipeline"


def read_code(folder: Path, *, allow_code: bool) -> Pipeline:
    """Runs the file and reads the table; raises `PipelineError` where code may not run, or fails."""
    members = vars(Kernels(folder, allow_code).module(CODE_FILE_NAME))
    table = members.get(TABLE)
    if not isinstance(table, dict):
        found = "none" if table is None else type(table).__name__
        raise PipelineError(
            f"{CODE_FILE_NAME} has to hold a table called '{TABLE}', found {found}; write {TABLE} = {{...}} with the "
            f"keys of {PIPELINE_FILE_NAME}"
        )
    names = {id(kernel): name for name, kernel in built_in().items()}
    names |= {id(value): f"{CODE_FILE_NAME}:{name}" for name, value in members.items() if isinstance(value, Kernel)}
    return parsed({key: _named(value, names) for key, value in table.items()}, CODE_FILE_NAME)


def _named(steps: Any, names: Mapping[int, str]) -> Any:  # noqa: ANN401 - what the file holds
    """Lists of steps with names in place of kernels."""
    if not isinstance(steps, list | tuple):
        return steps
    return [_step(step, names) if isinstance(step, dict) else step for step in steps]


def _step(step: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    kernel = step.get("use")
    if not isinstance(kernel, Kernel):
        return dict(step)
    if id(kernel) not in names:
        raise PipelineError(
            f"{CODE_FILE_NAME}: a step uses kernel '{kernel.name}', which has no name in the file; give it one, or its "
            "options under with"
        )
    return {**step, "use": names[id(kernel)]}
