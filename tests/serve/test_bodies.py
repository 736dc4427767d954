"""Bodies from nothing to 64 MiB, both ways, bit for bit; fast, slow and in pieces."""

import http.client
import itertools
import json
import os
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.serve import models
from tests.serve.alive import MIB, alive, unharmed
from tests.serve.http2 import http2
from tests.serve.process import serving
from tests.serve.tensors import same_bits
from tests.serve.transports import (
    BYTES_MAX,
    LENGTH_FIELD,
    TRANSPORTS,
    Asked,
    binary_body,
    framed_arrays,
    grpc_request,
    http_arrays,
    json_body,
    path_of,
)

IDENT = path_of("ident")
BODY_BYTES_MAX = 64 * MIB
# What stands around the tensor in a message or a body stays below this, and whole numbers of FP32 reach this far.
ENVELOPE_BYTES_MAX = 1024
# Columns of one row of FP32: around the sizes of frames, windows, buffers and prefixes, up to the limit.
SIZES = [0, 1, 3, 63, 64, 4_095, 4_096, 4_097, 16_383, 16_384, 16_385, 100_000, 262_144, 2**20]
LARGE = (BODY_BYTES_MAX - ENVELOPE_BYTES_MAX) // 4
JSON_SIZE_MAX = 2**20
# Rows that together are more than one batch.
ROWS = 300
CALLERS = 16
REQUESTS_EACH = 25


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    models.ident(folder)
    models.tiny(folder)
    # Enough for several of the largest bodies at once on a small machine.
    with serving(folder, arguments=["--in-flight-bytes-max", "1GiB"]) as process:
        yield process


def row(columns):
    """One row of whole numbers that no two places share."""
    return np.arange(columns, dtype=np.float32).reshape(1, -1)


def asked(columns):
    return Asked("ident", {"x": row(columns)})


# Whole bodies


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_size_comes_back_bit_for_bit(server, transport):
    with unharmed(server), TRANSPORTS[transport](server) as infer:
        for columns in SIZES:
            if "binary" in transport or columns <= JSON_SIZE_MAX // 4 or transport in ("grpc", "triton-grpc"):
                assert same_bits(infer(asked(columns))["y"], row(columns)), columns


@pytest.mark.parametrize("transport", ["binary", "httpx-http2", "grpc", "triton-http", "triton-grpc"])
def test_64_mib_come_back_bit_for_bit(server, transport):
    with TRANSPORTS[transport](server) as infer:
        assert same_bits(infer(asked(LARGE))["y"], row(LARGE))
    alive(server)


def test_a_million_numbers_in_json_come_back_bit_for_bit(server):
    with unharmed(server), TRANSPORTS["json"](server) as infer:
        assert same_bits(infer(asked(JSON_SIZE_MAX))["y"], row(JSON_SIZE_MAX))


@pytest.mark.parametrize("transport", ["json", "binary", "grpc"])
def test_more_rows_than_a_batch_holds_come_back_in_order(server, transport):
    array = np.arange(ROWS * 1000, dtype=np.float32).reshape(ROWS, 1000)
    with unharmed(server), TRANSPORTS[transport](server) as infer:
        assert same_bits(infer(Asked("ident", {"x": array}))["y"], array)


def test_requests_of_all_sizes_may_be_mixed_on_one_connection(server):
    with unharmed(server), TRANSPORTS["binary"](server) as infer:
        for columns in itertools.chain.from_iterable(zip(SIZES, reversed(SIZES), strict=True)):
            assert same_bits(infer(asked(columns))["y"], row(columns)), columns


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_limit_itself_is_allowed_and_one_byte_more_is_not(server, beyond):
    body, fields = binary_body(asked(LARGE))
    json_bytes = int(fields[LENGTH_FIELD])
    padding = BODY_BYTES_MAX + beyond - len(body)
    body = body[:json_bytes] + b" " * padding + body[json_bytes:]
    fields[LENGTH_FIELD] = str(json_bytes + padding)
    if beyond:
        assert refused_early(server, len(body), fields) == (413, "body")
    else:
        assert same_bits(http_arrays(*server.request("POST", IDENT, body, fields))["y"], row(LARGE))
    alive(server)


def refused_early(server, size, fields):
    """The answer to a head that announces too much."""
    connection = http.client.HTTPConnection(server.http, timeout=60)
    connection.putrequest("POST", IDENT)
    for name, value in (fields | {"Content-Length": str(size)}).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.getheader("servekit-refusal")


# In pieces


@pytest.mark.parametrize("piece", [1, 2, 1_000, 65_537])
def test_a_slow_writer_is_waited_for(server, piece):
    body, fields = binary_body(asked(50 if piece <= 2 else 500_000))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"POST {IDENT} HTTP/1.1\r\nHost: test\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode()
    with unharmed(server), server.connect() as wire:
        sent = head + body
        for at in range(0, len(sent), piece):
            wire.sendall(sent[at : at + piece])
        answer = http.client.HTTPResponse(wire)
        answer.begin()
        found = http_arrays(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        answer.close()
    assert same_bits(found["y"], row(50 if piece <= 2 else 500_000))


@pytest.mark.parametrize("piece", [1_000, 65_537])
def test_a_slow_reader_gets_everything(server, piece):
    columns = 2**22 if piece > 2**16 else 2**18
    body, fields = binary_body(asked(columns))
    with unharmed(server):
        connection = http.client.HTTPConnection(server.http, timeout=60)
        connection.request("POST", IDENT, body, fields)
        # Others are served while this answer fills every buffer on its way.
        alive_beside(server)
        answer = connection.getresponse()
        pieces = iter(lambda: answer.read(piece), b"")
        whole = b"".join(pieces)
        found = http_arrays(answer.status, {k.lower(): v for k, v in answer.getheaders()}, whole)
        connection.close()
    assert same_bits(found["y"], row(columns))


def alive_beside(server):
    with TRANSPORTS["json"](server) as infer:
        assert same_bits(infer(asked(3))["y"], row(3))


def test_a_slow_reader_of_http2_gets_everything(server):
    columns = 2**18
    body, fields = binary_body(asked(columns))
    with unharmed(server), http2(server, polite=False) as client:
        stream = client.open("POST", IDENT, [(name.lower(), value) for name, value in fields.items()], end=False)
        client.send(stream, body)
        answer = client.answers[stream]
        opened = 0
        while not answer.ended:
            # A window of one frame at a time, opened when all before it is used.
            if len(answer.body) == min(65_535 + opened, answer_bytes(answer)) and not answer.ended:
                client.connection.increment_flow_control_window(16_384)
                client.connection.increment_flow_control_window(16_384, stream)
                client.flush()
                opened += 16_384
            client.receive()
    found = http_arrays(answer.status, answer.fields, bytes(answer.body))
    assert same_bits(found["y"], row(columns))


def answer_bytes(answer):
    return int(answer.fields.get("content-length", BYTES_MAX)) + 1


def test_a_call_s_message_may_come_a_few_bytes_at_a_time(server):
    message = grpc_request(asked(3_000)).SerializeToString()
    fields = [("content-type", "application/grpc"), ("te", "trailers")]
    with unharmed(server), http2(server, server.grpc) as client:
        stream = client.open("POST", "/inference.GRPCInferenceService/ModelInfer", fields, end=False)
        client.send(stream, struct.pack(">BI", 0, len(message)) + message, piece=61)
        answer = client.answer(stream)
    assert answer.trailers["grpc-status"] == "0"
    assert same_bits(framed_arrays(bytes(answer.body))["y"], row(3_000))


@pytest.mark.parametrize("size", [1, 1_000, 1_000_000])
def test_a_body_in_chunks_of_any_size_is_one_body(server, size):
    body = json_body(asked(20 if size == 1 else 20_000))
    with unharmed(server):
        connection = http.client.HTTPConnection(server.http, timeout=60)
        pieces = (body[at : at + size] for at in range(0, len(body), size))
        connection.request("POST", IDENT, pieces, encode_chunked=True)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
    assert answer.status == 200, text
    assert len(json.loads(text)["outputs"][0]["data"]) == (20 if size == 1 else 20_000)


def test_random_bytes_that_form_any_float_come_back(server):
    array = np.frombuffer(os.urandom(4 * 100_000), np.float32).reshape(10, -1)
    with unharmed(server):
        for transport in ("binary", "grpc"):
            with TRANSPORTS[transport](server) as infer:
                assert infer(Asked("ident", {"x": array}))["y"].tobytes() == array.tobytes()


@pytest.mark.parametrize("transport", ["binary", "grpc"])
def test_callers_of_all_sizes_at_once_get_their_own_bytes(server, transport):
    def call(seed):
        dice = np.random.default_rng(seed)
        with TRANSPORTS[transport](server) as infer:
            for _ in range(REQUESTS_EACH):
                # Few widths, so that rows of several callers meet in one batch.
                array = dice.standard_normal((int(dice.integers(1, 9)), int(dice.choice([1, 7, 300])))).astype(
                    np.float32
                )
                assert same_bits(infer(Asked("ident", {"x": array}))["y"], array)

    with unharmed(server), ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(call, range(CALLERS)))
