"""The command line. Each command is imported when it is called, so that none pays for another."""

import sys
from importlib import import_module
from typing import NoReturn

import click

from servekit import __version__, signals
from servekit.errors import ServekitError

__all__ = ["main"]

COMMANDS = {
    "serve": "Serve models over HTTP and gRPC.",
    "check": "Load models, and tell what would be served and why.",
    "config": "Print the configuration that would hold.",
    "probe": "Ask a running server whether it is ready.",
}


class Commands(click.Group):
    """Finds a command by importing the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the command; None if there is no such one."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        if cmd_name == "serve":
            # From here on a signal waits for the server's life to take it: as a container's first process one that
            # came during the imports would be lost.
            signals.hold()
        command: click.Command = import_module(f"servekit.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="servekit", message="%(prog)s %(version)s")
def commands() -> None:
    """Serve ONNX models over HTTP and gRPC from one process.

    `servekit serve` serves a bundled demo model, `servekit serve model.onnx` yours.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one command and exits with its code."""
    try:
        code = commands.main(arguments, prog_name="servekit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = 1
    except ServekitError as error:
        for line in str(error).splitlines():
            click.echo(f"servekit: {line}", err=True)
        code = error.exit_code
    sys.exit(int(code or 0))
