"""Limits of what is let in, queued and run. Each group has a server of its own; its one runner is kept busy."""

from __future__ import annotations

import socket

from tests.serve import models
from tests.serve.ballast import MEMORY_BYTES_MAX
from tests.serve.limit_cases import (
    DEADLINE_EXCEEDED,
    INVALID_ARGUMENT,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    Group,
    body,
    ends_one,
    message,
    placed,
    refused,
    row,
    running,
    served,
    spin_message,
    tensor,
)
from tests.serve.limit_cases_time import within
from tests.serve.process import ServerProcess
from tests.serve.raw_frames import Peer, Reply, peer
from tests.serve.raw_http import Answer, RawConnection, elapsed, get, head, infer, raw_connection

MIB = 2**20
GOOD = body(row(1.5, -2.0, 3.25))
MESSAGE = message("ident", ("x", "FP32", [1, 3], bytes(12)))
PENDING = "nv_inference_pending_request_count"
ENDLESS = body(tensor("n", "INT64", [1], [10**12]))
ONE_TURN = body(tensor("n", "INT64", [1], [1]))

QUEUES = Group(
    limits={"queue_requests_max": 4, "model_queue_requests_max": 2, "run_ms_max": 1_500},
    models=(models.ident, models.spin, models.two),
    environment=placed(ident="pool", spin="pool", two="pool"),
)
TARGET = Group(
    limits={"latency_target_ms": 300, "deadline_ms_max": 600, "run_ms_max": 1_500},
    models=(models.ident, models.spin),
    environment=placed(ident="pool", spin="pool"),
)
PATIENCE = Group(
    limits={"queue_wait_ms_max": 300, "run_ms_max": 1_500},
    models=(models.ident, models.spin),
    environment=placed(ident="pool", spin="pool"),
)
BYTES = Group(limits={"in_flight_bytes_max": MIB}, models=(models.ident,))
MODEL_BYTES = Group(
    limits={"model_in_flight_bytes_max": 65_536, "run_ms_max": 1_500},
    models=(models.ident, models.spin),
    environment=placed(ident="pool", spin="pool"),
)
BATCHES = Group(limits={"batch_rows_max": 4, "batch_bytes_max": 160}, models=(models.ident,))
RUNS = Group(
    limits={"arena_bytes_max": 4 * MIB, "run_ms_max": 300, "row_failures_max": 2},
    models=(models.ident, models.grow, models.pick, models.spin),
)
CONNECTIONS = Group(
    limits={"connections_max": 4, "run_ms_max": 1_500},
    models=(models.ident, models.spin),
    environment=placed(ident="inline", spin="pool"),
)
PEERS = Group(
    limits={"connections_peer_max": 2},
    models=(models.ident,),
    arguments=("--shards", "1", "--runners", "1", "--host", "0.0.0.0"),
)


def both_refused(server: ServerProcess, status: int, code: int, label: str) -> None:
    """A good request is refused now, over both protocols, and its connection goes on."""
    with raw_connection(server) as connection:
        refused(connection.ask(infer("ident", GOOD)), status, label)
        served(connection.ask(get("/v2/health/live")))
    with peer(server) as caller:
        refused(caller.call(MESSAGE), code, label)
        served(caller.ask("/v2/health/live"))


def sent(caller: Peer, text: bytes) -> int:
    """The stream of a call that is not waited for."""
    number, frames = caller.called(text)
    caller.send(*frames)
    return number


@QUEUES.case("model_queue_requests_max")
def model_queue(server: ServerProcess) -> None:
    with running(server) as caller, peer(server) as other:
        queued = [sent(other, MESSAGE) for _ in range(2)]
        server.settles(PENDING, 2, model="ident")
        both_refused(server, 429, RESOURCE_EXHAUSTED, "queue_full")
        assert caller.answered(1).label == "lane_lost"
        for number in queued:
            served(other.answered(number))
        served(other.call(MESSAGE))


@QUEUES.case("queue_requests_max")
def queue(server: ServerProcess) -> None:
    pairs = message("two", *((name, "FP32", [1, 2], bytes(8)) for name in ("a", "b")))
    with running(server) as caller, peer(server) as other:
        # With the one that runs, these are as many as may be.
        queued = [sent(other, text) for text in (MESSAGE, pairs, pairs)]
        server.settles(PENDING, 2, model="two")
        server.settles(PENDING, 1, model="ident")
        both_refused(server, 429, RESOURCE_EXHAUSTED, "queue_full")
        assert caller.answered(1).label == "lane_lost"
        for number in queued:
            served(other.answered(number))


@TARGET.case("latency_target_ms")
def latency_target(server: ServerProcess) -> None:
    with peer(server) as other:
        served(other.call(MESSAGE))
    with busy(server), peer(server) as other, raw_connection(server) as connection:
        late(other, connection, 300)


def busy(server: ServerProcess):
    """The runner runs what its caller does not wait for."""
    return running(server)


def late(other: Peer, connection: RawConnection, limit_ms: int, wish: str = "") -> None:
    """Queued requests are told at their deadline, over both protocols."""
    connection.send(infer("ident", GOOD, *([f"x-request-timeout-ms: {wish}"] if wish else [])))
    number, frames = other.called(MESSAGE, *([("x-request-timeout-ms", wish)] if wish else []))
    other.send(*frames)
    answers: list[Answer] = []
    assert within(elapsed(lambda: answers.append(connection.answer())), limit_ms)
    refused(answers[0], 504, "deadline")
    refused(other.answered(number), DEADLINE_EXCEEDED, "deadline")


@TARGET.case("deadline_ms_max")
def deadline(server: ServerProcess) -> None:
    with peer(server) as other:
        served(other.call(MESSAGE, ("grpc-timeout", "99999999H")))
    server.settles("servekit_in_flight_requests", 0)
    with busy(server), peer(server) as other, raw_connection(server) as connection:
        late(other, connection, 600, "3600000")


@PATIENCE.case("queue_wait_ms_max")
def queue_wait(server: ServerProcess) -> None:
    with peer(server) as other:
        served(other.call(MESSAGE))
    with busy(server), peer(server) as other, raw_connection(server) as connection:
        late(other, connection, 300)


@BYTES.case("in_flight_bytes_max")
def in_flight_bytes(server: ServerProcess) -> None:
    half = MIB // 2
    announced = head("POST /v2/models/ident/infer HTTP/1.1", "Host: x", f"Content-Length: {half}")
    with raw_connection(server) as first, raw_connection(server) as second:
        first.send(announced)
        second.send(announced)
        server.settles("servekit_in_flight_bytes", MIB)
        both_refused(server, 503, RESOURCE_EXHAUSTED, "memory")
        served(first.ask(GOOD.ljust(half)))
        with raw_connection(server) as third:
            served(third.ask(infer("ident", GOOD)))
        served(second.ask(GOOD.ljust(half)))
    server.settles("servekit_in_flight_bytes", 0)


@MODEL_BYTES.case("model_in_flight_bytes_max")
def model_in_flight_bytes(server: ServerProcess) -> None:
    half = message("ident", ("x", "FP32", [1, 8_192], bytes(32_768)))
    with running(server) as caller, peer(server) as other:
        queued = [sent(other, half) for _ in range(2)]
        server.settles(PENDING, 2, model="ident")
        both_refused(server, 503, RESOURCE_EXHAUSTED, "memory")
        # Other models have their own share.
        waiting = sent(caller, spin_message(1))
        server.settles(PENDING, 1, model="spin")
        assert caller.answered(1).label == "lane_lost"
        served(caller.answered(waiting))
        for number in queued:
            served(other.answered(number))


def runs(server: ServerProcess, model: str = "ident") -> float:
    """Runs of a model so far."""
    return server.metric("nv_inference_exec_count", model=model)


def costs(server: ServerProcess, expected: int, request: bytes) -> None:
    """A request is answered, by so many runs."""
    before = runs(server)
    with raw_connection(server) as connection:
        served(connection.ask(infer("ident", request)))
    server.settles("nv_inference_exec_count", before + expected, model="ident")


@BATCHES.case("batch_rows_max")
def batch_rows(server: ServerProcess) -> None:
    costs(server, 1, body(tensor("x", "FP32", [4, 2], range(8))))
    costs(server, 2, body(tensor("x", "FP32", [5, 2], range(10))))
    # Several callers' rows fill batches as well.
    before = runs(server)
    with peer(server) as caller:
        calls = [caller.called(MESSAGE) for _ in range(8)]
        caller.send(*(frame for _, frames in calls for frame in frames))
        for number, _ in calls:
            served(caller.answered(number))
    assert runs(server) >= before + 2


@BATCHES.case("batch_bytes_max")
def batch_bytes(server: ServerProcess) -> None:
    costs(server, 1, body(tensor("x", "FP32", [2, 20], range(40))))
    costs(server, 2, body(tensor("x", "FP32", [2, 21], range(42))))
    costs(server, 1, body(tensor("x", "FP32", [1, 40], range(40))))
    with raw_connection(server) as connection:
        past = body(tensor("x", "FP32", [1, 41], range(41)))
        refused(connection.ask(infer("ident", past)), 400, "tensor_size")
    with peer(server) as caller:
        past = message("ident", ("x", "FP32", [1, 41], bytes(164)))
        refused(caller.call(past), INVALID_ARGUMENT, "tensor_size")


def sized(rows: int, columns: int) -> bytes:
    return message("grow", ("n", "INT64", [1, 2], rows.to_bytes(8, "little") + columns.to_bytes(8, "little")))


@RUNS.case("arena_bytes_max")
def arena(server: ServerProcess) -> None:
    with peer(server) as caller:
        served(caller.call(sized(500, 1_000)))
        refused(caller.call(sized(1_000, 2_000)), RESOURCE_EXHAUSTED, "run_memory")
        served(caller.call(sized(500, 1_000)))
    with raw_connection(server) as connection:
        past = body(tensor("n", "INT64", [1, 2], [1_000, 2_000]), parameters={"binary_data_output": True})
        refused(connection.ask(infer("grow", past)), 413, "run_memory")


@RUNS.case("run_ms_max")
def run_time(server: ServerProcess) -> None:
    with raw_connection(server) as connection:
        served(connection.ask(infer("spin", ONE_TURN)))
        answers: list[Answer] = []
        connection.send(infer("spin", ENDLESS))
        assert within(elapsed(lambda: answers.append(connection.answer())), 300)
        refused(answers[0], 503, "lane_lost")
        served(connection.ask(infer("spin", ONE_TURN)))
    with peer(server) as caller:
        refused(caller.call(spin_message(10**12)), UNAVAILABLE, "lane_lost")
        served(caller.call(spin_message(1)))


def picked(index: int) -> bytes:
    return message("pick", ("i", "INT64", [1], index.to_bytes(8, "little")))


@RUNS.case("row_failures_max")
def row_failures(server: ServerProcess) -> None:
    def together(caller: Peer) -> float:
        """Runs that four calls in one write take."""
        before = runs(server, "pick")
        calls = [caller.called(picked(1)) for _ in range(4)]
        caller.send(*(frame for _, frames in calls for frame in frames))
        for number, _ in calls:
            served(caller.answered(number))
        return runs(server, "pick") - before

    with peer(server) as caller, peer(server) as other:
        refused(caller.call(picked(99)), INVALID_ARGUMENT, "row")
        assert together(caller) == 1
        refused(caller.call(picked(99)), INVALID_ARGUMENT, "row")
        assert together(caller) == 4
        assert together(other) == 1


@CONNECTIONS.case("connections_max")
def connections(server: ServerProcess) -> None:
    opened = []
    for _ in range(4):
        opened.append(RawConnection(server.connect()))
        served(opened[-1].ask(get("/v2/health/live")))
    with ends_one(server, "connections"):
        opened.append(RawConnection(server.connect()))
        served(opened[-1].ask(get("/v2/health/live")))
    displaced = opened.pop(0)
    assert displaced.closed()
    # Where all are busy, the newcomer waits until one is not.
    opened[0].send(infer("spin", ENDLESS))
    server.settles("servekit_in_flight_requests", 1, model="spin")
    for connection in opened[1:]:
        connection.send(infer("spin", ONE_TURN))
    server.settles("servekit_in_flight_requests", 4, model="spin")
    newcomer = RawConnection(server.connect())
    newcomer.send(get("/v2/health/live"))
    assert newcomer.silent(0.2)
    refused(opened[0].answer(), 503, "lane_lost")
    served(newcomer.answer())
    for connection in [displaced, *opened, newcomer]:
        connection.socket.close()
    server.settles("servekit_connections", 0)


def outer_address() -> str | None:
    """An address of this machine that is not loopback. Nothing is sent to learn it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


@PEERS.case("connections_peer_max")
def connections_of_one_peer(server: ServerProcess) -> None:
    address, port = outer_address(), int(server.http.rsplit(":", 1)[1])
    if address is None:
        import pytest

        pytest.skip("this machine has no address but loopback, which is exempt")
    opened = [RawConnection(socket.create_connection((address, port))) for _ in range(2)]
    for connection in opened:
        served(connection.ask(get("/v2/health/live")))
    with ends_one(server, "connections_peer"), socket.create_connection((address, port)) as refused_one:
        assert RawConnection(refused_one).closed()
    for _ in range(4):
        local = RawConnection(socket.create_connection(("127.0.0.1", port)))
        served(local.ask(get("/v2/health/live")))
        opened.append(local)
    opened.pop(0).socket.close()
    server.settles("servekit_connections", 5)
    again = RawConnection(socket.create_connection((address, port)))
    served(again.ask(get("/v2/health/live")))
    for connection in [*opened, again]:
        connection.socket.close()


MEMORY = Group(limits={"memory_bytes_max": MEMORY_BYTES_MAX}, models=(models.ident,))
GROUPS = {
    "queues": QUEUES,
    "target": TARGET,
    "patience": PATIENCE,
    "bytes": BYTES,
    "model_bytes": MODEL_BYTES,
    "batches": BATCHES,
    "runs": RUNS,
    "connections": CONNECTIONS,
    "peers": PEERS,
}


def asked(server: ServerProcess, size: int) -> Answer:
    """The answer to a good request of so many bytes."""
    with raw_connection(server) as connection:
        return connection.ask(infer("ident", GOOD.ljust(size)))


def called(server: ServerProcess) -> Reply:
    with peer(server) as caller:
        return caller.call(MESSAGE)
