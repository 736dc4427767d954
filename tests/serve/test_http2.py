"""HTTP/2 by the h2 package, on both data ports."""

import json
import struct

import numpy as np
import pytest
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, HeadersFrame, PriorityFrame

from tests.serve.alive import G_VALUES, G, unharmed
from tests.serve.http2 import Answer, http2
from tests.serve.tensors import same_bits
from tests.serve.transports import LENGTH_FIELD, Asked, binary_body, body_arrays, framed_arrays, grpc_request, path_of

IDENT = path_of("ident")
STREAMS = 256
CONNECTION_WINDOW = 65_535
GRPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
GRPC_FIELDS = (("content-type", "application/grpc"), ("te", "trailers"))
WIDE = np.arange(100_000, dtype=np.float32).reshape(1, -1)


def right(answer, values=G_VALUES):
    assert answer.status == 200, bytes(answer.body)
    assert json.loads(answer.body)["outputs"][0]["data"] == values.ravel().tolist()


def binary(array):
    body, headers = binary_body(Asked("ident", {"x": array}))
    return body, [(name.lower(), value) for name, value in headers.items()]


def arrays(answer):
    assert answer.status == 200, bytes(answer.body)
    return body_arrays(bytes(answer.body), int(answer.fields[LENGTH_FIELD.lower()]))


def framed(message):
    data = message.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data


def rpc_arrays(answer):
    assert (answer.status, answer.fields["content-type"]) == (200, "application/grpc")
    assert answer.trailers["grpc-status"] == "0"
    flag, size = struct.unpack(">BI", answer.body[:5])
    assert (flag, size) == (0, len(answer.body) - 5)
    return framed_arrays(bytes(answer.body))


def test_routes_answer_as_over_http1(server, address):
    with http2(server, address) as client:
        for path in ("/v2", "/v2/health/ready", "/v2/models", "/v2/models/ident"):
            answer = client.ask("GET", path)
            status, _, body = server.request("GET", path)
            assert (answer.status, bytes(answer.body)) == (status, body)
        head = client.ask("HEAD", "/v2")
        assert (head.status, bytes(head.body)) == (200, b"")
        assert head.fields["content-length"] == str(len(server.request("GET", "/v2")[2]))


def test_all_streams_may_be_open_before_the_first_answer_is_read(server, address):
    with http2(server, address) as client:
        client.round_trip()
        streams = {}
        for n in range(STREAMS):
            streams[client.open("POST", IDENT, end=False)] = n
        for stream, n in streams.items():
            client.send(stream, G.replace(b"1.5", str(n).encode()))
        for stream, n in streams.items():
            right(client.answer(stream), np.array([n, -2.0, 3.25]))


def test_bodies_of_many_streams_may_come_interleaved(server, address):
    with http2(server, address) as client:
        streams = [client.open("POST", IDENT, end=False) for _ in range(8)]
        for at in range(0, len(G), 7):
            for stream in streams:
                client.send(stream, G[at : at + 7], end=at + 7 >= len(G))
        for stream in streams:
            right(client.answer(stream))


@pytest.mark.parametrize("window", [1, 16, 1000])
def test_a_tiny_window_is_kept_and_the_answer_arrives_whole(server, address, window):
    with http2(server, address, initial_window=window) as client:
        body, fields = binary(G_VALUES)
        assert same_bits(arrays(client.ask("POST", IDENT, body, fields))["y"], G_VALUES)


def test_an_answer_stops_where_the_connection_s_window_ends_and_goes_on_when_it_opens(server, address):
    with http2(server, address, initial_window=2**20, polite=False) as client:
        body, fields = binary(WIDE)
        stream = client.open("POST", IDENT, fields, end=False)
        client.send(stream, body)
        answer = client.answers[stream]
        while len(answer.body) < CONNECTION_WINDOW:
            client.receive()
        client.round_trip()
        assert len(answer.body) == CONNECTION_WINDOW
        client.connection.increment_flow_control_window(2**20)
        client.flush()
        assert same_bits(arrays(client.answer(stream))["y"], WIDE)


def test_a_stream_whose_window_is_shut_does_not_stop_the_others(server, address):
    with http2(server, address, initial_window=0, polite=False) as client:
        stream = client.open("POST", IDENT, end=False)
        client.send(stream, G)
        other = client.open("POST", IDENT, end=False)
        client.send(other, G)
        client.connection.increment_flow_control_window(2**14, other)
        client.flush()
        right(client.answer(other))
        client.round_trip()
        assert not client.answers[stream].body
        client.connection.increment_flow_control_window(2**14, stream)
        client.flush()
        right(client.answer(stream))


def test_a_change_of_settings_opens_the_windows_of_open_streams(server, address):
    with http2(server, address, initial_window=0, polite=False) as client:
        stream = client.open("POST", IDENT, end=False)
        client.send(stream, G)
        client.round_trip()
        assert not client.answers[stream].body
        client.connection.update_settings({4: 2**14})
        client.flush()
        right(client.answer(stream))


def test_trailers_behind_a_body_are_read_and_ignored(server, address):
    with http2(server, address) as client:
        stream = client.open("POST", IDENT, [("trailer", "checksum")], end=False)
        client.send(stream, G, end=False)
        client.connection.send_headers(stream, [("checksum", "17")], end_stream=True)
        client.flush()
        right(client.answer(stream))


@pytest.mark.parametrize("size", [48, 100])
def test_a_head_may_come_in_continuation_frames(server, address, size):
    with http2(server, address) as client:
        client.round_trip()
        client.connection.max_outbound_frame_size = size
        stream = client.open("POST", IDENT, [("x-note", "n" * 300)], end=False)
        client.connection.max_outbound_frame_size = 2**14
        client.send(stream, G)
        right(client.answer(stream))


def test_padding_is_cut_off(server, address):
    with http2(server, address) as client:
        client.round_trip()
        for padding in (0, 1, 255):
            stream = client.open("POST", IDENT, end=False)
            client.send(stream, G, piece=11, padding=padding)
            right(client.answer(stream))


def test_a_padded_head_with_a_priority_and_an_empty_continuation_is_a_head(server, address):
    with http2(server, address) as client:
        client.round_trip()
        stream = client.connection.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "/v2/health/live")]
        frame = HeadersFrame(stream, Encoder().encode(fields), flags=["END_STREAM", "PADDED", "PRIORITY"])
        frame.pad_length, frame.depends_on, frame.stream_weight, frame.exclusive = 200, 0, 15, False
        client.answers[stream] = Answer()
        # The library has to know the stream to hand over its answer; what it would send is thrown away.
        client.connection.send_headers(stream, fields, end_stream=True)
        client.connection.clear_outbound_data_buffer()
        client.wire.sendall(frame.serialize() + ContinuationFrame(stream, b"", flags=["END_HEADERS"]).serialize())
        assert client.answer(stream).status == 200


def test_what_nobody_has_to_know_is_ignored(server, address):
    with http2(server, address) as client:
        stream = client.open("POST", IDENT, end=False, priority_weight=7)
        priority = PriorityFrame(stream + 100, depends_on=0, stream_weight=3)
        unknown = b"\0\0\x08\xbe\xff\0\0\0\0whatever"
        client.wire.sendall(priority.serialize() + unknown)
        client.send(stream, G)
        right(client.answer(stream))


def test_a_ping_is_answered_and_does_not_disturb(server, address):
    with http2(server, address) as client:
        client.round_trip()
        right(client.ask("POST", IDENT, G))
        client.round_trip()
        assert client.goaway is None


def test_a_stream_that_is_reset_leaves_the_others_alone(server, address):
    with http2(server, address) as client:
        leaving = client.open("POST", IDENT, end=False)
        client.send(leaving, G[:40], end=False)
        client.connection.reset_stream(leaving)
        client.flush()
        right(client.ask("POST", IDENT, G))


def test_the_server_lets_as_many_streams_be_open_as_it_says(server, address):
    with http2(server, address) as client:
        client.round_trip()
        assert client.connection.remote_settings.max_concurrent_streams == STREAMS


def test_repeated_heads_are_understood_with_and_without_the_table(server, address):
    with http2(server, address) as client:
        for n in range(50):
            client.connection.encoder.header_table_size = 0 if n % 7 == 3 else 4096
            right(client.ask("POST", IDENT, G, [("x-note", f"note {n % 5}"), ("content-type", "application/json")]))


# gRPC by hand


@pytest.mark.parametrize("piece", [1, 5, 16_384])
def test_a_message_may_come_in_any_frames(server, address, piece):
    with http2(server, address) as client:
        stream = client.open("POST", GRPC_PATH, GRPC_FIELDS, end=False)
        client.send(stream, framed(grpc_request(Asked("ident", {"x": G_VALUES}))), piece=piece)
        assert same_bits(rpc_arrays(client.answer(stream))["y"], G_VALUES)


def test_a_refused_call_is_told_in_trailers_alone(server):
    with unharmed(server, model=1), http2(server) as client:
        stream = client.open("POST", GRPC_PATH, GRPC_FIELDS, end=False)
        client.send(stream, framed(grpc_request(Asked("nope", {"x": G_VALUES}))))
        answer = client.answer(stream)
        fields = answer.fields | (answer.trailers or {})
        assert (answer.status, fields["grpc-status"], fields["servekit-refusal"]) == (200, "5", "model")
        assert not answer.body


def test_http_and_grpc_share_a_connection(server, address):
    with http2(server, address) as client:
        rpc = client.open(
            "POST", GRPC_PATH, [("content-type", "application/grpc+proto"), ("te", "trailers")], end=False
        )
        rest = client.open("POST", IDENT, end=False)
        client.send(rest, G)
        client.send(rpc, framed(grpc_request(Asked("ident", {"x": WIDE}))))
        right(client.answer(rest))
        assert same_bits(rpc_arrays(client.answer(rpc))["y"], WIDE)
