"""What a scenario plays on: a server with one model, and the generator beside it."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from loadtests.scenarios import models
from loadtests.server import STOP_SECONDS_MAX, pinned, ready_line
from servekit.bench.making import bodies
from servekit.bench.settings import Settings, Wish
from servekit.bench.sweep import Bench
from servekit.bench.target import Target

# The log of a run is short; it is read at the end, so it must fit into the pipe.
SERVER_FLAGS = ("--log-format", "json", "--http-port", "0", "--grpc-port", "0", "--management-port", "0")


@dataclass(frozen=True)
class Place:
    """Where and how long."""

    folder: Path
    """For models, and for what the server keeps."""
    server_processor: int
    client_processor: int
    seconds: float
    """Of one run."""


@dataclass(frozen=True)
class Stage:
    """A server that is ready."""

    bench: Bench
    pid: int

    def with_settings(self, **changed: object) -> "Stage":
        """The same server under other load."""
        return replace(self, bench=replace(self.bench, settings=replace(self.bench.settings, **changed)))  # type: ignore[arg-type]

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The server does nothing meanwhile."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)


@contextmanager
def stage(place: Place, model: str, wish: Wish, settings: Settings, *, target: bool = True) -> Iterator[Stage]:
    """Serves a model with the objective as its target, or with none; drained at the end."""
    path = models.write(place.folder, model)
    with served(place, path, settings.slo_ms if target else 0.0) as (pid, address):
        asked = Target(address, model)
        made = bodies(asked, settings.protocol, wish, settings.seed)
        with pinned(place.client_processor):
            yield Stage(Bench(asked, made, replace(settings, seconds=place.seconds), pid), pid)


@contextmanager
def served(place: Place, path: Path, target_ms: float) -> Iterator[tuple[int, str]]:
    """A server as a user starts it, on its processor; its number and its address."""
    command = [sys.executable, "-m", "servekit", "serve", str(path), *SERVER_FLAGS]
    command += ["--latency-target-ms", f"{target_ms:.0f}"]
    # What one scenario taught would be known to the next.
    environment = {**os.environ, "XDG_CACHE_HOME": str(place.folder)}
    with pinned(place.server_processor):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield process.pid, ready_line(process)["http"]
    finally:
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=STOP_SECONDS_MAX)
    if process.returncode:
        message = f"the server ended with {process.returncode}\n{log}"
        raise RuntimeError(message)


@contextmanager
def place(seconds: float, server_processor: int, client_processor: int) -> Iterator[Place]:
    """A folder for one scenario."""
    with tempfile.TemporaryDirectory(prefix="servekit-scenario-") as folder:
        yield Place(Path(folder), server_processor, client_processor, seconds)
