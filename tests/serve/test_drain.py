"""The end: whoever was let in gets an answer, whoever comes later is told to go, and the exit code says how it went."""

import json
import os
import signal
import threading
from collections import Counter
from http.client import HTTPException
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.utils
from hyperframe.frame import DataFrame, PingFrame

from tests.serve import models, pipelines
from tests.serve.alive import waited
from tests.serve.limit_cases import Group, body, message, placed, row, served, spin_message, tensor
from tests.serve.process import serving
from tests.serve.raw_frames import GRPC_FIELDS, INFER_PATH, peer, prefixed
from tests.serve.raw_http import RawConnection, get, head, infer, raw_connection
from tests.serve.stubs import stub_module
from tests.serve.transports import TRANSPORTS, Asked, RefusedError

GOOD = body(row(1.5, -2.0, 3.25))
MESSAGE = message("ident", ("x", "FP32", [1, 3], np.array([1.5, -2.0, 3.25], np.float32).tobytes()))
LONG = 2 * 10**6
"""Turns of `spin` that take longer than the drain waits before it asks everybody to go."""
PSEUDO = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", INFER_PATH), *GRPC_FIELDS]
HEALTH_PATH = "/grpc.health.v1.Health/"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"

GROUP = Group(
    limits={"drain_delay_ms": 500, "drain_ms_max": 20_000, "run_ms_max": 60_000},
    models=(models.ident, models.spin),
    environment=placed(ident="inline", spin="pool"),
)


def last_event(server):
    return [json.loads(line) for line in server.lines if line.startswith("{")][-1]


def test_all_that_was_begun_is_answered_and_everybody_is_told(tmp_path):
    request = infer("ident", GOOD)
    turns = body(tensor("n", "INT64", [1], [LONG]))
    with (
        GROUP.served(tmp_path) as server,
        raw_connection(server) as half,
        raw_connection(server) as waits,
        raw_connection(server) as idle,
        peer(server) as caller,
        peer(server) as watcher,
    ):
        # In the middle of an upload, in the middle of a run, and asked about health, over both protocols.
        half.send(request[:-10])
        waits.send(infer("spin", turns))
        unfinished = caller.stream()
        caller.send(caller.headers(unfinished, PSEUDO), DataFrame(unfinished, data=prefixed(MESSAGE)[:20]))
        run = caller.called(spin_message(LONG))
        caller.send(*run[1])
        watch = watcher.called(b"", path=HEALTH_PATH + "Watch")
        watcher.send(*watch[1])
        watcher.until(lambda: SERVING in watcher.replies[watch[0]].body)
        served(idle.ask(get("/v2/health/ready")))
        server.settles("servekit_in_flight_requests", 2, model="spin")

        server.signal(signal.SIGTERM)
        watcher.until(lambda: NOT_SERVING in watcher.replies[watch[0]].body)
        assert idle.ask(get("/v2/health/ready")).status == 503
        assert idle.ask(get("/v2/health/live")).status == 200
        assert NOT_SERVING in watcher.call(b"", path=HEALTH_PATH + "Check").body
        assert watcher.goaway is None
        with raw_connection(server) as newcomer:
            served(newcomer.ask(infer("ident", GOOD)))

        assert caller.gone().error_code == 0
        assert watcher.gone().error_code == 0
        assert idle.closed()
        waited(lambda: refuses_connections(server))
        caller.send(DataFrame(unfinished, data=prefixed(MESSAGE)[20:], flags=["END_STREAM"]))
        served(caller.answered(unfinished))
        for connection, missing in ((half, request[-10:]), (waits, b"")):
            connection.send(missing)
            answer = connection.answer()
            served(answer)
            assert answer.headers["connection"] == "close"
            assert connection.closed()
        served(caller.answered(run[0]))
        assert caller.closed()
        assert server.ended() == 0
    last = last_event(server)
    assert (last["event"], last["unanswered"]) == ("drained", 0)


def refuses_connections(server):
    with pytest.raises(OSError, match=r"refused|reset|ended"):
        server.request("GET", "/v2/health/live")


LEFT = (
    ConnectionError,
    HTTPException,
    httpx.TransportError,
    tritonclient.utils.InferenceServerException,
    RefusedError,
)


class Client(threading.Thread):
    """Asks again as soon as it has its answer, until the server is gone."""

    def __init__(self, transport, server, model):
        super().__init__(daemon=True)
        self.answers = 0
        self.fault = None
        self.end = None
        self._call = transport, server, model

    def run(self):
        transport, server, model = self._call
        sent = np.array([[1.5, -2.0, 3.25]], np.float32)
        try:
            with TRANSPORTS[transport](server) as infer:
                while self.end is None:
                    try:
                        answer = infer(Asked(model, {"x": sent}))
                    except LEFT as error:
                        self.end = error
                    else:
                        np.testing.assert_array_equal(answer["y"], sent)
                        self.answers += 1
        except Exception as error:  # noqa: BLE001 # whatever it is, the test must hear of it
            self.fault = error

    def left_in_peace(self):
        """It got no answer because there was nobody any more, not because it was refused or forgotten."""
        if isinstance(self.end, RefusedError):
            return self.end.status == "UNAVAILABLE" and not self.end.label
        if isinstance(self.end, tritonclient.utils.InferenceServerException):
            return "UNAVAILABLE" in str(self.end.status())
        return self.end is not None


def identity(name):
    return lambda folder: models.identity(folder, name, "FP32", ["N", "D"])


# Not httpx over HTTP/2: it gives its open streams up when it is told to go, so its answers are lost on its side.
@pytest.mark.parametrize("transport", ["json", "binary", "httpx", "grpc", "triton-http", "triton-grpc"])
def test_under_load_no_answer_is_lost(tmp_path, transport):
    # Every answer has its line in the log, so that the lines can be compared with the answers that came.
    group = Group(
        limits={"drain_delay_ms": 300, "drain_ms_max": 20_000, "log_lines_per_second_max": 10**9},
        models=(identity("inline"), identity("pool")),
        arguments=("--shards", "2", "--runners", "1"),
        environment={**placed(inline="inline", pool="pool"), "SERVEKIT__LOG__ACCESS_SAMPLE": "1"},
    )
    with group.served(tmp_path) as server:
        clients = [Client(transport, server, model) for model in ("inline", "pool") for _ in range(2)]
        for client in clients:
            client.start()
        waited(lambda: each(client.answers >= 20 for client in clients))
        server.signal(signal.SIGTERM)
        server.event("draining")
        reached = [client.answers for client in clients]
        waited(lambda: each(client.answers > count for client, count in zip(clients, reached, strict=True)))
        assert server.ended() == 0
        for client in clients:
            client.join(20)
    assert [client.fault for client in clients if client.fault] == []
    assert [client.end for client in clients if not client.left_in_peace()] == []
    lines = [json.loads(line) for line in server.lines if line.startswith("{")]
    answered = Counter(line["model"] for line in lines if line["event"] == "request" and line["outcome"] == "ok")
    received = Counter()
    for client in clients:
        received[client._call[2]] += client.answers
    assert received == answered
    assert {line["outcome"] for line in lines if line["event"] == "request"} == {"ok"}
    assert next(line for line in lines if line["event"] == "drained")["unanswered"] == 0


def each(conditions):
    assert all(conditions)


def test_whoever_still_writes_after_its_last_answer_is_not_reset(tmp_path):
    # A reset can make a client forget answers that it has received and not yet read.
    with GROUP.served(tmp_path) as server, peer(server) as caller:
        number, frames = caller.called(spin_message(LONG))
        caller.send(*frames)
        server.settles("servekit_in_flight_requests", 1, model="spin")
        server.signal(signal.SIGINT)
        served(caller.answered(number))
        assert caller.closed()
        # The first would be answered with a reset, the second would meet it.
        for _ in range(2):
            caller.send(PingFrame(0, opaque_data=b"a window"))
        caller.socket.close()
        assert server.ended() == 0


def test_a_health_client_sees_the_drain(tmp_path):
    messages, services = stub_module("health_pb2"), stub_module("health_pb2_grpc")
    with GROUP.served(tmp_path) as server, grpc.insecure_channel(server.grpc) as channel:
        told = services.HealthStub(channel).Watch(messages.HealthCheckRequest(service="ident"), timeout=30)
        statuses = iter(told)
        assert next(statuses).status == messages.HealthCheckResponse.SERVING
        server.signal(signal.SIGTERM)
        assert next(statuses).status == messages.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as ended:
            next(statuses)
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert server.ended() == 0


def test_an_interrupt_ends_without_delay(tmp_path):
    with GROUP.served(tmp_path) as server, raw_connection(server) as idle:
        served(idle.ask(get("/v2/health/live")))
        server.signal(signal.SIGINT)
        assert server.event("draining")["delay_ms"] == 0
        assert idle.closed()
        assert server.ended(5) == 0
    assert last_event(server)["event"] == "drained"


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(tmp_path, first):
    with GROUP.served(tmp_path) as server, peer(server) as caller:
        caller.send(*caller.called(spin_message(10**12))[1])
        server.settles("servekit_in_flight_requests", 1, model="spin")
        server.signal(first)
        server.event("draining")
        server.signal(signal.SIGTERM)
        assert server.ended(5) == 3
    last = last_event(server)
    assert (last["event"], last["signal"]) == ("stopped_at_once", "SIGTERM")


def test_who_cannot_be_answered_in_time_is_counted_in_the_last_line(tmp_path):
    limits = {"drain_delay_ms": 0, "drain_ms_max": 600, "run_ms_max": 60_000}
    group = Group(limits, GROUP.models, environment=placed(ident="inline", spin="pool"))
    endless = body(tensor("n", "INT64", [1], [10**12]))
    with group.served(tmp_path) as server, raw_connection(server) as one, raw_connection(server) as two:
        with peer(server) as caller:
            number, frames = caller.called(spin_message(10**12))
            caller.send(*frames)
            one.send(infer("spin", endless))
            two.send(infer("spin", endless))
            server.settles("servekit_in_flight_requests", 3, model="spin")
            server.signal(signal.SIGTERM)
            answers = [one.answer(), two.answer(), caller.answered(number)]
        assert [answer.label for answer in answers] == ["draining"] * 3
        assert server.ended(5) == 3
    last = last_event(server)
    assert (last["event"], last["level"], last["unanswered"]) == ("drain_missed", "error", 3)


def slow(folder: Path) -> Path:
    """A model whose every run takes long, the first one at load as well."""
    from onnx import TensorProto, helper, numpy_helper

    step = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["count", "one"], ["counted"])],
        "step",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("count", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("counted", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.array([1], np.float32), "one")],
    )
    node = helper.make_node("Loop", ["turns", "true", "x"], ["y"], body=step)
    constants = {"true": np.bool_(1), "turns": np.int64(10**9)}
    inputs, outputs = [models.value("x", "FP32", ["N", 3])], [models.value("y", "FP32", ["N", 3])]
    return models.write(folder / "slow.onnx", [node], inputs, outputs, constants)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_models_load_ends_the_start(tmp_path, number):
    with serving(slow(tmp_path), wait=False) as server:
        waited(lambda: each([blocks(server.process.pid, number) and threads(server.process.pid) > 3]))
        server.signal(number)
        assert server.event("stopped_while_loading")["signal"] == signal.Signals(number).name
        assert server.ended(10) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_pipelines_are_compiled_ends_the_start(tmp_path, number):
    folder = pipelines.finite(tmp_path)
    endless = tmp_path / "endless"
    os.mkfifo(endless)
    code = folder / "kernels.py"
    code.write_text(f"open({str(endless)!r}).read()\n" + code.read_text())

    def reads():
        """The other end, once the server waits for what is written there."""
        try:
            return os.open(endless, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            raise AssertionError from error

    with serving(folder, arguments=["--allow-code"], wait=False) as server:
        end = waited(reads)
        try:
            server.signal(number)
            assert server.event("stopped_while_loading")["signal"] == signal.Signals(number).name
            assert server.ended(10) == 0
        finally:
            os.close(end)


def blocks(pid, number):
    """Whether the process keeps this signal for itself."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigBlk:")]
    return bool(int(mask, 16) >> (number - 1) & 1)


def threads(pid):
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def test_an_unfinished_head_does_not_hold_the_drain_up(tmp_path):
    limits = {"drain_delay_ms": 0, "drain_ms_max": 20_000, "header_read_ms_max": 500}
    with Group(limits, (models.ident,)).served(tmp_path) as server:
        connections = [RawConnection(server.connect()) for _ in range(3)]
        connections[0].send(head("GET /v2 HTTP/1.1")[:-2])
        connections[1].send(b"PRI * HT")
        server.signal(signal.SIGTERM)
        assert server.ended(10) == 0
        for connection in connections:
            connection.socket.close()
