"""The signals that end a server, held back until its life can take them."""

import signal

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})


def hold() -> None:
    """Keeps them pending, in this thread and in every one that it starts, native ones too."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
