"""The command line."""

import sys
from typing import NoReturn

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Runs one command and exits with its code."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["serve"]:
        from servekit.cli.serving import run

        run(given)
    from servekit.cli.commands import outcome

    result = outcome(given)
    if isinstance(result, int):
        sys.exit(result)
    from servekit.cli.serving import carry_out

    carry_out(result)
