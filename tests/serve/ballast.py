"""Memory that a server takes at a test's word: what a leak would do, without one."""

from __future__ import annotations

import os
from pathlib import Path

from tests.serve.alive import MIB, resident_bytes, waited
from tests.serve.limit_cases import python_path
from tests.serve.process import ServerProcess

PROGRAM = """
import os, signal, threading

def hold():
    # Signals are for the server's own threads.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    held = None
    while True:
        with open(os.environ["BALLAST"]) as stream:
            for line in stream:
                held = None
                held = b"b" * int(line)
                with open(os.environ["BALLAST"] + ".held", "w") as told:
                    told.write(line)

threading.Thread(target=hold, daemon=True).start()
"""
"""Memory that the process takes at the test's word: what a leak would do, without one."""
MEMORY_BYTES_MAX = 400 * MIB


class Ballast:
    """Makes the server's process take memory."""

    def __init__(self, folder: Path) -> None:
        self._fifo = folder / "ballast"
        os.mkfifo(self._fifo)
        (folder / "sitecustomize.py").write_text(PROGRAM)
        self.environment = {"BALLAST": str(self._fifo), **python_path(folder)}
        self._held_bytes = 0

    def fill(self, server: ServerProcess, percent: int) -> None:
        """Bring the process to so much of its limit, and keep it there."""

        def is_there() -> None:
            missing = MEMORY_BYTES_MAX * percent // 100 - resident_bytes(server)
            if abs(missing) > MEMORY_BYTES_MAX // 100:
                self._hold(max(0, self._held_bytes + missing))
                raise AssertionError(f"{missing} bytes are missing")

        waited(is_there)

    def _hold(self, size: int) -> None:
        self._held_bytes = size
        with self._fifo.open("w") as stream:
            stream.write(f"{size}\n")
        told = self._fifo.with_name("ballast.held")

        def is_held() -> None:
            assert told.exists()
            assert told.read_text() == f"{size}\n"

        waited(is_held)
