"""Limits of HTTP/2, frame by frame. Most end the connection, so each case has one of its own."""

from __future__ import annotations

from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)

from tests.serve import models
from tests.serve.limit_cases import Group, ends_one, message, placed, served, spin_message
from tests.serve.process import ServerProcess
from tests.serve.raw_frames import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GRPC_FIELDS,
    INFER_PATH,
    REFUSED_STREAM,
    Peer,
    peer,
    prefixed,
)

INTERVAL_MS = 200
LIMITS = {
    "connection_streams_max": 4,
    "stream_window_bytes_max": 5_000,
    "connection_window_bytes_max": 100_000,
    "frame_bytes_max": 131_072,
    "continuation_frames_max": 2,
    "stream_resets_max": 5,
    "stream_errors_max": 3,
    "control_frames_max": 20,
    "ping_strikes_max": 2,
    "ping_interval_ms_min": INTERVAL_MS,
}
GROUP = Group(limits=LIMITS, models=(models.ident,))
IN_FLIGHT = Group(
    limits={"connection_requests_in_flight_max": 3, "run_ms_max": 1_500},
    models=(models.ident, models.spin),
    environment=placed(ident="inline", spin="pool"),
)
MESSAGE = message("ident", ("x", "FP32", [1, 3], bytes(12)))
PSEUDO = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", INFER_PATH), *GRPC_FIELDS]


def told_to_go(server: ServerProcess, caller: Peer, code: int, reason: str, *frames: Frame | bytes) -> None:
    """The frames that go past the limit are answered by GOAWAY, and then the connection ends."""
    with ends_one(server, reason):
        caller.send(*frames)
        assert caller.gone().error_code == code
        assert caller.closed()


def answers_on(caller: Peer) -> None:
    """The connection serves, so nothing was past a limit."""
    served(caller.call(MESSAGE))
    assert caller.goaway is None


def unfinished(caller: Peer) -> tuple[int, HeadersFrame]:
    """A call whose message is still to come."""
    number = caller.stream()
    return number, caller.headers(number, PSEUDO)


@GROUP.case("connection_streams_max")
def streams(server: ServerProcess) -> None:
    with peer(server) as caller:
        assert caller.settings[SettingsFrame.MAX_CONCURRENT_STREAMS] == 4
        opened = [unfinished(caller) for _ in range(4)]
        caller.send(*(frame for _, frame in opened))
        server.settles("servekit_streams", 4)
        with ends_one(server, "streams"):
            number, frame = unfinished(caller)
            caller.send(frame)
            assert caller.answered(number).reset == REFUSED_STREAM
        caller.send(*(RstStreamFrame(number, error_code=8) for number, _ in opened))
        answers_on(caller)


@GROUP.case("stream_window_bytes_max")
def stream_window(server: ServerProcess) -> None:
    with peer(server) as caller:
        assert caller.settings[SettingsFrame.INITIAL_WINDOW_SIZE] == 5_000
        number, frame = unfinished(caller)
        caller.send(frame, started(number, 5_000))
        answers_on(caller)
        number, frame = unfinished(caller)
        told_to_go(server, caller, FLOW_CONTROL_ERROR, "h2_protocol", frame, started(number, 5_001))


def started(stream: int, size: int) -> Frame:
    """One DATA frame of so many bytes, the start of a message that is longer by one."""
    return DataFrame(stream, data=(b"\0" + (size - 4).to_bytes(4, "big")).ljust(size, b"\0"))


@GROUP.case("connection_window_bytes_max")
def connection_window(server: ServerProcess) -> None:
    for size in (100_000, 100_001):
        with peer(server) as caller:
            # Data for a stream that was reset has no window but the connection's.
            reset = faulty(caller)
            caller.send(reset)
            assert caller.answered(reset.stream_id).reset is not None
            data = DataFrame(reset.stream_id, data=bytes(size))
            if size == 100_000:
                caller.send(data)
                answers_on(caller)
            else:
                told_to_go(server, caller, FLOW_CONTROL_ERROR, "h2_protocol", data)


def faulty(caller: Peer) -> HeadersFrame:
    """A request without a path."""
    return caller.headers(caller.stream(), [(":method", "GET"), (":scheme", "http")])


def unknown(size: int) -> bytes:
    """A frame of a type that nobody knows."""
    return size.to_bytes(3, "big") + b"\xee\0\0\0\0\0" + bytes(size)


@GROUP.case("frame_bytes_max")
def frame_bytes(server: ServerProcess) -> None:
    with peer(server) as caller:
        assert caller.settings[SettingsFrame.MAX_FRAME_SIZE] == 131_072
        caller.send(unknown(131_072))
        answers_on(caller)
        told_to_go(server, caller, FRAME_SIZE_ERROR, "h2_protocol", unknown(131_073))


@GROUP.case("continuation_frames_max")
def continuations(server: ServerProcess) -> None:
    with peer(server) as caller:
        number, frame = unfinished(caller)
        caller.send(*split(frame, 2), DataFrame(number, data=prefixed(MESSAGE), flags=["END_STREAM"]))
        served(caller.answered(number))
        _, frame = unfinished(caller)
        told_to_go(server, caller, ENHANCE_YOUR_CALM, "calm", *split(frame, 3))


def split(whole: HeadersFrame, continuations: int) -> list[Frame]:
    """HEADERS and so many CONTINUATION frames."""
    block, stream = whole.data, whole.stream_id
    frames: list[Frame] = [HeadersFrame(stream, data=block[:10])]
    size = (len(block) - 10) // continuations + 1
    frames += [ContinuationFrame(stream, data=block[at : at + size]) for at in range(10, len(block), size)]
    assert len(frames) == continuations + 1
    frames[-1].flags.add("END_HEADERS")
    return frames


@GROUP.case("stream_resets_max")
def stream_resets(server: ServerProcess) -> None:
    def reset(caller: Peer) -> list[Frame]:
        number, frame = unfinished(caller)
        return [frame, RstStreamFrame(number, error_code=8)]

    with peer(server) as caller:
        caller.send(*(frame for _ in range(5) for frame in reset(caller)))
        answers_on(caller)
        told_to_go(server, caller, ENHANCE_YOUR_CALM, "calm", *reset(caller))
    with peer(server) as caller:
        # As long as they are not more than half of the streams, they are a habit and no attack.
        for _ in range(12):
            answers_on(caller)
        caller.send(*(frame for _ in range(8) for frame in reset(caller)))
        answers_on(caller)


@GROUP.case("stream_errors_max")
def stream_errors(server: ServerProcess) -> None:
    with peer(server) as caller:
        for _ in range(3):
            frame = faulty(caller)
            caller.send(frame)
            assert caller.answered(frame.stream_id).reset == 1
        answers_on(caller)
        told_to_go(server, caller, ENHANCE_YOUR_CALM, "calm", faulty(caller))


@GROUP.case("control_frames_max")
def control_frames(server: ServerProcess) -> None:
    # Our own SETTINGS, its acknowledgement, and what this case sends; PING has a limit of its own besides.
    for frame in (SettingsFrame(0), unknown(0), PriorityFrame(999, depends_on=0, stream_weight=1)):
        with peer(server) as caller:
            caller.send(*[frame] * 18)
            answers_on(caller)
            told_to_go(server, caller, ENHANCE_YOUR_CALM, "calm", *[frame] * 20)
    with peer(server) as caller:
        number, opening = unfinished(caller)
        caller.send(opening, *[DataFrame(number, data=b"")] * 17)
        answers_on(caller)
        told_to_go(server, caller, ENHANCE_YOUR_CALM, "calm", *[DataFrame(number, data=b"")] * 20)


@GROUP.case("ping_strikes_max")
def ping_strikes(server: ServerProcess) -> None:
    ping = PingFrame(0, opaque_data=b"in haste")
    with peer(server) as caller:
        caller.send(ping, ping, ping)
        answers_on(caller)
    with peer(server) as caller:
        told_to_go(server, caller, ENHANCE_YOUR_CALM, "calm", ping, ping, ping, ping)
        assert caller.goaway is not None
        assert caller.goaway.additional_data == b"too_many_pings"
    with peer(server) as caller:
        # A client that measures bandwidth pings after each answer.
        for _ in range(8):
            answers_on(caller)
            caller.send(ping)
        answers_on(caller)


@GROUP.case("ping_interval_ms_min")
def ping_interval(server: ServerProcess) -> None:
    ping = PingFrame(0, opaque_data=b"in peace")
    with peer(server) as caller:
        for _ in range(4):
            caller.send(ping)
            caller.quiet(INTERVAL_MS / 1000 + 0.02)
        answers_on(caller)
    with peer(server) as caller:
        told_to_go(server, caller, ENHANCE_YOUR_CALM, "calm", *[ping] * 4)


@IN_FLIGHT.case("connection_requests_in_flight_max")
def requests_in_flight(server: ServerProcess) -> None:
    with peer(server) as caller:
        numbers = []
        for turns in (10**12, 1, 1, 1):
            number, frames = caller.called(spin_message(turns))
            numbers.append(number)
            caller.send(*frames)
        server.settles("servekit_in_flight_requests", 3, model="spin")
        accepted = server.metric("servekit_requests_accepted_total")
        # The first runs for as long as it may; whoever was not let in is so as soon as there is room again.
        assert caller.answered(numbers[0]).label == "lane_lost"
        for number in numbers[1:]:
            served(caller.answered(number))
        server.settles("servekit_requests_accepted_total", accepted + 1)


GROUPS = {"frames": GROUP, "in_flight": IN_FLIGHT}
