"""A `servekit serve` process for one test: port 0, ready by its own word, ended by a signal."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READY_SECONDS_MAX = 60.0
POLL_SECONDS = 0.01
QUIET = {
    # Machines that run tests are busy, and most tests are not about being in time.
    "SERVEKIT__LIMITS__LATENCY_TARGET_MS": "0",
    # What one test's server has learnt is not for the next one's.
    "SERVEKIT__BATCHING__PROFILES": "off",
}
"""Environment of every server, unless a test has wishes of its own."""


@dataclass
class ServerProcess:
    """A running server and what it said on stderr so far."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    said: threading.Condition = field(default_factory=threading.Condition)
    closed: bool = False
    ready: dict[str, Any] = field(default_factory=dict)

    def read(self) -> None:
        """Collect stderr until it ends; runs in a thread of its own."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self.said:
                self.lines.append(line.rstrip("\n"))
                self.said.notify_all()
        with self.said:
            self.closed = True
            self.said.notify_all()

    def event(self, name: str, seconds: float = READY_SECONDS_MAX) -> dict[str, Any]:
        """The JSON log line with this `event`, waited for."""

        def find() -> dict[str, Any] | None:
            for line in self.lines:
                if line.startswith("{"):
                    said = json.loads(line)
                    if said.get("event") == name:
                        return dict(said)
            return None

        deadline = time.monotonic() + seconds
        with self.said:
            while (found := find()) is None:
                left = deadline - time.monotonic()
                if self.closed or left <= 0:
                    raise AssertionError(f"no event {name!r} from the server:\n" + "\n".join(self.lines))
                self.said.wait(left)
        return found

    @property
    def http(self) -> str:
        """HOST:PORT of the HTTP listener."""
        return str(self.ready["http"])

    @property
    def grpc(self) -> str:
        """HOST:PORT of the gRPC listener."""
        return str(self.ready["grpc"])

    @property
    def management(self) -> str:
        """HOST:PORT of the management app."""
        return str(self.ready["management"])

    @property
    def data_ports(self) -> dict[str, str]:
        """HOST:PORT of both data listeners, which speak every dialect."""
        return {"http": self.http, "grpc": self.grpc}

    def connect(self, timeout_s: float = 30.0, address: str | None = None) -> socket.socket:
        """A raw connection to the HTTP listener, or to another address."""
        host, port = (address or self.http).rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=timeout_s)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        address: str | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own: status, headers in lower case, body."""
        connection = http.client.HTTPConnection(address or self.http, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def infer(self, model: str, request: Mapping[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
        """JSON inference: status and parsed answer."""
        fields = {"content-type": "application/json"} | {key.replace("_", "-"): value for key, value in headers.items()}
        status, _, body = self.request("POST", f"/v2/models/{model}/infer", json.dumps(request).encode(), fields)
        return status, dict(json.loads(body))

    def metrics(self) -> dict[str, float]:
        """Every sample of the exposition, by name with its labels as written."""
        status, _, body = self.request("GET", "/metrics", address=self.management)
        assert status == 200, body
        samples: dict[str, float] = {}
        for line in body.decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                samples[name] = float(value)
        return samples

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of this name whose labels include the given ones."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            value
            for sample, value in self.metrics().items()
            if sample.partition("{")[0] == name and all(pair in sample for pair in wanted)
        )

    def settles(self, name: str, expected: float, seconds: float = 10.0, **labels: str) -> None:
        """Wait until a metric has this value."""
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while (found := self.metric(name, **labels)) != expected:
            if time.monotonic() > deadline:
                raise AssertionError(f"{name}{labels} is {found}, expected {expected}")
            pause.wait(POLL_SECONDS)

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        self.process.send_signal(number)

    def ended(self, seconds: float = 60.0) -> int:
        """Wait for the end; the exit code."""
        return self.process.wait(seconds)


@contextmanager
def serving(
    *paths: Path | str,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    wait: bool = True,
) -> Iterator[ServerProcess]:
    """Start `servekit serve PATHS` on free ports; ends it at the end, whatever happened."""
    command = [sys.executable, "-m", "servekit", "serve", *map(str, paths)]
    command += ["--log-format", "json", "--http-port", "0", "--grpc-port", "0", "--management-port", "0", *arguments]
    variables = {**os.environ, **QUIET, **(environment or {})}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables)
    server = ServerProcess(process)
    reader = threading.Thread(target=server.read, daemon=True)
    reader.start()
    try:
        if wait:
            server.ready = server.event("ready")
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join(10)
        process.stderr.close()
