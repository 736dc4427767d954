"""HTTP/2 frame by frame, and gRPC calls byte by byte: what no client would send, and what it would hide."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote

import hpack
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.serve.process import ServerProcess

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW_BYTES_MAX = 2**31 - 1
WAIT_SECONDS_MAX = 20.0
INFER_PATH = "/inference.GRPCInferenceService/ModelInfer"
ENHANCE_YOUR_CALM = 11
FRAME_SIZE_ERROR = 6
FLOW_CONTROL_ERROR = 3
REFUSED_STREAM = 7

Fields = Sequence[tuple[str, str]]


@dataclass
class Reply:
    """What came for one stream."""

    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def code(self) -> int:
        """The gRPC status."""
        return int(self.headers["grpc-status"])

    @property
    def label(self) -> str:
        """Label of the refusal; empty for a result."""
        return self.headers.get("servekit-refusal", "")

    @property
    def text(self) -> str:
        """Text of the refusal."""
        return unquote(self.headers.get("grpc-message", ""))


class Peer:
    """A client that decides about every frame. It answers SETTINGS and PING unless told to stay mute."""

    def __init__(
        self,
        connected: socket.socket,
        settings: Mapping[int, int] | None = None,
        *,
        window_bytes: int = WINDOW_BYTES_MAX,
    ) -> None:
        self.socket = connected
        self.socket.settimeout(WAIT_SECONDS_MAX)
        self.mute = False
        self.replies: dict[int, Reply] = {}
        self.settings: dict[int, int] = {}
        self.goaway: GoAwayFrame | None = None
        self.pings = 0
        self.is_over = False
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._next_stream = 1
        self._ahead = b""
        first = SettingsFrame(0, settings={SettingsFrame.INITIAL_WINDOW_SIZE: window_bytes, **(settings or {})})
        connection_window = WindowUpdateFrame(0, window_increment=WINDOW_BYTES_MAX - 65_535)
        self.socket.sendall(PREFACE + first.serialize() + connection_window.serialize())
        self.until(lambda: bool(self.settings))

    def send(self, *frames: Frame | bytes) -> None:
        """Send frames in one write."""
        self.socket.sendall(b"".join(part if isinstance(part, bytes) else part.serialize() for part in frames))

    def stream(self) -> int:
        """The number of a new stream."""
        number, self._next_stream = self._next_stream, self._next_stream + 2
        self.replies[number] = Reply()
        return number

    def headers(self, stream: int, fields: Fields, *, end: bool = False) -> HeadersFrame:
        """HEADERS of a stream; nothing goes into the dynamic table, so that it may stay unsent."""
        never = [hpack.NeverIndexedHeaderTuple(name, value) for name, value in fields]
        flags = ["END_HEADERS", "END_STREAM"] if end else ["END_HEADERS"]
        return HeadersFrame(stream, data=self._encoder.encode(never), flags=flags)

    def opened(self, path: str, body: bytes | None, *fields: tuple[str, str]) -> tuple[int, list[Frame]]:
        """A stream and the frames of a whole request on it."""
        number = self.stream()
        method = "GET" if body is None else "POST"
        pseudo = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", path)]
        frames: list[Frame] = [self.headers(number, [*pseudo, *fields], end=body is None)]
        if body is not None:
            frames += data(number, body)
        return number, frames

    def called(self, message: bytes, *fields: tuple[str, str], path: str = INFER_PATH) -> tuple[int, list[Frame]]:
        """A stream and the frames of a gRPC call on it."""
        return self.opened(path, prefixed(message), *GRPC_FIELDS, *fields)

    def ask(self, path: str, body: bytes | None = None, *fields: tuple[str, str]) -> Reply:
        """One HTTP request and its answer."""
        number, frames = self.opened(path, body, *fields)
        self.send(*frames)
        return self.answered(number)

    def call(self, message: bytes, *fields: tuple[str, str], path: str = INFER_PATH) -> Reply:
        """One gRPC call and its answer."""
        number, frames = self.called(message, *fields, path=path)
        self.send(*frames)
        return self.answered(number)

    def answered(self, stream: int) -> Reply:
        """The answer of a stream, waited for."""
        reply = self.replies[stream]
        self.until(lambda: reply.ended or reply.reset is not None)
        return reply

    def gone(self) -> GoAwayFrame:
        """GOAWAY, waited for."""
        self.until(lambda: self.goaway is not None)
        assert self.goaway is not None
        return self.goaway

    def closed(self) -> bool:
        """Whether the server ends the connection. Waits for it."""
        while not self.is_over:
            self._read()
        return True

    def until(self, is_so: Callable[[], bool], seconds: float = WAIT_SECONDS_MAX) -> None:
        """Take frames until it is so."""
        deadline = time.monotonic() + seconds
        while not is_so():
            if self.is_over:
                raise ConnectionError(f"the connection ended: {self.goaway}")
            if time.monotonic() > deadline:
                raise TimeoutError("it did not come")
            self._read(max(0.001, deadline - time.monotonic()))

    def quiet(self, seconds: float) -> None:
        """Take what comes for so long."""
        deadline = time.monotonic() + seconds
        while not self.is_over and (left := deadline - time.monotonic()) > 0:
            self._read(left)

    def _read(self, seconds: float = WAIT_SECONDS_MAX) -> None:
        self.socket.settimeout(seconds)
        try:
            received = self.socket.recv(65536)
        except TimeoutError:
            return
        except ConnectionResetError:
            received = b""
        finally:
            self.socket.settimeout(WAIT_SECONDS_MAX)
        self.is_over = self.is_over or not received
        self._ahead += received
        while len(self._ahead) >= 9:
            frame, length = Frame.parse_frame_header(memoryview(self._ahead[:9]))
            if len(self._ahead) < 9 + length:
                return
            frame.parse_body(memoryview(self._ahead[9 : 9 + length]))
            self._ahead = self._ahead[9 + length :]
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        reply = self.replies.get(frame.stream_id, Reply())
        match frame:
            case SettingsFrame() if "ACK" not in frame.flags:
                self.settings.update(frame.settings)
                self._say(SettingsFrame(0, flags=["ACK"]))
            case PingFrame() if "ACK" not in frame.flags:
                self.pings += 1
                self._say(PingFrame(0, opaque_data=frame.opaque_data, flags=["ACK"]))
            case HeadersFrame():
                reply.headers |= {str(name): str(value) for name, value in self._decoder.decode(frame.data)}
            case DataFrame():
                reply.body += frame.data
            case RstStreamFrame():
                reply.reset = frame.error_code
            case GoAwayFrame():
                self.goaway = frame
        if "END_STREAM" in frame.flags:
            reply.ended = True

    def _say(self, frame: Frame) -> None:
        if not self.mute and not self.is_over:
            self.send(frame)


GRPC_FIELDS = (("content-type", "application/grpc"), ("te", "trailers"))


def prefixed(message: bytes, *, compressed: int = 0) -> bytes:
    """A gRPC message with its length in front."""
    return struct.pack(">BI", compressed, len(message)) + message


def data(stream: int, body: bytes, *, frame_bytes: int = 16_384) -> list[Frame]:
    """DATA frames of a body, the last of which ends the stream."""
    pieces = [body[at : at + frame_bytes] for at in range(0, len(body), frame_bytes)] or [b""]
    frames: list[Frame] = [DataFrame(stream, data=piece) for piece in pieces]
    frames[-1].flags.add("END_STREAM")
    return frames


@contextmanager
def peer(server: ServerProcess, **options: int) -> Iterator[Peer]:
    """A peer on a connection of its own."""
    with server.connect() as connected:
        yield Peer(connected, **options)
