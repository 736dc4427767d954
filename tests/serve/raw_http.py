"""HTTP/1.1 byte by byte: what a client library would never send, and what it would hide of the answer."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.serve.process import ServerProcess

WAIT_SECONDS_MAX = 20.0


@dataclass(frozen=True)
class Answer:
    """A whole answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def label(self) -> str:
        """Label of the refusal; empty for a result."""
        return self.headers.get("servekit-refusal", "")

    @property
    def text(self) -> str:
        """Text of the refusal."""
        return str(json.loads(self.body)["error"])


class RawConnection:
    """A socket, and the bytes of it that are not part of an answer yet."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.socket.settimeout(WAIT_SECONDS_MAX)
        self._ahead = b""

    def send(self, *parts: bytes) -> None:
        """Send all of it in one write."""
        self.socket.sendall(b"".join(parts))

    def ask(self, request: bytes) -> Answer:
        """Send a request and read its answer."""
        with suppress(BrokenPipeError, ConnectionResetError):
            # Who is refused before the last byte may not get rid of it, and still reads why.
            self.send(request)
        return self.answer()

    def answer(self, *, bodyless: bool = False) -> Answer:
        """Read exactly one answer."""
        while b"\r\n\r\n" not in self._ahead:
            self._more()
        head, _, self._ahead = self._ahead.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        length = 0 if bodyless else int(headers.get("content-length", "0"))
        while len(self._ahead) < length:
            self._more()
        body, self._ahead = self._ahead[:length], self._ahead[length:]
        return Answer(int(line.split(" ")[1]), headers, body)

    def closed(self) -> bool:
        """Whether the server ends the connection, without another byte. Waits for its end."""
        try:
            return self._ahead == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def silent(self, seconds: float) -> bool:
        """Whether nothing comes for so long, neither bytes nor the end."""
        self.socket.settimeout(seconds)
        try:
            self._ahead += self.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(WAIT_SECONDS_MAX)
        return False

    def _more(self) -> None:
        received = self.socket.recv(65536)
        if not received:
            raise ConnectionError(f"the connection ended within an answer: {self._ahead[:200]!r}")
        self._ahead += received


@contextmanager
def raw_connection(server: ServerProcess) -> Iterator[RawConnection]:
    """A connection of its own to the HTTP listener."""
    with server.connect() as connected:
        yield RawConnection(connected)


def get(path: str, *fields: str, method: str = "GET") -> bytes:
    """A request without a body."""
    return head(f"{method} {path} HTTP/1.1", "Host: x", *fields)


def post(path: str, body: bytes, *fields: str) -> bytes:
    """A request with a body of known length."""
    return head(f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *fields) + body


def infer(model: str, body: bytes, *fields: str) -> bytes:
    """An inference."""
    return post(f"/v2/models/{model}/infer", body, *fields)


def chunked(path: str, chunks: list[bytes], *, extension: str = "") -> bytes:
    """A request whose body comes in these chunks; the first has the extension."""
    parts = [head(f"POST {path} HTTP/1.1", "Host: x", "Transfer-Encoding: chunked")]
    for position, chunk in enumerate(chunks):
        parts.append(f"{len(chunk):x}{extension if position == 0 else ''}\r\n".encode() + chunk + b"\r\n")
    return b"".join([*parts, b"0\r\n\r\n"])


def head(*lines: str) -> bytes:
    """A request line and fields, with the empty line."""
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


def elapsed(work: Callable[[], object]) -> float:
    """Seconds that it takes."""
    began_at = time.monotonic()
    work()
    return time.monotonic() - began_at


def abort(connected: socket.socket) -> None:
    """End a connection with a reset, as the system does for a process that ends with answers unread."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connected.close()
