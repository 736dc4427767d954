"""Limits of time, at a fiftieth of their defaults or less. Whoever waits here waits for the server's next word."""

from __future__ import annotations

from hyperframe.frame import DataFrame, PingFrame

from tests.serve import models
from tests.serve.limit_cases import (
    DEADLINE_EXCEEDED,
    Group,
    body,
    ends_one,
    message,
    placed,
    refused,
    row,
    served,
    spin_message,
    tensor,
)
from tests.serve.process import ServerProcess
from tests.serve.raw_frames import GRPC_FIELDS, INFER_PATH, PREFACE, Peer, Reply, peer, prefixed
from tests.serve.raw_http import RawConnection, elapsed, get, infer, raw_connection

PATH = "/v2/models/ident/infer"
GOOD = body(row(1.5, -2.0, 3.25))
MESSAGE = message("ident", ("x", "FP32", [1, 3], bytes(12)))
PSEUDO = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", INFER_PATH), *GRPC_FIELDS]
LATE_S_MAX = 1.0
"""How much later than at its limit something may happen on a machine that is busy with other things."""

QUIET = Group(
    limits={
        "handshake_ms_max": 200,
        "header_read_ms_max": 300,
        "connection_idle_ms_max": 600,
        "keepalive_interval_ms": 500,
        "keepalive_timeout_ms_max": 300,
        "run_ms_max": 2_500,
    },
    models=(models.ident, models.spin),
    environment=placed(ident="inline", spin="pool"),
)
SLOW = Group(
    limits={
        "body_grace_ms_max": 300,
        "body_bytes_per_second_min": 100,
        "body_read_ms_max": 900,
        "write_stall_ms_max": 500,
    },
    models=(models.ident, models.grow),
)
AGED = Group(
    # How often connections look at the clock follows from the shortest of the usual limits.
    limits={
        "connection_age_ms_max": 400,
        "connection_age_grace_ms_max": 400,
        "header_read_ms_max": 200,
        "run_ms_max": 3_000,
    },
    models=(models.ident, models.spin),
    environment=placed(ident="inline", spin="pool"),
)


def within(found_s: float, limit_ms: int) -> bool:
    """Something happened at its limit, not before and not long after."""
    return limit_ms / 1000 - 0.02 <= found_s <= limit_ms / 1000 + LATE_S_MAX


@QUIET.case("handshake_ms_max")
def handshake(server: ServerProcess) -> None:
    with raw_connection(server) as connection:
        assert connection.silent(0.1)
        served(connection.ask(get("/v2/health/live")))
    with ends_one(server, "handshake"), raw_connection(server) as connection:
        assert within(elapsed(connection.closed), 200)
    with ends_one(server, "handshake"), server.connect() as connected:
        connected.sendall(PREFACE)
        connection = RawConnection(connected)
        # Our own settings come, and GOAWAY, and then the end.
        assert within(elapsed(lambda: _drained(connection)), 200)


def _drained(connection: RawConnection) -> None:
    while connection.socket.recv(65_536):
        pass


@QUIET.case("header_read_ms_max")
def header_read(server: ServerProcess) -> None:
    request = infer("ident", GOOD)
    with raw_connection(server) as connection:
        connection.send(request[:40])
        assert connection.silent(0.15)
        served(connection.ask(request[40:]))
        connection.send(request[:40])
        answers = []
        assert within(elapsed(lambda: answers.append(connection.answer())), 300)
        refused(answers[0], 408, "read_timeout")
        assert connection.closed()


@QUIET.case("connection_idle_ms_max")
def connection_idle(server: ServerProcess) -> None:
    with raw_connection(server) as connection:
        served(connection.ask(infer("ident", GOOD)))
        assert connection.silent(0.4)
        served(connection.ask(infer("ident", GOOD)))
        with ends_one(server, "idle"):
            assert within(elapsed(connection.closed), 600)
    with peer(server) as caller, ends_one(server, "idle"):
        served(caller.call(MESSAGE))
        assert within(elapsed(caller.closed), 600)
        assert caller.goaway is not None
        assert caller.goaway.error_code == 0


def awaited(caller: Peer) -> int:
    """A call that runs for longer than anything else here takes."""
    number, frames = caller.called(spin_message(10**12))
    caller.send(*frames)
    return number


@QUIET.case("keepalive_interval_ms")
def keepalive_interval(server: ServerProcess) -> None:
    with peer(server) as caller:
        number = awaited(caller)
        assert within(elapsed(lambda: caller.until(lambda: caller.pings > 0)), 500)
        # A peer that answers is never taken for dead, however long its answer takes.
        assert caller.answered(number).label == "lane_lost"
        assert caller.pings >= 2


@QUIET.case("keepalive_timeout_ms_max")
def keepalive_timeout(server: ServerProcess) -> None:
    with peer(server) as caller:
        awaited(caller)
        caller.mute = True
        with ends_one(server, "dead_peer"):
            caller.until(lambda: caller.pings > 0)
            assert within(elapsed(caller.closed), 300)
    with peer(server) as caller:
        number = awaited(caller)
        caller.mute = True
        caller.until(lambda: caller.pings > 0)
        caller.quiet(0.1)
        # Any word is a sign of life.
        caller.send(PingFrame(0, opaque_data=b"I am old"))
        caller.mute = False
        caller.quiet(0.4)
        assert not caller.is_over
        assert caller.answered(number).label == "lane_lost"


@SLOW.case("body_bytes_per_second_min")
def body_pace(server: ServerProcess) -> None:
    with raw_connection(server) as connection:
        # 80 bytes within 0.5 s are faster than 100 a second, however they are spread.
        announced = infer("ident", GOOD)
        split = len(announced) - len(GOOD) // 2
        connection.send(announced[:split])
        assert connection.silent(0.33)
        served(connection.ask(announced[split:]))
        # Five bytes are slower at the end of the grace.
        connection.send(announced[: len(announced) - len(GOOD) + 5])
        answers = []
        assert within(elapsed(lambda: answers.append(connection.answer())), 300)
        refused(answers[0], 408, "read_timeout")
        assert connection.closed()
    with peer(server) as caller:
        number = caller.stream()
        caller.send(caller.headers(number, PSEUDO), DataFrame(number, data=prefixed(MESSAGE)[:8]))
        refused(caller.answered(number), DEADLINE_EXCEEDED, "read_timeout")
        served(caller.call(MESSAGE))


@SLOW.case("body_grace_ms_max")
def body_grace(server: ServerProcess) -> None:
    request = infer("ident", GOOD)
    start = len(request) - len(GOOD) + 1
    with raw_connection(server) as connection:
        connection.send(request[:start])
        assert connection.silent(0.2)
        served(connection.ask(request[start:]))
        connection.send(request[:start])
        answers = []
        assert within(elapsed(lambda: answers.append(connection.answer())), 300)
        refused(answers[0], 408, "read_timeout")


@SLOW.case("body_read_ms_max")
def body_read(server: ServerProcess) -> None:
    # Fast enough for the pace, and still not done in time.
    long = GOOD.ljust(400)
    request = infer("ident", long)
    with raw_connection(server) as connection:
        connection.send(request[:-1])
        assert connection.silent(0.5)
        served(connection.ask(request[-1:]))
        connection.send(request[:-1])
        answers = []
        assert within(elapsed(lambda: answers.append(connection.answer())), 900)
        refused(answers[0], 408, "read_timeout")
        assert connection.closed()


@SLOW.case("write_stall_ms_max")
def write_stall(server: ServerProcess) -> None:
    large = body(tensor("n", "INT64", [1, 2], [4_000, 1_000]), parameters={"binary_data_output": True})
    with raw_connection(server) as connection:
        connection.send(infer("grow", large))
        # Slow, but never silent for as long as the limit.
        assert connection.socket.recv(1)
        for _ in range(3):
            connection.socket.recv(2**20)
            server.settles("servekit_in_flight_requests", 0, model="grow")
        with ends_one(server, "write_timeout"):
            pass
    server.settles("servekit_in_flight_bytes", 0)
    raw = (4_000).to_bytes(8, "little") + (1_000).to_bytes(8, "little")
    with peer(server, window_bytes=0) as caller:
        numbers, frames = caller.called(message("grow", ("n", "INT64", [1, 2], raw)))
        with ends_one(server, "write_timeout"):
            caller.send(*frames)
            assert caller.answered(numbers).reset is not None
        assert caller.goaway is None
    server.settles("servekit_in_flight_bytes", 0)


@AGED.case("connection_age_ms_max")
def connection_age(server: ServerProcess) -> None:
    with raw_connection(server) as connection, ends_one(server, "age"):
        served(connection.ask(get("/v2/health/live")))
        assert elapsed(connection.closed) <= 0.44 + LATE_S_MAX
    with peer(server) as caller, ends_one(server, "age"):
        served(caller.call(MESSAGE))
        assert caller.gone().error_code == 0
        assert caller.closed()


@AGED.case("connection_age_grace_ms_max")
def connection_age_grace(server: ServerProcess) -> None:
    # What is open is finished, if it takes no longer than the grace.
    slow_body = infer("ident", GOOD)
    with raw_connection(server) as connection:
        connection.send(slow_body[:-1])
        assert connection.silent(0.6)
        answer = connection.ask(slow_body[-1:])
        served(answer)
        assert answer.headers["connection"] == "close"
        assert connection.closed()
    with peer(server) as caller, ends_one(server, "age"):
        number = awaited(caller)
        assert elapsed(caller.closed) <= 0.44 + 0.4 + LATE_S_MAX
        assert caller.replies[number] == Reply()
    server.settles("servekit_in_flight_requests", 0)


GROUPS = {"quiet": QUIET, "slow": SLOW, "aged": AGED}
