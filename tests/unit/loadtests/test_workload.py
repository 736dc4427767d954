"""How pipelines and their twins are asked. No server is started here."""

from http import HTTPStatus
from types import SimpleNamespace

import pytest

from loadtests.twins.workload import BINARY, JSON, Answer, ask
from servekit.bench.encoding import Body


class Connection:
    """One that answers alike, and remembers what it was asked."""

    def __init__(self, status=HTTPStatus.OK, content=b"{}", **headers):
        self.answer = SimpleNamespace(status=status, headers=headers, read=lambda: content)
        self.asked = []

    def request(self, *what):
        self.asked.append(what)

    def getresponse(self):
        return self.answer


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (Body(b"{}", JSON), {"content-type": JSON}),
        (Body(b"{}xy", BINARY, 2), {"content-type": BINARY, "inference-header-content-length": "2"}),
    ],
)
def test_a_body_is_posted_with_what_its_encoding_needs(body, headers):
    connection = Connection(**{"server-timing": "run;dur=1.5"})
    assert ask(connection, "text", body) == Answer("run;dur=1.5", b"{}")
    assert connection.asked == [("POST", "/v2/models/text/infer", body.content, headers)]


def test_a_refusal_is_no_answer():
    connection = Connection(HTTPStatus.TOO_MANY_REQUESTS, b'{"error":"queue full"}')
    with pytest.raises(RuntimeError, match=r"'text' answers 429, 200 is expected: .*queue full"):
        ask(connection, "text", Body(b"{}", JSON))
