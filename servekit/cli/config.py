"""`servekit config`."""

from pathlib import Path

import click

from servekit.cli.options import config_options, configuration


@click.command("config")
@click.option("--reference", is_flag=True, help="Print every key with its default and a comment instead.")
@config_options
def command(*, reference: bool, file: Path | None, **flags: str | None) -> None:
    """Print the configuration that file, environment and flags make together, as YAML.

    Numbers that depend on the machine or on the models say auto; `servekit check` tells what they become.
    """
    from servekit.config.reference import render, render_reference

    click.echo(render_reference() if reference else render(configuration(file, flags)), nl=False)
