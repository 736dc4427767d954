"""`servekit-simulate`: how batching policies compare, on a virtual clock."""

import signal
import sys
from typing import NoReturn

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Prints the tables that are asked for, or draws them, and exits."""
    from servekit._native import ConfigError, simulate

    # It may take minutes, in native code: Ctrl-C ends it at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        print(simulate(sys.argv[1:] if arguments is None else arguments), end="")
    except ConfigError as error:
        sys.exit(f"servekit-simulate: {error}")
    sys.exit(0)
