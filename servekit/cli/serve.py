"""`servekit serve`."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from servekit.cli.options import config_options, configuration
from servekit.config.effective import Machine, resolve
from servekit.errors import ExitCode
from servekit.repository import resolve as find_models
from servekit.server import Plan, serve


@click.command("serve")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="[PATH]...")
@click.option("--model-name", metavar="NAME", help="Name under which the one model is served.")
@config_options
def command(paths: tuple[Path, ...], model_name: str | None, file: Path | None, **flags: str | None) -> None:
    """Serve the models of each PATH, or a bundled demo model.

    PATH is a model.onnx, a folder that holds one, or a folder of models (name.onnx, name/model.onnx or
    name/1/model.onnx).

    Exit codes: 0 drained, 1 failure at run time, 2 usage or configuration, 3 drain deadline missed.
    """
    config = configuration(file, flags)
    repository = find_models(config, paths, model_name)
    effective = resolve(config.limits, Machine.here(), repository.models)
    _leave(serve(Plan(config, effective, repository)))


def _leave(code: ExitCode) -> NoReturn:
    """Ends without the destructors of libraries whose threads may still be in a run that nobody waits for."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
