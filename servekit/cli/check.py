"""`servekit check`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from servekit.cli import batching_report, pipeline_report
from servekit.cli.options import config_options, configuration
from servekit.cli.pipeline_report import PipelineFinding
from servekit.config import profiles
from servekit.config.crossing import config_json
from servekit.config.effective import Effective, Line, Machine, resolve
from servekit.config.limits import Limits
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
    pipeline: PipelineFinding | None = None
    label: str = ""
    reason: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it can be served, and as its author has tried it."""
        return self.figures is not None and not (self.pipeline and self.pipeline.differs)

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
            | {"pipeline": self.pipeline and pipeline_report.as_json(self.pipeline)}
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

    Kernels of pipelines are run compiled and as Python, and what they give is compared.

    Exit codes: 0 every model can be served, 1 one cannot or has a kernel that differs, 2 usage or configuration.
    """
    config = configuration(file, flags)
    repository = find_models(config, paths, model_name)
    effective = resolve(config.limits, Machine.here(), repository.models)
    findings = check_models(config, effective, repository.models)
    passed_over = (*repository.warnings, *profiles.resolve(config.batching.profiles).warnings)
    if as_json:
        click.echo(json.dumps(_document(effective, findings, passed_over), indent=2))
    else:
        models = [line for finding in findings for line in (*_model_report(finding, is_profiled=is_profiled), "")]
        click.echo("\n".join([*models, *_report(effective, findings, passed_over)]))
    if not all(finding.is_good for finding in findings):
        sys.exit(ExitCode.FAILED)


def check_models(config: Config, effective: Effective, models: Sequence[Model]) -> list[Finding]:
    """Loads them as the server would, one after the other."""
    native_json = config_json(config, effective.limits, models)
    pipelines: dict[str, PipelineFinding] = {}
    if written := [model.pipeline for model in models if model.pipeline is not None]:
        from servekit.pipelines.starting import started

        result = started(native_json, written, allow_code=config.execution.allow_code)
        native_json = result.native_json
        pipelines = {
            model.name: pipeline_report.tried(plan, Path(model.pipeline.folder), samples)
            for model, samples in zip(models, _samples(native_json), strict=True)
            if model.pipeline is not None and (plan := result.plans.get(model.name)) is not None
        }
    document = json.loads(native_json)
    return [
        _check_model(model, _asked(document, entry), effective.limits, pipelines.get(model.name))
        for model, entry in zip(models, document["models"], strict=True)
    ]


def _samples(native_json: str) -> list[list[dict[str, Any]]]:
    """Of each model, as they cross."""
    return [entry["samples"] for entry in json.loads(native_json)["models"]]


def _asked(document: dict[str, Any], entry: dict[str, Any]) -> str:
    """The configuration of one model, with those that its pipeline runs behind it."""
    beside = entry["pipeline"]["models"] if entry["pipeline"] else ()
    others = [other for other in document["models"] if other["name"] in beside]
    return json.dumps(document | {"models": [entry, *others]})


def _check_model(model: Model, asked_json: str, limits: Limits, pipeline: PipelineFinding | None) -> Finding:
    from servekit import _native

    try:
        with native_errors():
            row = () if pipeline is None else (json.dumps(pipeline.row.tensors),)
            told = json.loads(_native.check(asked_json, *row))
    except LoadError as error:
        return Finding(model, label=error.label, reason=str(error))
    plan, run_ms_max = told.pop("plan"), told.pop("run_ms_max")
    if pipeline is not None:
        pipeline = pipeline._replace(costs=pipeline_report.Costs.of(told.pop("costs")))
    figures = with_defaults(told)
    found = batching_report.effective_targets(model.settings, limits, figures)
    return Finding(model, figures, plan, run_ms_max, tuple(found), pipeline)


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
    if finding.pipeline is not None:
        lines += pipeline_report.lines(finding.pipeline)
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
