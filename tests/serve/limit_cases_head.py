"""Limits of heads, bodies and answers, on one server, byte by byte."""

from __future__ import annotations

import gzip
import zlib

from tests.serve import models
from tests.serve.limit_cases import (
    RESOURCE_EXHAUSTED,
    UNIMPLEMENTED,
    Group,
    body,
    message,
    placed,
    refused,
    row,
    served,
    tensor,
)
from tests.serve.process import ServerProcess
from tests.serve.raw_frames import GRPC_FIELDS as GRPC
from tests.serve.raw_frames import INFER_PATH, Peer, Reply, peer, prefixed
from tests.serve.raw_http import chunked, get, head, infer, raw_connection

PATH = "/v2/models/ident/infer"
BODY_BYTES_MAX = 32_768
LIMITS = {
    "request_line_bytes_max": 128,
    "header_bytes_max": 2_048,
    "headers_max": 12,
    "connection_read_bytes_max": 4_096,
    "request_body_bytes_max": BODY_BYTES_MAX,
    "body_chunks_max": 8,
    "chunk_extension_bytes_max": 16,
    "inflate_ratio_max": 10,
    "inflate_grace_bytes_max": 4_096,
    "content_encodings_max": 1,
    "response_body_bytes_max": 32_768,
    "run_ms_max": 1_500,
}
GROUP = Group(
    limits=LIMITS, models=(models.ident, models.grow, models.spin), environment=placed(ident="inline", spin="pool")
)
GOOD = body(row(1.5, -2.0, 3.25))
MESSAGE = message("ident", ("x", "FP32", [1, 3], bytes(12)))


def http1(server: ServerProcess, at: bytes, past: bytes, expected: tuple[int, str], *, close: bool = True) -> None:
    """At the limit a result; past it the refusal comes whole before the connection ends."""
    with raw_connection(server) as connection:
        served(connection.ask(at))
        answer = connection.ask(past)
        refused(answer, *expected)
        if close:
            assert answer.headers["connection"] == "close"
            assert connection.closed()
        else:
            served(connection.ask(at))


def padded(length: int) -> bytes:
    """A good request of so many bytes."""
    return GOOD.ljust(length)


@GROUP.case("request_line_bytes_max")
def request_line(server: ServerProcess) -> None:
    def line(length: int) -> bytes:
        around = len("GET /v2/health/live? HTTP/1.1\r\n")
        return get(f"/v2/health/live?{'a' * (length - around)}")

    http1(server, line(128), line(129), (414, "uri"))
    with peer(server) as caller:
        path = "/v2/health/live?"
        served(caller.ask(path.ljust(128, "a")))
        refused(caller.ask(path.ljust(129, "a")), 414, "uri")


@GROUP.case("headers_max")
def headers(server: ServerProcess) -> None:
    def fields(count: int) -> list[str]:
        return [f"f{position}: v" for position in range(count)]

    http1(server, get("/v2/health/live", *fields(11)), get("/v2/health/live", *fields(12)), (431, "headers"))
    with peer(server) as caller:
        own = len(GRPC)
        more = [(f"f{position}", "v") for position in range(13)]
        served(caller.call(MESSAGE, *more[: 12 - own]))
        refused(caller.call(MESSAGE, *more[: 13 - own]), RESOURCE_EXHAUSTED, "headers")
        served(caller.call(MESSAGE))


@GROUP.case("header_bytes_max")
def header_bytes(server: ServerProcess) -> None:
    def field(total: int, others: list[tuple[str, str]]) -> str:
        taken = sum(len(name) + len(value) + 32 for name, value in others)
        return "a" * (total - taken - len("filler") - 32)

    host = [("Host", "x")]
    at, past = (get("/v2/health/live", f"filler: {field(total, host)}") for total in (2_048, 2_049))
    http1(server, at, past, (431, "headers"))
    pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", INFER_PATH), *GRPC]
    with peer(server) as caller:
        served(caller.call(MESSAGE, ("filler", field(2_048, pseudo))))
        refused(caller.call(MESSAGE, ("filler", field(2_049, pseudo))), RESOURCE_EXHAUSTED, "headers")


@GROUP.case("connection_read_bytes_max")
def read_ahead(server: ServerProcess) -> None:
    good = infer("ident", GOOD)
    count = 2**18 // len(good)
    turns = body(tensor("n", "INT64", [1], [10**12]))
    with raw_connection(server) as connection:
        connection.send(infer("spin", turns), good)
        server.settles("servekit_in_flight_requests", 1, model="spin")
        connection.send(good * count)
        # What was read ahead is accounted for like any other byte in flight, and there is little of it.
        assert server.metric("servekit_in_flight_bytes") <= 4 * LIMITS["connection_read_bytes_max"] + len(turns)
        refused(connection.answer(), 503, "lane_lost")
        for _ in range(count + 1):
            served(connection.answer())


@GROUP.case("request_body_bytes_max")
def request_body(server: ServerProcess) -> None:
    at, past = padded(BODY_BYTES_MAX), padded(BODY_BYTES_MAX + 1)
    http1(server, infer("ident", at), infer("ident", past), (413, "body"))
    # By its length alone, before a byte of it is read.
    announced = head(f"POST {PATH} HTTP/1.1", "Host: x", f"Content-Length: {len(past)}")
    http1(server, infer("ident", at), announced, (413, "body"))
    halves = [at[: len(at) // 2], at[len(at) // 2 :]]
    http1(server, chunked(PATH, halves), chunked(PATH, [*halves, b" "]), (413, "body"))
    zipped = "Content-Encoding: gzip"
    at_zipped, past_zipped = (incompressible(size, BODY_BYTES_MAX) for size in (BODY_BYTES_MAX, BODY_BYTES_MAX + 1))
    http1(server, infer("ident", at_zipped, zipped), infer("ident", past_zipped, zipped), (413, "body"))
    with peer(server) as caller:
        empty = grown(0)
        served(caller.call(grown(BODY_BYTES_MAX - len(empty))))
        refused(caller.call(grown(BODY_BYTES_MAX - len(empty) + 1)), RESOURCE_EXHAUSTED, "body")
        served(caller.call(MESSAGE))
        # By the prefix alone.
        number = caller.stream()
        pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", INFER_PATH), *GRPC]
        from hyperframe.frame import DataFrame

        prefix = prefixed(b"")[:1] + (BODY_BYTES_MAX + 1).to_bytes(4, "big")
        caller.send(caller.headers(number, pseudo), DataFrame(number, data=prefix))
        refused(caller.answered(number), RESOURCE_EXHAUSTED, "body")


def grown(size: int) -> bytes:
    """A good call with an unknown field of so many bytes; its tag takes two, its length three."""
    return MESSAGE + b"\xa2\x06" + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + bytes(size)


def incompressible(size: int, seed: int) -> bytes:
    """Gzip of a good request of so many bytes, of which little can be squeezed out."""
    import random

    digits = "".join(random.Random(seed).choices("0123456789abcdefghijklmnopqrstuvwxyz", k=size))
    text = b'{"ignored":"' + digits.encode()
    text = text[: size - len(GOOD) - 1] + b'",' + GOOD[1:]
    assert len(text) == size
    return gzip.compress(text)


@GROUP.case("body_chunks_max")
def body_chunks(server: ServerProcess) -> None:
    def chunks(count: int) -> bytes:
        return chunked(PATH, [GOOD, *[b" "] * (count - 1)])

    http1(server, chunks(8), chunks(9), (413, "body"))


@GROUP.case("chunk_extension_bytes_max")
def chunk_extension(server: ServerProcess) -> None:
    at, past = (chunked(PATH, [GOOD], extension=";".ljust(length, "e")) for length in (16, 17))
    http1(server, at, past, (400, "framing"))


def zipped_to(length: int, text: bytes) -> bytes:
    """Gzip of a text, made longer by a file name in its head."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(text) + packer.flush()
    trailer = zlib.crc32(text).to_bytes(4, "little") + len(text).to_bytes(4, "little")
    name = b"n" * (length - len(packed) - 10 - len(trailer) - 1) + b"\0"
    return b"\x1f\x8b\x08\x08" + bytes(6) + name + packed + trailer


@GROUP.case("inflate_grace_bytes_max")
def inflate_grace(server: ServerProcess) -> None:
    at, past = (infer("ident", gzip.compress(padded(size)), "Content-Encoding: gzip") for size in (4_096, 4_097))
    http1(server, at, past, (413, "body"))
    with peer(server) as caller:
        size = len(grown(0))
        served(zipped_call(caller, gzip.compress(grown(4_096 - size))))
        refused(zipped_call(caller, gzip.compress(grown(4_097 - size))), RESOURCE_EXHAUSTED, "body")
        served(caller.call(MESSAGE))


@GROUP.case("inflate_ratio_max")
def inflate_ratio(server: ServerProcess) -> None:
    text = padded(8_000)
    at, past = (infer("ident", zipped_to(size, text), "Content-Encoding: gzip") for size in (800, 799))
    http1(server, at, past, (413, "body"))
    text = grown(8_000 - len(grown(0)))
    with peer(server) as caller:
        served(zipped_call(caller, zipped_to(800, text)))
        refused(zipped_call(caller, zipped_to(799, text)), RESOURCE_EXHAUSTED, "body")


def zipped_call(caller: Peer, packed: bytes, encoding: str = "gzip") -> Reply:
    """A call with a compressed message."""
    fields = (*GRPC, ("grpc-encoding", encoding))
    number, frames = caller.opened(INFER_PATH, prefixed(packed, compressed=1), *fields)
    caller.send(*frames)
    return caller.answered(number)


@GROUP.case("content_encodings_max")
def content_encodings(server: ServerProcess) -> None:
    once = gzip.compress(GOOD)
    at = infer("ident", once, "Content-Encoding: gzip")
    past = infer("ident", gzip.compress(once), "Content-Encoding: gzip, gzip")
    http1(server, at, past, (415, "encoding"), close=False)
    with raw_connection(server) as connection:
        assert connection.ask(past).headers["accept-encoding"] == "gzip, deflate"
    with peer(server) as caller:
        once = gzip.compress(MESSAGE)
        served(zipped_call(caller, once))
        answer = zipped_call(caller, gzip.compress(once), "gzip,gzip")
        refused(answer, UNIMPLEMENTED, "encoding")
        assert "gzip" in answer.headers["grpc-accept-encoding"]


@GROUP.case("response_body_bytes_max")
def response_body(server: ServerProcess) -> None:
    allowed = LIMITS["response_body_bytes_max"]

    def asked(length: int) -> bytes:
        size = tensor("n", "INT64", [1, 2], [1, 8_000])
        return infer("grow", body(size, id="i" * length, parameters={"binary_data_output": True}))

    def called(length: int) -> bytes:
        raw = (1).to_bytes(8, "little") + (8_000).to_bytes(8, "little")
        return message("grow", ("n", "INT64", [1, 2], raw), id="i" * length)

    with raw_connection(server) as connection:
        # The id comes back, so that it makes the answer longer by what it is itself.
        missing = allowed - len(connection.ask(asked(100)).body) + 100
        answer = connection.ask(asked(missing))
        assert len(answer.body) == allowed
        served(answer)
        refused(connection.ask(asked(missing + 1)), 413, "response")
        served(connection.ask(asked(missing)))
    with peer(server) as caller:
        prefix_bytes = 5
        missing = allowed - (len(caller.call(called(200)).body) - prefix_bytes) + 200
        served(caller.call(called(missing)))
        refused(caller.call(called(missing + 1)), RESOURCE_EXHAUSTED, "response")
