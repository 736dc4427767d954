"""Every error of the catalogue, by a real request: its codes, its text, and what goes with it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hyperframe.frame import RstStreamFrame

from servekit.errors import CATALOGUE
from tests.serve import models
from tests.serve.error_cases import ARGUED, ENDLESS, GOOD, GROUP, HTTP, RPC, SPECIAL, G
from tests.serve.limit_cases import Group, body, message, placed, refused, row, running, served, spin_message
from tests.serve.raw_frames import peer
from tests.serve.raw_http import abort, get, head, infer, raw_connection

ROWS = {row.label: row for row in CATALOGUE}
CLOSING = {"framing", "uri", "headers", "http_version", "body", "read_timeout"}
ONLY_HTTP = {"uri", "method", "http_version", "json", "json_depth", "binary_header", "binary_length"}
ONLY_RPC = {"protobuf", "contents"}
# No gRPC request has another content type: without application/grpc it is a request of HTTP.
ONLY_HTTP_IN_EFFECT = {"media_type"}
COMMAND = [sys.executable, "-m", "servekit"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with GROUP.served(tmp_path_factory.mktemp("models")) as server:
        yield server


def test_every_label_has_a_case_in_every_protocol_in_which_it_can_be_said():
    http, rpc = ({case.label for case in cases} for cases in (HTTP, RPC))
    apart = set(ARGUED) | SPECIAL
    assert http == set(ROWS) - apart - ONLY_RPC
    assert rpc == set(ROWS) - apart - ONLY_HTTP - ONLY_HTTP_IN_EFFECT
    assert {label for label, row in ROWS.items() if row.grpc is None} == ONLY_HTTP


@pytest.mark.parametrize("case", HTTP, ids=lambda case: f"{case.label}")
def test_a_refusal_over_http_says_what_the_catalogue_says(server, case):
    with raw_connection(server) as connection:
        answer = connection.ask(case.request)
        refused(answer, ROWS[case.label].http, case.label)
        assert case.words in answer.text
        assert answer.headers["content-type"] == "application/json"
        assert set(json.loads(answer.body)) == {"error"}
        for name, value in case.fields:
            assert answer.headers[name] == value
        if case.label in CLOSING:
            assert answer.headers["connection"] == "close"
            assert connection.closed()
        else:
            assert "connection" not in answer.headers
            served(connection.ask(infer("ident", G)))


@pytest.mark.parametrize("case", [case for case in HTTP if case.label not in CLOSING], ids=lambda case: case.label)
def test_a_refusal_over_http2_is_the_same(server, case):
    head, _, text = case.request.partition(b"\r\n\r\n")
    line, *fields = head.decode().split("\r\n")
    method, path, _ = line.split(" ")
    sent = [(name.lower(), value) for name, value in (field.split(": ", 1) for field in fields) if name != "Host"]
    with peer(server) as caller:
        number = caller.stream()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", path)]
        frames = caller.opened(path, text)[1][1:] if text else []
        for frame in frames:
            frame.stream_id = number
        caller.send(caller.headers(number, [*pseudo, *sent], end=not text), *frames)
        answer = caller.answered(number)
        refused(answer, ROWS[case.label].http, case.label)
        assert case.words in json.loads(answer.body)["error"]
        served(caller.ask("/v2/models/ident/infer", G))


@pytest.mark.parametrize("case", RPC, ids=lambda case: case.label)
def test_a_refusal_over_grpc_says_what_the_catalogue_says(server, case):
    with peer(server) as caller:
        answer = case.call(caller)
        refused(answer, ROWS[case.label].grpc, case.label)
        assert case.words in answer.text
        assert answer.headers[":status"] == "200"
        served(caller.call(GOOD))


def test_a_refusal_names_the_request_by_the_id_that_its_caller_gave(server):
    with raw_connection(server) as connection:
        answer = connection.ask(infer("ident", body(row(1, 2), id="7", outputs=[{"name": "z"}])))
        assert answer.text.startswith("[request id: 7] unexpected inference output 'z'")
    with peer(server) as caller:
        answer = caller.call(message("pick", ("i", "INT64", [1], (99).to_bytes(8, "little")), id="7"))
        assert answer.text.startswith("[request id: 7] model 'pick' fails on this request alone")


def test_a_full_queue_says_when_to_come_back(server):
    with running(server), peer(server) as other:
        other.send(*other.called(GOOD)[1])
        server.settles("nv_inference_pending_request_count", 1, model="ident")
        with raw_connection(server) as connection:
            answer = connection.ask(infer("ident", G))
            refused(answer, 429, "queue_full")
            assert "queue of 'ident' holds 1 of 1 requests: Exceeds maximum queue size" in answer.text
        with peer(server) as caller:
            refused(caller.call(GOOD), 8, "queue_full")


def test_memory_that_is_used_up_says_when_to_come_back(tmp_path):
    # Bodies that do not come are waited for until all is looked at, however busy the machine is.
    group = Group({"in_flight_bytes_max": 2 * 2**20, "body_grace_ms_max": 60_000}, (models.ident,))
    announced = head("POST /v2/models/ident/infer HTTP/1.1", "Host: x", f"Content-Length: {2**20}")
    with group.served(tmp_path) as server, raw_connection(server) as one, raw_connection(server) as two:
        one.send(announced)
        two.send(announced)
        server.settles("servekit_in_flight_bytes", 2 * 2**20)
        with raw_connection(server) as connection:
            answer = connection.ask(infer("ident", G))
            refused(answer, 503, "memory")
            assert "request needs 80 bytes" in answer.text
        with peer(server) as caller:
            refused(caller.call(GOOD), 8, "memory")


def test_a_caller_who_leaves_is_counted_and_nobody_is_told(server):
    before = server.metric("servekit_requests_cancelled_total")
    timed = server.metric("servekit_request_duration_seconds_count", model="ident", outcome="cancelled")
    with running(server), raw_connection(server) as connection, peer(server) as caller:
        connection.send(infer("ident", G))
        server.settles("servekit_in_flight_requests", 1, model="ident")
        abort(connection.socket)
        server.settles("servekit_requests_cancelled_total", before + 1)
        number, frames = caller.called(GOOD)
        caller.send(*frames)
        server.settles("servekit_in_flight_requests", 1, model="ident")
        caller.send(RstStreamFrame(number, error_code=8))
        server.settles("servekit_requests_cancelled_total", before + 2)
    server.settles("servekit_request_duration_seconds_count", timed + 2, model="ident", outcome="cancelled")


def test_who_waits_when_the_drain_is_over_is_told_to_go_elsewhere(tmp_path):
    limits = {"drain_delay_ms": 0, "drain_ms_max": 500, "run_ms_max": 60_000}
    group = Group(limits, (models.ident, models.spin), environment=placed(ident="inline", spin="pool"))
    with group.served(tmp_path) as server, peer(server) as caller, raw_connection(server) as connection:
        number, frames = caller.called(spin_message(10**12))
        caller.send(*frames)
        connection.send(infer("spin", ENDLESS))
        server.settles("servekit_in_flight_requests", 2, model="spin")
        server.signal(signal.SIGTERM)
        words = "Server is stopping, scheduler for model has stopped accepting new inference requests"
        answer = connection.answer()
        refused(answer, 503, "draining")
        assert words in answer.text
        reply = caller.answered(number)
        refused(reply, 14, "draining")
        assert words in reply.text


def checked(path: Path, *arguments: str) -> dict:
    command = [*COMMAND, "check", "--json", str(path), *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=dict(os.environ))
    assert ended.returncode == 1, ended.stderr
    return json.loads(ended.stdout)["models"][0]


def test_a_model_whose_data_lie_elsewhere_is_refused_by_its_path(tmp_path):
    path = models.external(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"weights.bin", b"../weig.bin"))
    model = checked(path)
    assert (model["label"], model["state"]) == ("model_path", "failed")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\xff" * 64)
    assert checked(path)["label"] == "model_file"


def test_a_device_that_is_not_there_is_refused(tmp_path):
    model = checked(models.ident(tmp_path), "--device", "cuda")
    assert model["label"] == "load_refused"
    assert "onnxruntime-gpu" in model["reason"]


def test_nothing_of_the_server_leaks_into_what_callers_are_told(server):
    with raw_connection(server) as connection:
        connection.ask(infer("broken", G))
        answers = [connection.ask(get(path)).body for path in ("/v2", "/v2/models", "/v2/models/ident")]
    folder = os.fsencode(Path(server.process.args[4]).parent)
    assert not [answer for answer in answers if folder in answer]
