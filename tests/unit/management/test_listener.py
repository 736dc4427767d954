import http.client
import io
import json
import logging
import socket

import pytest

from servekit.errors import BindError
from servekit.logs import Logger
from servekit.management.forwarding import forward_logs
from servekit.management.listener import Listener
from servekit.plan import ManagementPlan
from tests.unit import snapshots

ASK = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


def planned(host="127.0.0.1", port=0, connections_max=64):
    return ManagementPlan(host, port, (), 2**20, connections_max, 10_000)


@pytest.fixture
def address():
    listener = Listener.bind(planned(connections_max=4))
    assert listener.start(snapshots.Source(snapshots.text()), Logger()) == listener.address
    host, _, port = listener.address.rpartition(":")
    return host, int(port)


def answered(connection):
    """Asks once and reads the whole answer."""
    connection.sendall(ASK)
    answer = b""
    while not answer.endswith(b"\r\n\r\nok\n"):
        part = connection.recv(4096)
        if not part:
            return False
        answer += part
    return answer.startswith(b"HTTP/1.1 200 OK\r\n")


def get(address, path):
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_it_answers_once_started(address):
    assert get(address, "/healthz") == (200, b"ok\n")
    assert get(address, "/")[0] == 200


def test_a_taken_port_is_told_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BindError, match="address already in use; choose another with --management-host"):
            Listener.bind(planned(port=taken.getsockname()[1]))


def test_a_host_that_is_none_of_ours_is_told():
    with pytest.raises(BindError, match=r"management address 192\.0\.2\.1:0: "):
        Listener.bind(planned(host="192.0.2.1"))


def test_at_the_limit_of_connections_all_are_answered_and_past_it_the_newcomer_is_closed(address):
    held = [socket.create_connection(address, timeout=10) for _ in range(4)]
    try:
        for connection in held:
            assert answered(connection)
        with socket.create_connection(address, timeout=10) as newcomer:
            assert newcomer.recv(1) == b""
        assert answered(held[0])
    finally:
        for connection in held:
            connection.close()


def test_what_libraries_log_goes_through_our_limits():
    stream = io.StringIO()
    forward_logs(Logger(as_json=True, stream=stream, lines_per_second_max=1))
    for _ in range(3):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["message"] == ["Invalid HTTP request received."]
