"""`servekit serve` as a user starts it, kept on a processor of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

STOP_SECONDS_MAX = 40


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    pid: int
    http: str
    """HOST:PORT, like the next one."""
    grpc: str
    started_at_s: float
    """`time.perf_counter` before the process was made."""


@dataclass(frozen=True)
class Launch:
    """How a server is started otherwise than a user would."""

    prefix: Sequence[str] = ()
    """The program that runs the interpreter."""
    environment: Mapping[str, str] = field(default_factory=dict)


CLOSED_LOOP = {
    "SERVEKIT__LIMITS__LATENCY_TARGET_MS": "0",
    "SERVEKIT__BATCHING__PROFILES": "off",
    # Under a tool that counts instructions a run takes fifty times as long, and so does its proof.
    "SERVEKIT__BATCHING__PROOF_SECONDS_MAX": "600",
}
"""Clients that wait for their answers are asked how much can be served: nothing is shed, nothing remembered."""


@contextmanager
def pinned(processor: int) -> Iterator[None]:
    """Keep this process, and whatever it starts meanwhile, on one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def serving(model: Path, processor: int, launch: Launch | None = None) -> Iterator[Server]:
    """Serve one model on free ports of the loopback; drained at the end."""
    launch = launch or Launch()
    servekit = str(Path(sys.executable).with_name("servekit"))
    command = [*launch.prefix, sys.executable, servekit, "serve", str(model), "--log-format", "json"]
    command += ["--http-port", "0", "--grpc-port", "0", "--management-port", "0"]
    with pinned(processor):
        started_at_s = time.perf_counter()
        environment = {**os.environ, **CLOSED_LOOP, **launch.environment}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        ready = ready_line(process)
        yield Server(process.pid, ready["http"], ready["grpc"], started_at_s)
    finally:
        process.send_signal(signal.SIGINT)
        _, log = process.communicate(timeout=STOP_SECONDS_MAX)
    if process.returncode:
        raise RuntimeError(f"the server ended with {process.returncode}\n{log}")


def ready_line(process: subprocess.Popen[str]) -> dict[str, str]:
    """Wait for the line that says that everything is ready."""
    said = []
    for line in process.stderr or ():
        said.append(line)
        if line.startswith("{"):
            event: dict[str, str] = json.loads(line)
            if event.get("event") == "ready":
                return event
    raise RuntimeError("the server ended before it was ready\n" + "".join(said))
