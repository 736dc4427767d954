"""Python in the server's process, held: for as long as a test wants, no Python runs there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.serve.limit_cases import python_path

# A call through PyDLL keeps the interpreter's lock, here until there is something to read.
PROGRAM = """
import ctypes, os, signal, threading


def hold(path):
    # Signals are for the server's own threads.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    with open(path, "rb", 0) as fifo:
        fifo.read(1)
        ctypes.PyDLL(None).read(fifo.fileno(), ctypes.create_string_buffer(1), 1)


if "HELD" in os.environ:
    threading.Thread(target=hold, args=(os.environ.pop("HELD"),), daemon=True).start()
"""


class Interpreter:
    """The interpreter of a server that was started with this environment; it can be held once."""

    def __init__(self, folder: Path) -> None:
        (folder / "sitecustomize.py").write_text(PROGRAM)
        self._fifo = folder / "held"
        os.mkfifo(self._fifo)
        self.environment = {"HELD": str(self._fifo), **python_path(folder)}

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, no Python runs in the server, from a moment on that nobody is told of."""
        with self._fifo.open("wb", 0) as fifo:
            fifo.write(b"h")
            try:
                yield
            finally:
                fifo.write(b"g")
