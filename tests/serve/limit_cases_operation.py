"""Limits of loading, of the management port, of logs and of the drain: what the operator meets, not a caller."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import magika
import numpy as np
from onnx import TensorProto, helper

from tests.serve import models
from tests.serve.alive import waited
from tests.serve.limit_cases import Group, body, placed, refused, row, served, spin_message
from tests.serve.limit_cases_time import within
from tests.serve.process import ServerProcess, serving
from tests.serve.raw_frames import peer
from tests.serve.raw_http import elapsed, get, infer, raw_connection

GOOD = body(row(1.5, -2.0, 3.25))


def checked(path: Path, **limits: int) -> tuple[int, dict[str, Any], str]:
    """Exit code, document and complaints of `servekit check`."""
    environment = {f"SERVEKIT__LIMITS__{key.upper()}": str(value) for key, value in limits.items()}
    command = [sys.executable, "-m", "servekit", "check", "--json", str(path)]
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60
    )
    return ended.returncode, json.loads(ended.stdout) if ended.stdout else {}, ended.stderr


def loads(path: Path, key: str, at: int) -> None:
    """At the limit the model can be served; one below what it needs it cannot, and the text says why."""
    code, document, complaint = checked(path, **{key: at})
    assert code == 0, (document, complaint)
    code, document, complaint = checked(path, **{key: at - 1})
    model = document["models"][0]
    assert (code, model["state"], model["label"]) == (1, "failed", "model_file"), (model, complaint)
    assert str(at) in model["reason"]
    assert str(at - 1) in model["reason"]


def model_file_bytes(folder: Path) -> None:
    path = models.tiny(folder)
    loads(path, "model_file_bytes_max", path.stat().st_size)


def model_nodes(folder: Path) -> None:
    loads(models.tiny(folder), "model_nodes_max", 4)


def model_tensors(folder: Path) -> None:
    loads(models.two(folder), "model_tensors_max", 2)


def model_graph_depth(folder: Path) -> None:
    """A branch in a branch: two graphs inside each other, within the model's own."""

    def branch(name: str, nodes: list) -> object:
        output = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        return helper.make_graph([*nodes, helper.make_node("Identity", ["x"], [f"{name}_y"])], name, [], [output])

    def choice(name: str, nodes: list) -> object:
        return helper.make_node(
            "If", ["yes"], [name], then_branch=branch(f"{name}_then", nodes), else_branch=branch(f"{name}_else", [])
        )

    nodes = [choice("outer", [choice("inner", [])]), helper.make_node("Identity", ["outer"], ["y"])]
    inputs, outputs = [models.value("x", "FP32", ["N", 3])], [models.value("y", "FP32", ["N", 3])]
    path = models.write(folder / "nested.onnx", nodes, inputs, outputs, {"yes": np.bool_(1)})
    loads(path, "model_graph_depth_max", 2)


def models_served(folder: Path) -> None:
    models.ident(folder)
    models.tiny(folder)
    assert checked(folder, models_max=2)[0] == 0
    code, _, complaint = checked(folder, models_max=1)
    assert code == 2
    assert "2 models found, at most 1" in complaint


def model_name_bytes(folder: Path) -> None:
    at = models.identity(folder, "n" * 8, "FP32", ["N", 3])
    past = models.identity(folder, "n" * 9, "FP32", ["N", 3])
    assert checked(at, model_name_bytes_max=8)[0] == 0
    code, _, complaint = checked(past, model_name_bytes_max=8)
    assert code == 2
    assert "9 characters" in complaint
    assert "at most 8" in complaint


def load_time(folder: Path) -> None:
    """A real model takes a good part of a second; two at once share the processors."""
    shipped = next(Path(magika.__file__).parent.rglob("*.onnx"))
    with serving(shipped, environment={"SERVEKIT__LIMITS__LOAD_MS_MAX": "60000"}) as server:
        assert server.ready["models"] == [shipped.stem]
    with serving(shipped, environment={"SERVEKIT__LIMITS__LOAD_MS_MAX": "1"}, wait=False) as server:
        failed = server.event("model_failed")
        assert failed["label"] == "load_time"
        assert "took 1 ms, at most 1 are allowed; raise load_ms_max" in failed["reason"]
        assert server.ended() == 1


CHECKS: dict[str, Callable[[Path], None]] = {
    "load_ms_max": load_time,
    "model_file_bytes_max": model_file_bytes,
    "model_nodes_max": model_nodes,
    "model_tensors_max": model_tensors,
    "model_graph_depth_max": model_graph_depth,
    "models_max": models_served,
    "model_name_bytes_max": model_name_bytes,
}

MANAGED = Group(
    limits={
        "management_body_bytes_max": 1_000,
        "management_connections_max": 3,
        "metric_series_max": 40,
        "log_lines_per_second_max": 3,
        "log_field_bytes_max": 32,
    },
    models=(models.ident,),
    environment={"SERVEKIT__LOG__ACCESS_SAMPLE": "1"},
)


@MANAGED.case("management_body_bytes_max")
def management_body(server: ServerProcess) -> None:
    for size, expected in ((1_000, 200), (1_001, 413)):
        status, headers, _ = server.request("GET", "/healthz", b"b" * size, address=server.management)
        assert status == expected, size
    assert headers["servekit-refusal"] == "body"
    connection = http.client.HTTPConnection(server.management, timeout=20)
    connection.putrequest("GET", "/healthz")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    connection.send(b"3e9\r\n" + b"b" * 1_001 + b"\r\n0\r\n\r\n")
    assert connection.getresponse().status == 413
    connection.close()


@MANAGED.case("management_connections_max")
def management_connections(server: ServerProcess) -> None:
    opened = [HTTPConnection(server.management, timeout=20) for _ in range(3)]
    for connection in opened:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"ok\n")
    fourth = HTTPConnection(server.management, timeout=20)
    fourth.connect()
    assert fourth.sock.recv(1) == b""
    opened.pop().close()
    fourth.close()
    for connection in opened:
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
        connection.close()


@MANAGED.case("metric_series_max")
def metric_series(server: ServerProcess) -> None:
    first, second = (server.metrics() for _ in range(2))
    own = [name for name in first if not name.startswith(("process_", "servekit_metric_series_dropped"))]
    assert len(own) == 40
    dropped = "servekit_metric_series_dropped_total"
    assert second[dropped] == 2 * first[dropped] / (first[dropped] / (second[dropped] - first[dropped]))
    assert second[dropped] > first[dropped] > 0


def access_lines(server: ServerProcess) -> list[dict[str, Any]]:
    said = (json.loads(line) for line in list(server.lines) if line.startswith("{"))
    return [line for line in said if line["event"] == "request"]


@MANAGED.case("log_field_bytes_max")
def log_fields(server: ServerProcess) -> None:
    def logged(identity: str) -> str:
        """Sends until a line is told: lines beyond those of a second are dropped."""

        def told() -> str:
            with raw_connection(server) as connection:
                served(connection.ask(infer("ident", body(row(1, 2, 3), id=identity))))
            found = [str(line["id"]) for line in access_lines(server) if str(line["id"])[:8] == identity[:8]]
            assert found, "no line told yet"
            return found[0]

        return waited(told, 20)

    assert logged("at-limit".ljust(32, "i")) == "at-limit".ljust(32, "i")
    assert logged("one-past".ljust(33, "i")) == "one-past".ljust(32, "i") + "…"


@MANAGED.case("log_lines_per_second_max")
def log_lines(server: ServerProcess) -> None:
    requests = 60
    with raw_connection(server) as connection:

        def burst() -> None:
            for position in range(requests):
                served(connection.ask(infer("ident", body(row(1, 2, 3), id=f"burst{position}"))))

        seconds = elapsed(burst)
    lines = [line for line in access_lines(server) if str(line["id"]).startswith("burst")]
    assert len(lines) <= 3 * (int(seconds) + 2) < requests


DELAYED = Group(
    limits={"drain_delay_ms": 600, "drain_ms_max": 5_000},
    models=(models.ident,),
)
MISSED = Group(
    limits={"drain_delay_ms": 0, "drain_ms_max": 700, "run_ms_max": 60_000},
    models=(models.ident, models.spin),
    environment=placed(ident="inline", spin="pool"),
)


@DELAYED.case("drain_delay_ms")
def drain_delay(server: ServerProcess) -> None:
    with raw_connection(server) as connection, raw_connection(server) as idle:
        served(connection.ask(infer("ident", GOOD)))
        served(idle.ask(infer("ident", GOOD)))
        server.signal(signal.SIGTERM)
        server.event("draining")
        assert connection.ask(get("/v2/health/ready")).status == 503
        answer = connection.ask(infer("ident", GOOD))
        served(answer)
        assert "connection" not in answer.headers
        assert elapsed(idle.closed) <= 0.6 + 1.0
        assert connection.closed()
    assert server.ended() == 0


@MISSED.case("drain_ms_max")
def drain_time(server: ServerProcess) -> None:
    with peer(server) as caller:
        number, frames = caller.called(spin_message(10**12))
        caller.send(*frames)
        server.settles("servekit_in_flight_requests", 1, model="spin")
        server.signal(signal.SIGTERM)
        server.event("draining")
        assert within(elapsed(lambda: caller.answered(number)), 700)
        refused(caller.replies[number], 14, "draining")
    assert server.ended() == 3
    last = json.loads(server.lines[-1])
    assert (last["event"], last["unanswered"]) == ("drain_missed", 1)


GROUPS = {"managed": MANAGED, "delayed": DELAYED, "missed": MISSED}
