"""HTTP/1.1 by http.client and by raw sockets, on both data ports."""

import http.client
import io
import json
import threading

import pytest

from tests.serve.alive import G_VALUES, G, unharmed
from tests.serve.transports import path_of

IDENT = path_of("ident")
SECONDS = 30.0
REQUESTS = 1_000
HEAD = f"POST {IDENT} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n".encode()
POST = HEAD + f"Content-Length: {len(G)}\r\n\r\n".encode() + G
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: test\r\n\r\n"


@pytest.fixture
def wire(server, address):
    with server.connect(address=address) as wire:
        yield wire


class Answers:
    """Answers as they come on one connection, one behind the other."""

    def __init__(self, wire):
        self.stream = wire.makefile("rb")

    def head(self):
        """The status line and the header lines of the next answer."""
        lines = []
        while (line := self.stream.readline()) not in (b"\r\n", b""):
            lines.append(line.decode().rstrip("\r\n"))
        assert lines, "the connection has ended"
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        return lines[0], fields

    def next(self):
        """Status and body of the next answer."""
        line, fields = self.head()
        return int(line.split()[1]), self.stream.read(int(fields["content-length"]))

    def ended(self):
        """Whether the server has closed the connection, with nothing more to say."""
        return self.stream.read() == b""

    def close(self):
        self.stream.close()


@pytest.fixture
def answers(wire):
    answers = Answers(wire)
    yield answers
    answers.close()


def right(answer):
    status, body = answer
    assert status == 200, body
    assert json.loads(body)["outputs"][0]["data"] == G_VALUES.ravel().tolist()


def test_a_connection_is_kept(address):
    connection = http.client.HTTPConnection(address, timeout=SECONDS)
    connection.connect()
    socket = connection.sock
    for _ in range(100):
        connection.request("POST", IDENT, G)
        answer = connection.getresponse()
        right((answer.status, answer.read()))
        assert connection.sock is socket
    connection.close()


def test_a_refused_request_leaves_the_connection_open(server):
    with unharmed(server, model=1, json=1, method=1), server.connect() as wire:
        answers = Answers(wire)
        wire.sendall(POST.replace(b"ident", b"nope1") + POST)
        assert answers.next()[0] == 404
        right(answers.next())
        wire.sendall(POST.replace(b'{"inputs"', b'{"inputs,') + POST)
        assert answers.next()[0] == 400
        right(answers.next())
        wire.sendall(b"PUT" + POST[4:] + POST)
        assert answers.next()[0] == 405
        right(answers.next())
        answers.close()


def test_a_thousand_requests_in_one_write_are_answered_in_order(wire, answers):
    requests = b"".join(
        POST.replace(b'{"inputs"', b'{"id":"%05d","inputs"' % n).replace(b"Length: 80", b"Length: 93")
        if n % 2
        else LIVE
        for n in range(REQUESTS)
    )
    writer = threading.Thread(target=wire.sendall, args=(requests,))
    writer.start()
    for n in range(REQUESTS):
        status, body = answers.next()
        assert status == 200, body
        assert json.loads(body).get("id") == (f"{n:05}" if n % 2 else None)
    writer.join(SECONDS)


@pytest.mark.parametrize("size", [1, 7, 80, 1000])
def test_a_body_may_come_in_chunks(wire, answers, size):
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(G[at : at + size]), G[at : at + size]) for at in range(0, len(G), size))
    for _ in range(3):
        wire.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        right(answers.next())


def test_extensions_and_trailers_of_chunks_are_read_and_ignored(wire, answers):
    body = b'50;note=x;q="a b"\r\n' + G + b"\r\n0000;last\r\nChecksum: 17\r\nMore: x\r\n\r\n"
    wire.sendall(HEAD + b"Transfer-Encoding: Chunked\r\nTrailer: Checksum\r\n\r\n" + body + POST)
    right(answers.next())
    right(answers.next())


def test_http_client_uploads_what_has_no_length(address):
    connection = http.client.HTTPConnection(address, timeout=SECONDS)
    connection.request("POST", IDENT, iter([G[:10], G[10:11], G[11:]]), encode_chunked=True)
    answer = connection.getresponse()
    right((answer.status, answer.read()))
    connection.request("POST", IDENT, io.BytesIO(G), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    answer = connection.getresponse()
    right((answer.status, answer.read()))
    connection.close()


def test_who_asks_first_is_told_to_go_on(wire, answers):
    for _ in range(2):
        wire.sendall(HEAD + f"Content-Length: {len(G)}\r\nExpect: 100-continue\r\n\r\n".encode())
        line, fields = answers.head()
        assert (line, fields) == ("HTTP/1.1 100 Continue", {})
        wire.sendall(G)
        right(answers.next())


def test_who_asks_first_is_told_no_before_the_body(server):
    with unharmed(server, model=1), server.connect() as wire:
        answers = Answers(wire)
        head = HEAD.replace(b"ident", b"nope1") + b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n"
        wire.sendall(head)
        assert answers.next()[0] == 404
        answers.close()


def test_who_sends_the_body_without_waiting_gets_the_answer(wire, answers):
    wire.sendall(HEAD + f"Content-Length: {len(G)}\r\nExpect: 100-continue\r\n\r\n".encode() + G)
    line, fields = answers.head()
    if line.endswith("100 Continue"):
        line, fields = answers.head()
    assert line == "HTTP/1.1 200 OK"
    assert json.loads(answers.stream.read(int(fields["content-length"])))["model_name"] == "ident"


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close"])
def test_a_connection_ends_when_the_caller_says_so(wire, answers, value):
    wire.sendall(LIVE + HEAD + f"Connection: {value}\r\nContent-Length: {len(G)}\r\n\r\n".encode() + G + LIVE)
    assert answers.next()[0] == 200
    line, fields = answers.head()
    assert (line, fields["connection"]) == ("HTTP/1.1 200 OK", "close")
    assert json.loads(answers.stream.read(int(fields["content-length"])))["model_name"] == "ident"
    assert answers.ended()


@pytest.mark.parametrize("request_", [LIVE.replace(b"1.1", b"1.0"), POST.replace(b"HTTP/1.1", b"HTTP/1.0")])
def test_http_1_0_gets_one_answer_and_the_end(wire, answers, request_):
    wire.sendall(request_.replace(b"Host: test\r\n", b""))
    line, fields = answers.head()
    assert line.split()[1] == "200"
    assert len(answers.stream.read()) == int(fields["content-length"])


def test_a_request_may_come_byte_by_byte(wire, answers):
    for at in range(len(POST)):
        wire.sendall(POST[at : at + 1])
    right(answers.next())


def test_an_empty_line_before_a_request_is_skipped(wire, answers):
    wire.sendall(b"\r\n" + POST + b"\r\n" + POST)
    right(answers.next())
    right(answers.next())


def test_half_a_request_and_the_end_is_no_request(server, address):
    for cut in (10, len(POST) - 40):
        with server.connect(address=address) as wire:
            wire.sendall(POST[:cut])


def test_names_of_fields_have_no_case_and_values_no_outer_space(wire, answers):
    wire.sendall(POST.replace(b"Content-Length: 80", b"CONTENT-length:\t 80 \t").replace(b"Host", b"hOST"))
    right(answers.next())


def test_a_whole_url_may_stand_in_the_request_line(wire, answers):
    wire.sendall(POST.replace(b"POST /", b"POST http://test/"))
    right(answers.next())
