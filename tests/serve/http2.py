"""A client of HTTP/2 by the h2 package: it sees every frame, and may send what polite clients do not."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import h2.connection
import h2.events
from h2.config import H2Configuration
from h2.settings import SettingCodes, Settings

from tests.serve.process import ServerProcess

Fields = Iterable[tuple[str, str]]


@dataclass
class Answer:
    """What one stream has received so far."""

    fields: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    trailers: dict[str, str] | None = None
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.fields[":status"])


class Http2:
    """One connection; streams are answered in whatever order the server likes."""

    def __init__(self, wire: socket.socket, *, initial_window: int | None = None, polite: bool = True) -> None:
        self.wire = wire
        self.polite = polite
        """Whether windows are opened again as data come in."""
        self.answers: dict[int, Answer] = {}
        self.pings = 0
        self.goaway: h2.events.ConnectionTerminated | None = None
        self.connection = h2.connection.H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        if initial_window is not None:
            values = {SettingCodes.INITIAL_WINDOW_SIZE: initial_window}
            self.connection.local_settings = Settings(client=True, initial_values=values)
        self.connection.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what the state machine has to say."""
        self.wire.sendall(self.connection.data_to_send())

    def open(self, method: str, path: str, fields: Fields = (), *, end: bool = True, **priority: int | bool) -> int:
        """Send a head on a new stream."""
        stream = self.connection.get_next_available_stream_id()
        self.answers[stream] = Answer()
        head = [(":method", method), (":scheme", "http"), (":authority", "test"), (":path", path), *fields]
        self.connection.send_headers(stream, head, end_stream=end, **priority)
        self.flush()
        return stream

    def send(
        self, stream: int, data: bytes, *, end: bool = True, piece: int = 2**14, padding: int | None = None
    ) -> None:
        """Send a body in pieces, as fast as the server's windows let it."""
        at = 0
        while at < len(data):
            allowed = self.connection.local_flow_control_window(stream) - (0 if padding is None else padding + 1)
            size = min(piece, self.connection.max_outbound_frame_size, allowed, len(data) - at)
            if size <= 0:
                self.receive()
                continue
            self.connection.send_data(stream, data[at : at + size], pad_length=padding)
            self.flush()
            at += size
        if end:
            self.connection.end_stream(stream)
            self.flush()

    def ask(self, method: str, path: str, body: bytes = b"", fields: Fields = ()) -> Answer:
        """One request and its whole answer."""
        stream = self.open(method, path, fields, end=not body)
        if body:
            self.send(stream, body)
        return self.answer(stream)

    def answer(self, stream: int) -> Answer:
        """Receive until a stream has ended."""
        answer = self.answers[stream]
        while not answer.ended and answer.reset is None:
            self.receive()
        return answer

    def round_trip(self) -> None:
        """Wait until the server has answered a PING, and with it has said all that it had to say before."""
        expected = self.pings + 1
        self.connection.ping(b"12345678")
        self.flush()
        while self.pings < expected:
            self.receive()

    def receive(self) -> None:
        """Take in what has come."""
        data = self.wire.recv(2**16)
        assert data, "the server closed the connection"
        for event in self.connection.receive_data(data):
            self._take(event)
        self.flush()

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                self.answers[event.stream_id].fields = dict(event.headers)
            case h2.events.DataReceived():
                self.answers[event.stream_id].body += event.data
                if self.polite:
                    self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.TrailersReceived():
                self.answers[event.stream_id].trailers = dict(event.headers)
            case h2.events.StreamEnded():
                self.answers[event.stream_id].ended = True
            case h2.events.StreamReset():
                self.answers[event.stream_id].reset = event.error_code
            case h2.events.PingAckReceived():
                self.pings += 1
            case h2.events.ConnectionTerminated():
                self.goaway = event
            case _:
                pass


@contextmanager
def http2(
    server: ServerProcess, address: str | None = None, *, initial_window: int | None = None, polite: bool = True
) -> Iterator[Http2]:
    """A connection by prior knowledge."""
    with server.connect(address=address) as wire:
        # Frames are small and go out one by one; none waits for the acknowledgement of the last.
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield Http2(wire, initial_window=initial_window, polite=polite)
