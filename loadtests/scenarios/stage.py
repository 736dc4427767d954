"""What a scenario plays on: a server with one model, and the generator beside it."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from loadtests.scenarios import models
from loadtests.scenarios.rounds import Rounds, rounds
from loadtests.scenarios.subjects import Subject
from loadtests.server import STOP_SECONDS_MAX, pinned, ready_line
from servekit.bench.making import bodies
from servekit.bench.sweep import Bench
from servekit.bench.target import Target

Configuration = Mapping[str, object]
"""Keys of servekit's configuration, as `batching.mode`, and their values; None: as it is without one."""

AUTOMATIC_TARGET: Configuration = {"limits.latency_target_ms": None}
NO_TARGET: Configuration = {"limits.latency_target_ms": 0}

SERVEKIT: Final = (sys.executable, "-m", "servekit")
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
    rounds: int
    """Of those who take turns."""


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
def stage(place: Place, subject: Subject, configuration: Configuration | None = None) -> Iterator[Stage]:
    """Serves a model, with the objective as its target unless that is configured otherwise; drained at the end.

    Several may be open: one that is asked for nothing costs nothing.
    """
    settings = replace(subject.settings, seconds=place.seconds)
    configuration = {"limits.latency_target_ms": int(settings.slo_ms), **(configuration or {})}
    with served(place, models.write(place.folder, subject.model), configuration) as (pid, address):
        target = Target(address, subject.model)
        made = bodies(target, settings.protocol, subject.wish, settings.seed)
        with pinned(place.client_processor):
            yield Stage(Bench(target, made, settings, pid), pid)


@contextmanager
def served(
    place: Place, path: Path, configuration: Configuration, program: Sequence[str] = SERVEKIT
) -> Iterator[tuple[int, str]]:
    """A server as a user starts it, or under another program, on its processor; its number and its address."""
    command = [*program, "serve", str(path), *SERVER_FLAGS]
    with pinned(place.server_processor):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(configuration))
    log: list[str] = []
    reader = threading.Thread(target=lambda: log.extend(process.stderr or ()))
    try:
        address = ready_line(process)["http"]
        # From now on, so that it never waits for somebody to read.
        reader.start()
        yield process.pid, address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(STOP_SECONDS_MAX)
        if reader.ident is not None:
            reader.join()
    if process.returncode:
        message = f"the server ended with {process.returncode}\n{''.join(log)}"
        raise RuntimeError(message)


def environment(configuration: Configuration) -> dict[str, str]:
    """The configuration as environment variables, beside those of this process."""
    # What one server was taught would be known to the next.
    wanted = {"batching.profiles": "off", **configuration}
    given = {key: str(value) for key, value in wanted.items() if value is not None}
    return {**os.environ, **{f"SERVEKIT__{key.replace('.', '__').upper()}": value for key, value in given.items()}}


def loops(place: Place, measure: Stage, played: Stage, in_flight: int) -> Rounds:
    """Closed loops of two servers in turn, the first of which the other is measured by."""
    return rounds(
        place.rounds,
        lambda: measure.bench.closed(in_flight, place.seconds),
        lambda _: played.bench.closed(in_flight, place.seconds),
    )


@contextmanager
def place(seconds: float, rounds: int, server_processor: int, client_processor: int) -> Iterator[Place]:
    """A folder for one scenario."""
    with tempfile.TemporaryDirectory(prefix="servekit-scenario-") as folder:
        yield Place(Path(folder), server_processor, client_processor, seconds, rounds)
