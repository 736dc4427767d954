"""The commands. Each is imported when it is called, so that none pays for another."""

from importlib import import_module

import click

from servekit import __version__
from servekit.errors import ServekitError, told
from servekit.plan import Plan

COMMANDS = {
    "serve": "Serve models over HTTP and gRPC.",
    "check": "Load models, and tell what would be served and why.",
    "config": "Print the configuration that would hold.",
    "probe": "Ask a running server whether it is ready.",
    "bench": "Send open-loop load to a model and tell how it copes.",
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


def outcome(arguments: list[str]) -> Plan | int:
    """Runs one command; what is to be served, or the exit code. What went wrong is told on stderr."""
    try:
        result = commands.main(arguments, prog_name="servekit", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 1
    except ServekitError as error:
        told(error)
        return error.exit_code
    return result if isinstance(result, Plan) else int(result or 0)
