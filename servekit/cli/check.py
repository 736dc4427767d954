"""`servekit check`."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from servekit.cli import batching_report
from servekit.cli.options import config_options, configuration
from servekit.config import profiles
from servekit.config.crossing import config_json
from servekit.config.effective import Effective, Line, Machine, resolve
from servekit.config.schema import Config
from servekit.errors import ExitCode, LoadError, native_errors
from servekit.repository import Model
from servekit.repository import resolve as find_models
from servekit.sizes import sized
from servekit.snapshot import CorePlan, ModelFigures, TensorContract, with_defaults
from servekit.targets import Target


@dataclass(frozen=True)
class Finding:
    """What loading one model told: its figures, or why it cannot be served."""

    model: Model
    figures: ModelFigures | None = None
    plan: CorePlan | None = None
    run_ms_max: int = 0
    targets: tuple[Target, ...] = ()
    label: str = ""
    reason: str = ""

    def as_json(self) -> dict[str, Any]:
        """The finding for machines."""
        found: dict[str, Any] = {
            "name": self.model.name,
            "version": self.model.version,
            "path": str(self.model.path),
            "file_bytes": self.model.file_bytes,
        }
        figures = self.figures
        if figures is None:
            return found | {"state": "failed", "label": self.label, "reason": self.reason}
        keys = ("contract", "execution", "device", "ort", "digest", "load_s", "batch_rows_max", "lanes", "decisions")
        return (
            found
            | {"state": "ready", "run_ms_max": self.run_ms_max}
            | {key: value for key, value in figures.items() if key in keys}
            | batching_report.as_json(figures, self.targets)
        )


@click.command("check")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--model-name", metavar="NAME", help="Name under which the one model would be served.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--profile", "is_profiled", is_flag=True, help="Print how long runs of each size take.")
@config_options
def command(
    paths: tuple[Path, ...],
    model_name: str | None,
    *,
    as_json: bool,
    is_profiled: bool,
    file: Path | None,
    **flags: str | None,
) -> None:
    """Load the models of each PATH and tell what would be served and why; nothing listens.

    Exit codes: 0 every model can be served, 1 one cannot, 2 usage or configuration.
    """
    config = configuration(file, flags)
    repository = find_models(config, paths, model_name)
    effective = resolve(config.limits, Machine.here(), repository.models)
    findings = [check_model(config, effective, model) for model in repository.models]
    passed_over = (*repository.warnings, *profiles.resolve(config.batching.profiles).warnings)
    if as_json:
        click.echo(json.dumps(_document(effective, findings, passed_over), indent=2))
    else:
        models = [line for finding in findings for line in (*_model_report(finding, is_profiled=is_profiled), "")]
        click.echo("\n".join([*models, *_report(effective, findings, passed_over)]))
    if any(finding.figures is None for finding in findings):
        sys.exit(ExitCode.FAILED)


def check_model(config: Config, effective: Effective, model: Model) -> Finding:
    """Loads one model as the server would."""
    from servekit import _native

    try:
        with native_errors():
            told = json.loads(_native.check(config_json(config, effective.limits, [model])))
    except LoadError as error:
        return Finding(model, label=error.label, reason=str(error))
    plan, run_ms_max = told.pop("plan"), told.pop("run_ms_max")
    figures = with_defaults(told)
    found = batching_report.effective_targets(model.settings, effective.limits, figures)
    return Finding(model, figures, plan, run_ms_max, tuple(found))


def _document(effective: Effective, findings: list[Finding], passed_over: tuple[str, ...]) -> dict[str, Any]:
    return {
        "models": [finding.as_json() for finding in findings],
        "passed_over": passed_over,
        "cores": next((finding.plan for finding in findings if finding.plan), None),
        "limits": effective.limits.model_dump(),
        "arithmetic": [line._asdict() for line in effective.lines],
    }


def _report(effective: Effective, findings: list[Finding], passed_over: tuple[str, ...]) -> list[str]:
    lines: list[str] = []
    for plan in [finding.plan for finding in findings if finding.plan][:1]:
        lines.append(
            f"cores  {plan['cores']:g} usable: {plan['shards']} shards, {plan['runners']} runners, "
            f"intra_op {plan['intra_op']}"
        )
        lines += [*(f"  {reason}" for reason in plan["reasons"]), ""]
    lines.append("limits")
    width = max(len(line.key) for line in effective.lines)
    lines += [f"  {line.key:{width}}  {_number(line):>9}  {line.reason}" for line in effective.lines]
    if passed_over:
        lines += ["", "passed over", *(f"  {warning}" for warning in passed_over)]
    return lines


def _model_report(finding: Finding, *, is_profiled: bool) -> list[str]:
    model, figures = finding.model, finding.figures
    lines = [f"{model.name}  version {model.version}, {model.path}, {sized(model.file_bytes)}"]
    if figures is None:
        return [*lines, f"  cannot be served ({finding.label}): {finding.reason}"]
    contract = figures["contract"]
    if contract is not None:
        lines += _tensors("input", contract["inputs"]) + _tensors("output", contract["outputs"])
        lines += [f"  property   {name}: {json.dumps(value)}" for name, value in contract["properties"].items()]
    rows = figures["batch_rows_max"]
    placed = f"{figures['execution']} on {figures['device']}"
    lines.append(f"  runs       {placed}, at most {rows} rows a batch, {finding.run_ms_max} ms a run")
    lines.append(f"  loaded     in {figures['load_s']:.3f} s by ONNX Runtime {figures['ort']}")
    lines.append(f"  digest     {figures['digest']}")
    lines += [f"  {subject:<10} {reason}" for subject, reason in figures["decisions"]]
    lines += batching_report.lines(figures, finding.targets)
    if is_profiled:
        lines += batching_report.profile(figures, finding.targets)
    return lines


def _tensors(kind: str, tensors: list[TensorContract]) -> list[str]:
    return [
        f"  {kind:<10} {tensor['name']}: {tensor['datatype']} [{', '.join(map(_axis, tensor['shape']))}]"
        for tensor in tensors
    ]


def _axis(size: int) -> str:
    return "any" if size < 0 else str(size)


def _number(line: Line) -> str:
    if line.value is None:
        return "auto"
    return sized(line.value) if "bytes" in line.key or line.key == "memory" else str(line.value)
