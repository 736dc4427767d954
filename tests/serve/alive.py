"""Nothing that a caller did has harmed the server: what is looked at after every case of bad input and every fault."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from typing import TypeVar

import grpc
import numpy as np
import onnxruntime

from tests.serve import models
from tests.serve.process import POLL_SECONDS, ServerProcess
from tests.serve.stubs import stub_module
from tests.serve.tensors import same_bits
from tests.serve.transports import Asked, infer_once

G = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1.5,-2.0,3.25]}]}'
"""A good request to `ident`, 80 bytes."""
G_VALUES = np.array([[1.5, -2.0, 3.25]], np.float32)
TINY_ROW = np.array([[0.5, -1.0, 2.0, 0.25]], np.float32)
MIB = 2**20
GROWTH_BYTES_MAX = 32 * MIB
SETTLE_SECONDS_MAX = 10.0
Seen = TypeVar("Seen")
GAUGES = ("servekit_in_flight_requests", "servekit_in_flight_bytes", "servekit_queue_rows", "servekit_streams")


@dataclass(frozen=True)
class Standing:
    """What a case must leave as it was, or raise by exactly what it did."""

    descriptors: int
    resident_bytes: int
    refusals: Mapping[str, float]

    @classmethod
    def of(cls, server: ServerProcess) -> Standing:
        """As it is now."""
        return cls(descriptors(server), resident_bytes(server), refusals(server.metrics()))


def alive(server: ServerProcess, before: Standing | None = None, expected: Mapping[str, int] | None = None) -> None:
    """Look at everything; with a standing from before, also that the case left nothing and raised only `expected`."""
    assert server.process.poll() is None, "the process has ended"
    assert not [line for line in server.lines if "panic" in line]
    _healthy(server)
    _right(server)
    waited(lambda: _idle(server))
    if before is None:
        return
    waited(lambda: _at_most(descriptors(server), before.descriptors, "descriptors"))
    waited(lambda: _at_most(resident_bytes(server), before.resident_bytes + GROWTH_BYTES_MAX, "resident bytes"))
    risen = {
        label: count - before.refusals.get(label, 0)
        for label, count in refusals(server.metrics()).items()
        if count != before.refusals.get(label, 0)
    }
    assert risen == dict(expected or {})


@contextmanager
def unharmed(server: ServerProcess, **expected: int) -> Iterator[None]:
    """A case that may raise these refusals, by label, and nothing else."""
    before = Standing.of(server)
    yield
    alive(server, before, expected)


def goes_on(connection: HTTPConnection, *, closed: bool) -> None:
    """A connection serves on after an answer that left it open; one that was to be closed is, without hanging."""
    if closed:
        assert connection.sock is None or connection.sock.recv(1) == b""
        return
    connection.request("POST", "/v2/models/ident/infer", G, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    assert json.loads(body)["outputs"][0]["data"] == G_VALUES.ravel().tolist()


def waited(check: Callable[[], Seen], seconds: float = SETTLE_SECONDS_MAX) -> Seen:
    """Repeat a check until it holds, for what it returns; its last complaint is raised."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        try:
            return check()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        pause.wait(POLL_SECONDS)


def descriptors(server: ServerProcess) -> int:
    """Open descriptors of the process."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def resident_bytes(server: ServerProcess) -> int:
    """Resident size of the process."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def refusals(metrics: Mapping[str, float]) -> dict[str, float]:
    """Refusals so far, by label."""
    start = 'servekit_refusals_total{reason="'
    return {name[len(start) : -2]: count for name, count in metrics.items() if name.startswith(start) and count}


def _healthy(server: ServerProcess) -> None:
    for state in ("live", "ready"):
        status, _, _ = server.request("GET", f"/v2/health/{state}")
        assert status == 200, state
    messages = stub_module("health_pb2")
    with grpc.insecure_channel(server.grpc) as channel:
        health = stub_module("health_pb2_grpc").HealthStub(channel)
        answer = health.Check(messages.HealthCheckRequest(), timeout=SETTLE_SECONDS_MAX)
    assert answer.status == messages.HealthCheckResponse.SERVING


def _right(server: ServerProcess) -> None:
    for transport in ("json", "binary", "grpc"):
        answer = infer_once(transport, server, Asked("ident", {"x": G_VALUES}))
        assert same_bits(answer["y"], G_VALUES), transport
    answer = infer_once("json", server, Asked("tiny", {"x": TINY_ROW}))
    np.testing.assert_allclose(answer["y"], tiny_alone(TINY_ROW.tobytes()), rtol=0, atol=1e-6)


def _idle(server: ServerProcess) -> None:
    metrics = server.metrics()

    def total(name: str) -> float:
        return sum(value for sample, value in metrics.items() if sample.partition("{")[0] == name)

    assert {name: total(name) for name in GAUGES} == dict.fromkeys(GAUGES, 0.0)
    accepted, answered, cancelled = (total(f"servekit_requests_{how}_total") for how in _FATES)
    assert accepted == answered + cancelled


_FATES = ("accepted", "answered", "cancelled")


def _at_most(found: int, allowed: int, what: str) -> None:
    assert found <= allowed, f"{found} {what}, {allowed} allowed"


@cache
def tiny_alone(rows: bytes) -> np.ndarray:
    """What ONNX Runtime answers for these rows of `tiny`, asked alone."""
    return tiny_session().run(None, {"x": np.frombuffer(rows, np.float32).reshape(-1, 4)})[0]


@cache
def tiny_session() -> onnxruntime.InferenceSession:
    """ONNX Runtime with `tiny`, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        return onnxruntime.InferenceSession(models.tiny(Path(folder)))
