"""`servekit serve`: from the command line to a plan. Who carries it out is `servekit.cli.serving`."""

from dataclasses import replace
from pathlib import Path

import click

from servekit.cli.options import config_options, configuration
from servekit.config import Config, profiles
from servekit.config.crossing import config_json
from servekit.config.effective import Effective, Machine, resolve
from servekit.plan import LogPlan, ManagementPlan, Plan
from servekit.repository import Repository
from servekit.repository import resolve as find_models


@click.command("serve")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--model-name", metavar="NAME", help="Name under which the one model is served.")
@click.option("--watch", "is_watching", is_flag=True, help="Serve edits of pipelines as they are made.")
@config_options
def command(
    paths: tuple[Path, ...], model_name: str | None, *, is_watching: bool, file: Path | None, **flags: str | None
) -> Plan:
    """Serve the models of each PATH, or a bundled demo model.

    PATH is a model.onnx, a folder that holds one, or a folder of models (name.onnx, name/model.onnx or
    name/1/model.onnx). A model.yaml beside a model.onnx says what happens before and after the model.

    Exit codes: 0 drained, 1 failure at run time, 2 usage or configuration, 3 drain deadline missed.
    """
    config = configuration(file, flags)
    repository = find_models(config, paths, model_name)
    plan = planned(config, resolve(config.limits, Machine.here(), repository.models), repository)
    return replace(plan, is_watching=is_watching)


def planned(config: Config, effective: Effective, repository: Repository) -> Plan:
    """Boils everything down to what serving needs."""
    limits, management = effective.limits, config.management
    return Plan(
        native_json=config_json(config, limits, repository.models),
        log=LogPlan(
            level=config.log.level,
            as_json=config.log.format == "json",
            lines_per_second_max=limits.log_lines_per_second_max,
            field_bytes_max=limits.log_field_bytes_max,
        ),
        management=ManagementPlan(
            host=management.host,
            port=management.port,
            hosts=tuple(management.hosts),
            body_bytes_max=limits.management_body_bytes_max,
            connections_max=limits.management_connections_max,
            series_max=limits.metric_series_max,
        ),
        drain_delay_ms=limits.drain_delay_ms,
        drain_ms_max=limits.drain_ms_max,
        warnings=(*repository.warnings, *profiles.resolve(config.batching.profiles).warnings),
        pipelines=tuple(model.pipeline for model in repository.models if model.pipeline is not None),
        allow_code=config.execution.allow_code,
    )
