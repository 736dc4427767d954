import socket
from contextlib import contextmanager
from threading import Thread

import pytest
from click.testing import CliRunner

from servekit.cli.probe import command

READY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
STARTING = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@contextmanager
def answering(listener, answer):
    """A server for one connection, which remembers what it was asked."""
    heard = []
    listener.listen()

    def serve():
        connection, _ = listener.accept()
        with connection:
            heard.append(connection.recv(4096))
            connection.sendall(answer)

    thread = Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield heard
        thread.join(10)


def probed(*arguments, **environment):
    return CliRunner().invoke(command, arguments, env=environment)


@pytest.fixture
def listener():
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    return bound


@pytest.mark.parametrize(("answer", "code"), [(READY, 0), (STARTING, 1), (b"nonsense\r\n\r\n", 1), (b"", 1)])
def test_the_exit_code_is_the_readiness(listener, answer, code):
    with answering(listener, answer) as heard:
        ended = probed("--port", str(listener.getsockname()[1]))
    assert ended.exit_code == code
    assert heard[0].startswith(b"GET /v2/health/ready HTTP/1.1\r\n")
    assert bool(ended.output) == bool(code)


def test_liveness_is_another_question_than_readiness(listener):
    with answering(listener, READY) as heard:
        assert probed("--live", "--port", str(listener.getsockname()[1])).exit_code == 0
    assert heard[0].startswith(b"GET /v2/health/live ")


def test_a_unix_socket_is_asked_the_same(tmp_path):
    path = str(tmp_path / "s.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    with answering(listener, READY) as heard:
        assert probed("--uds", path).exit_code == 0
    assert heard[0].startswith(b"GET /v2/health/ready ")


def test_the_environment_of_the_server_tells_where_to_ask(tmp_path, listener):
    with answering(listener, READY):
        assert probed(SERVEKIT__DATA__HTTP_PORT=str(listener.getsockname()[1])).exit_code == 0
    assert "/none.sock does not answer: no such file" in probed(SERVEKIT__DATA__UDS=str(tmp_path / "none.sock")).output


def test_nobody_there_is_not_ready(listener):
    port = listener.getsockname()[1]
    listener.close()
    ended = probed("--port", str(port))
    assert ended.exit_code == 1
    assert "connection refused" in ended.output


def test_a_server_that_never_answers_is_not_ready(listener):
    listener.listen()
    with listener:
        ended = probed("--port", str(listener.getsockname()[1]), "--timeout-ms", "50")
    assert ended.exit_code == 1
    assert "timed out" in ended.output
