"""Faults that can be made from outside: the server, or the next one, goes on as if nothing had been."""

import json
import resource
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from tests.serve import models
from tests.serve.alive import MIB, Standing, alive, descriptors, resident_bytes, waited
from tests.serve.limit_cases import (
    Group,
    body,
    message,
    placed,
    python_path,
    refused,
    row,
    served,
    spin_message,
    tensor,
)
from tests.serve.process import serving
from tests.serve.raw_frames import Peer, peer
from tests.serve.raw_http import RawConnection, abort, get, head, infer, raw_connection

GOOD = body(row(1.5, -2.0, 3.25))
MESSAGE = message("ident", ("x", "FP32", [1, 3], bytes(12)))
ENDLESS = body(tensor("n", "INT64", [1], [10**12]))
ONE_SHARD = ("--shards", "1", "--runners", "1")
ALIVE = (models.ident, models.tiny)
PLACED = placed(ident="inline", tiny="inline", spin="pool")


def ports(server):
    """The addresses of a server, as flags for the next."""
    http, grpc = (address.rsplit(":", 1)[1] for address in (server.http, server.grpc))
    return ["--http-port", http, "--grpc-port", grpc]


def test_after_a_kill_the_next_start_takes_everything_over(tmp_path):
    paths = [model(tmp_path) for model in ALIVE]
    uds = tmp_path / "servekit.sock"
    with serving(*paths, arguments=["--uds", str(uds)]) as server, raw_connection(server) as connection:
        connection.send(infer("ident", GOOD)[:-1])
        again = ports(server)
        with peer(server) as caller:
            served(caller.call(MESSAGE))
            server.signal(signal.SIGKILL)
            assert server.ended() == -signal.SIGKILL
            assert caller.closed()
        assert connection.closed()
        assert uds.exists()
        with serving(*paths, arguments=["--uds", str(uds), *again]) as next_server:
            assert ports(next_server) == again
            alive(next_server)
            with socket.socket(socket.AF_UNIX) as local:
                local.connect(str(uds))
                served(RawConnection(local).ask(get("/v2/health/ready")))
    assert not uds.exists()


def test_a_process_that_stood_still_does_not_run_what_has_expired(tmp_path):
    group = Group(
        {"run_ms_max": 60_000}, (*ALIVE, models.spin), ONE_SHARD, placed(ident="inline", tiny="inline", spin="pool")
    )
    with group.served(tmp_path) as server, peer(server) as caller, raw_connection(server) as connection:
        served(caller.call(MESSAGE))
        served(connection.ask(infer("ident", GOOD)))
        runs = server.metric("nv_inference_exec_count", model="spin")
        # One runs while the process stands still, the others wait behind it until their time has passed.
        first = caller.called(spin_message(10**6))
        caller.send(*first[1])
        server.settles("servekit_in_flight_requests", 1, model="spin")
        late = [caller.called(spin_message(1), ("grpc-timeout", "300m")) for _ in range(3)]
        caller.send(*(frame for _, frames in late for frame in frames))
        server.settles("servekit_in_flight_requests", 4, model="spin")
        server.signal(signal.SIGSTOP)
        caller.quiet(0.5)
        server.signal(signal.SIGCONT)
        for number, _ in late:
            refused(caller.answered(number), 4, "deadline")
        served(caller.answered(first[0]))
        server.settles("nv_inference_exec_count", runs + 1, model="spin")
        served(connection.ask(infer("ident", GOOD)))
        alive(server)


def picked(index):
    return message("pick", ("i", "INT64", [1], index.to_bytes(8, "little")))


def together(caller: Peer, indices):
    """Calls in one write, so that they meet in one batch; their answers."""
    calls = [caller.called(picked(index)) for index in indices]
    caller.send(*(frame for _, frames in calls for frame in frames))
    return [caller.answered(number) for number, _ in calls]


def test_one_bad_row_among_64_harms_nobody_else(tmp_path):
    with Group({}, (*ALIVE, models.pick), ONE_SHARD).served(tmp_path) as server, peer(server) as caller:
        runs = lambda: server.metric("nv_inference_exec_count", model="pick")  # noqa: E731
        together(caller, [0])
        before = runs()
        answers = together(caller, [position % 4 if position != 40 else 99 for position in range(64)])
        refused(answers.pop(40), 3, "row")
        rows = np.arange(12, dtype=np.float32).reshape(4, 3)
        for position, answer in zip([p for p in range(64) if p != 40], answers, strict=True):
            served(answer)
            assert answer.body.endswith(rows[position % 4].tobytes())
        assert 2 <= runs() - before <= 13
        # After three of them the connection's requests run alone, and only this connection's.
        for _ in range(2):
            together(caller, [99])
        before = runs()
        assert [answer.code for answer in together(caller, [1] * 5)] == [0] * 5
        assert runs() - before == 5
        with peer(server) as other:
            before = runs()
            together(other, [1] * 5)
            assert runs() - before == 1
        assert server.metric("servekit_model_ready", model="pick") == 1
        alive(server)


def test_a_run_without_end_is_stopped_and_others_are_answered_meanwhile(tmp_path):
    # The one runner is busy, so the others run on the network thread, which must not be.
    group = Group({"run_ms_max": 800}, (*ALIVE, models.spin), ONE_SHARD, placed(ident="inline", tiny="inline"))
    with group.served(tmp_path) as server, peer(server) as caller:
        before = Standing.of(server)
        number, frames = caller.called(spin_message(10**12))
        caller.send(*frames)
        server.settles("servekit_in_flight_requests", 1, model="spin")
        answered = 0
        with raw_connection(server) as connection:
            while not caller.replies[number].ended:
                served(connection.ask(infer("ident", GOOD)))
                answered += 1
                caller.quiet(0.005)
        refused(caller.replies[number], 14, "lane_lost")
        assert answered >= 20
        # The lane was replaced.
        served(caller.call(spin_message(3)))
        alive(server, before, {"lane_lost": 1})


def test_a_request_that_asks_for_too_much_memory_fails_alone(tmp_path):
    def sized(rows, columns):
        raw = rows.to_bytes(8, "little") + columns.to_bytes(8, "little")
        return message("grow", ("n", "INT64", [1, 2], raw))

    with Group({}, (*ALIVE, models.grow)).served(tmp_path) as server, peer(server) as caller:
        before = Standing.of(server)
        calls = [caller.called(sized(100_000, 100_000) if at == 31 else sized(2, 2)) for at in range(64)]
        caller.send(*(frame for _, frames in calls for frame in frames))
        answers = [caller.answered(number) for number, _ in calls]
        refused(answers.pop(31), 8, "run_memory")
        for answer in answers:
            served(answer)
            assert answer.body.endswith(np.ones(4, np.float32).tobytes())
        assert server.metric("servekit_model_ready", model="grow") == 1
        served(caller.call(sized(2, 2)))
        alive(server, before, {"run_memory": 1})


CLIENT = """
import socket, sys
connected = socket.create_connection((sys.argv[1], int(sys.argv[2])))
connected.sendall(bytes.fromhex(sys.argv[3]))
if sys.argv[4] == "read":
    connected.recv(4096)
print("there", flush=True)
connected.recv(1 << 30) if sys.argv[4] == "wait" else sys.stdin.read()
"""


def test_clients_that_are_killed_leave_nothing_behind(tmp_path):
    group = Group(
        {"run_ms_max": 300},
        (*ALIVE, models.grow, models.spin),
        environment=PLACED,
    )
    large = body(tensor("n", "INT64", [1, 2], [2_000, 2_000]), parameters={"binary_data_output": True})
    kinds = [
        (infer("ident", GOOD)[:-20], "hold"),
        (infer("spin", ENDLESS), "wait"),
        (infer("grow", large), "read"),
    ]
    with group.served(tmp_path) as server:
        host, port = server.http.rsplit(":", 1)
        before = Standing.of(server)
        for position in range(12):
            request, how = kinds[position % 3]
            command = [sys.executable, "-I", "-S", "-c", CLIENT, host, port, request.hex(), how]
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
                assert client.stdout.readline() == b"there\n"
                client.kill()
        for position in range(90):
            request, how = kinds[position % 3]
            connected = server.connect()
            connected.sendall(request)
            if how == "read":
                connected.recv(4096)
            abort(connected)
        server.settles("servekit_in_flight_bytes", 0)
        alive(server)
        waited(lambda: at_most(descriptors(server), before.descriptors))
        accepted = server.metric("servekit_requests_accepted_total")
        assert server.metric("servekit_requests_cancelled_total") > 0
        assert accepted == sum(server.metric(f"servekit_requests_{fate}_total") for fate in ("answered", "cancelled"))


def at_most(found, allowed):
    assert found <= allowed


def test_rows_whose_caller_has_left_the_queue_never_run(tmp_path):
    group = Group(
        {"run_ms_max": 800}, (*ALIVE, models.spin), ONE_SHARD, placed(ident="inline", tiny="inline", spin="pool")
    )
    with group.served(tmp_path) as server, peer(server) as caller:
        before = server.metric("nv_inference_exec_count", model="spin")
        number, frames = caller.called(spin_message(10**12))
        caller.send(*frames)
        server.settles("servekit_in_flight_requests", 1, model="spin")
        with peer(server) as leaver:
            calls = [leaver.called(spin_message(1)) for _ in range(10)]
            leaver.send(*(frame for _, frames in calls for frame in frames))
            server.settles("servekit_queue_rows", 10, model="spin")
        server.settles("servekit_queue_rows", 0, model="spin")
        assert caller.answered(number).label == "lane_lost"
        server.settles("nv_inference_exec_count", before + 1, model="spin")
        server.settles("servekit_requests_cancelled_total", 10)


def test_with_few_descriptors_everybody_is_answered_in_the_end(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))")
    # connections_max is moved out of the way, so that the descriptors themselves run out.
    group = Group({"connections_max": 1000}, ALIVE, environment=python_path(tmp_path))
    with more_descriptors(), group.served(tmp_path) as server:
        opened = [RawConnection(server.connect()) for _ in range(200)]
        for connection in opened:
            connection.send(infer("ident", GOOD, "Connection: close"))
        for connection in opened:
            served(connection.answer())
            connection.socket.close()
        assert len([line for line in server.lines if "accept_paused" in line]) == 1
        alive(server)


@contextmanager
def more_descriptors():
    """This process may open more than the one it watches."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_bodies_than_memory_are_refused_and_the_limit_holds(tmp_path):
    group = Group({"memory_bytes_max": 300 * MIB, "in_flight_bytes_max": 24 * MIB}, ALIVE)
    large = GOOD.ljust(8 * MIB)
    with group.served(tmp_path) as server:
        answers, peak = [], []

        def client():
            with raw_connection(server) as connection:
                connection.send(
                    head("POST /v2/models/ident/infer HTTP/1.1", "Host: x", f"Content-Length: {len(large)}")
                )
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.send(large)
                answers.append(connection.answer())
                peak.append(resident_bytes(server))

        clients = [threading.Thread(target=client) for _ in range(40)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join(60)
        assert len(answers) == 40
        for answer in answers:
            if answer.status != 200:
                refused(answer, 503, "memory")
        assert {answer.status for answer in answers} == {200, 503}
        assert max(peak) < 300 * MIB
        alive(server)


def test_after_many_requests_nothing_has_grown(tmp_path):
    with Group({}, ALIVE).served(tmp_path) as server:
        one, batch = infer("ident", GOOD), 50

        def ask(count):
            with raw_connection(server) as connection, peer(server) as caller:
                for _ in range(count // batch):
                    connection.send(one * (batch // 2))
                    for _ in range(batch // 2):
                        assert connection.answer().status == 200
                    calls = [caller.called(MESSAGE) for _ in range(batch // 2)]
                    caller.send(*(frame for _, frames in calls for frame in frames))
                    for number, _ in calls:
                        assert caller.answered(number).code == 0
                        del caller.replies[number]

        ask(4_000)
        before = Standing.of(server)
        ask(16_000)
        alive(server, before)
        assert resident_bytes(server) - before.resident_bytes < 8 * MIB
        assert server.metric("servekit_connections") == 0


@pytest.fixture
def mixed(tmp_path):
    models.ident(tmp_path)
    models.tiny(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"\xff" * 100)
    return tmp_path


def test_a_bad_model_beside_good_ones_takes_nobody_down(mixed):
    with serving(mixed) as server:
        assert server.ready["models"] == ["ident", "tiny"]
        failed = server.event("model_failed")
        assert (failed["model"], failed["label"], failed["level"]) == ("broken", "model_file", "error")
        assert server.request("GET", "/v2/health/ready")[0] == 200
        assert server.request("GET", "/v2/models/broken/ready")[0] == 503
        assert server.request("GET", "/v2/models/ident/ready")[0] == 200
        status, _, listed = server.request("GET", "/v2/models")
        assert status == 200
        assert b"ident" in listed
        assert server.metric("servekit_model_ready", model="broken") == 0
        assert server.request("GET", "/", address=server.management)[0] == 200
        alive(server)


def test_a_server_without_a_required_model_is_alive_and_not_ready(mixed):
    required = json.dumps([{"name": "broken", "required": True}])
    with serving(mixed, environment={"SERVEKIT__MODELS": required}) as server:
        assert server.request("GET", "/v2/health/live")[0] == 200
        assert server.request("GET", "/v2/health/ready")[0] == 503
        assert server.infer("ident", json.loads(GOOD))[0] == 200


def test_with_no_model_at_all_the_start_fails(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.onnx").write_bytes(b"\xff" * 100)
    with serving(tmp_path, wait=False) as server:
        assert server.ended() == 1
        events = [json.loads(line)["event"] for line in waited_lines(server) if line.startswith("{")]
    assert events == ["model_failed", "model_failed", "no_model_ready"]


def waited_lines(server):
    with server.said:
        server.said.wait_for(lambda: server.closed, 20)
    return server.lines
