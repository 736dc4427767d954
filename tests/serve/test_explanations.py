"""A server says where the time went: in answers if it is asked to, and for a model whenever it is asked."""

import json
import re

import pytest

from tests.serve import models
from tests.serve.limit_cases import message, refused, served
from tests.serve.process import serving
from tests.serve.raw_frames import peer
from tests.serve.raw_http import get, infer, raw_connection

G = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1.5,-2.0,3.25]}]}'
CALL = message("ident", ("x", "FP32", [1, 3], bytes(12)))
TIME = r"(\d+\.\d+)"
TIMING = re.compile(
    f"queue;dur={TIME}, "
    r'batch;desc="rows=(\d+) reason=(?:idle|full|window|held|alone)", '
    f"input;dur={TIME}, run;dur={TIME}, output;dur={TIME}, total;dur={TIME}"
)
MANY = 400


@pytest.fixture(scope="module", params=["inline", "pool"])
def timed(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("models")
    placed = {"SERVEKIT__MODELS": json.dumps([{"name": "ident", "execution": request.param}])}
    with serving(models.ident(folder), arguments=["--server-timing", "always"], environment=placed) as server:
        yield server


def answers(server, count=1):
    """Answers over HTTP/1, HTTP/2 and gRPC."""
    with raw_connection(server) as connection, peer(server) as caller:
        for _ in range(count):
            yield connection.ask(infer("ident", G))
            yield caller.ask("/v2/models/ident/infer", G)
            yield caller.call(CALL)


def test_no_answer_tells_its_times_unless_asked_to(server):
    for answer in answers(server):
        served(answer)
        assert "server-timing" not in answer.headers


def test_every_answer_tells_its_times(timed):
    for answer in answers(timed, 5):
        served(answer)
        found = TIMING.fullmatch(answer.headers["server-timing"])
        assert found, answer.headers["server-timing"]
        queue, rows, *stages, total = (float(number) for number in found.groups())
        assert rows == 1
        assert queue + sum(stages) <= total + 0.01, "milliseconds, rounded"


def test_a_refusal_has_no_times_of_a_run(timed):
    with raw_connection(timed) as connection:
        answer = connection.ask(infer("ident", G.replace(b"FP32", b"FP64")))
        refused(answer, 400, "datatype")
        assert "run;dur" not in answer.headers.get("server-timing", "")


def test_some_answers_tell_their_times(tmp_path):
    with (
        serving(models.ident(tmp_path), arguments=["--server-timing", "sampled"]) as server,
        raw_connection(server) as connection,
    ):
        told = ["server-timing" in connection.ask(infer("ident", G)).headers for _ in range(MANY)]
    assert any(told)
    assert not all(told)


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_a_model_s_configuration_tells_how_it_is_run(server, version):
    status, headers, body = server.request("GET", f"/v2/models/ident{version}/config")
    assert status == 200
    assert headers["content-type"].startswith("application/json")
    told = json.loads(body)
    assert told["name"] == "ident"
    assert told["max_batch_size"] == 64
    assert told["servekit"]["proof"]["verdict"] == "exact"
    assert told["dynamic_batching"]["priority_levels"] == 8


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_why_answers_in_words(server, version):
    for answer in answers(server, 5):
        served(answer)
    status, _, body = server.request("GET", f"/v2/models/ident{version}/why")
    assert status == 200
    told = json.loads(body)
    assert (told["model"], told["version"]) == ("ident", "1")
    words = " ".join(told["sentences"])
    assert re.search(r"99 in 100 were answered within [\d.]+ ms", words)
    assert "a lane was free" in words
    assert told["advice"]
    assert told["figures"]["answered"] >= 15


@pytest.mark.parametrize("route", ["config", "why"])
def test_of_a_model_that_is_not_served_nothing_is_told(server, route):
    for path in (f"/v2/models/nope/{route}", f"/v2/models/ident/versions/9/{route}"):
        status, headers, _ = server.request("GET", path)
        assert (status, headers["servekit-refusal"]) == (404, "model")
    with raw_connection(server) as connection:
        refused(connection.ask(get(f"/v2/models/ident/{route}", method="DELETE")), 405, "method")


def test_the_page_of_a_model_says_why(server):
    for answer in answers(server, 5):
        served(answer)
    status, _, page = server.request("GET", "/models/ident/1", address=server.management)
    assert status == 200
    shown = page.decode()
    assert "Nothing is counted yet" not in shown
    assert "exact" in shown
    assert "<code>idle</code>" in shown
