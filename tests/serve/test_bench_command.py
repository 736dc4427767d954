"""`servekit bench` against a real server, and against one that never answers."""

import json
import socket
import subprocess
import sys

import pytest

from tests.serve import models
from tests.serve.process import serving

SUCCESS = "nv_inference_request_success"
LIMITED = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    models.tiny(folder)
    models.two(folder)
    with serving(folder) as process:
        yield process


@pytest.fixture
def mute():
    """The address of somebody who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def body(tmp_path):
    path = tmp_path / "body.json"
    path.write_bytes(b"{}")
    return path


def run(*arguments):
    command = [sys.executable, "-m", "servekit", "bench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def bench(*arguments):
    """Exit code and document."""
    ended = run(*arguments, "--json")
    assert ended.returncode in (0, LIMITED), ended.stderr
    return ended.returncode, json.loads(ended.stdout)


def only_run(document):
    (outcome,) = document["runs"]
    return outcome


SHORT = ("--rates", "300", "--seconds", "1", "--warm-seconds", "0.2")


@pytest.mark.parametrize("arrivals", ["poisson", "mmpp", "constant"])
@pytest.mark.parametrize("protocol", ["json", "binary", "grpc"])
def test_every_request_is_answered_and_the_servers_count_agrees(server, protocol, arrivals):
    before = server.metric(SUCCESS, model="tiny")
    code, document = bench(f"{server.http}/tiny", "--protocol", protocol, "--arrivals", arrivals, *SHORT)
    outcome = only_run(document)
    assert outcome["offered"] > 0
    assert outcome["failed"] == {}
    assert outcome["sent"] == outcome["answered"] == outcome["offered"]
    assert outcome["ok"] + sum(outcome["refused"].values()) == outcome["answered"]
    assert server.metric(SUCCESS, model="tiny") - before == outcome["ok_total"]
    assert outcome["ok"] == sum(window["ok"] for window in outcome["timeline"])
    assert code == (0 if outcome["valid"] else LIMITED)


@pytest.mark.parametrize("protocol", ["json", "binary", "grpc"])
def test_several_inputs_and_rows_are_made_up_as_the_model_describes_them(server, protocol):
    url = f"http://{server.http}/v2/models/two"
    _, document = bench(url, "--protocol", protocol, "--rows", 3, "--large", "0.5:40", *SHORT)
    outcome = only_run(document)
    assert outcome["refused"] == {}
    assert outcome["ok"] == outcome["offered"]


@pytest.mark.parametrize("protocol", ["json", "grpc"])
def test_deadlines_and_priorities_are_sent_with_each_request(server, protocol):
    flags = ("--deadline-ms", "5000", "--priority", "1:0.3,4:0.7", "--server-pid", server.process.pid)
    _, document = bench(f"{server.http}/tiny", "--protocol", protocol, *flags, *SHORT)
    outcome = only_run(document)
    assert outcome["refused"] == {}, "the server reads both"
    assert [one["level"] for one in outcome["priorities"]] == [1, 4]
    assert sum(one["offered"] for one in outcome["priorities"]) == outcome["offered"]
    assert outcome["server_cpu_us_per_request"] >= 0


def test_a_seed_sends_the_same_number_again(server):
    offered = [only_run(bench(f"{server.http}/tiny", "--seed", "7", *SHORT)[1])["offered"] for _ in range(2)]
    assert offered[0] == offered[1]


def test_loads_are_multiples_of_a_capacity_that_is_measured_before(server, tmp_path):
    picture = tmp_path / "load.svg"
    flags = ("--in-flight", "2", "--load", "0.05,0.1", "--seconds", "0.5", "--warm-seconds", "0", "--svg", picture)
    _, document = bench(f"{server.http}/tiny", *flags)
    capacity = document["capacity"]["requests_per_s"]
    assert capacity > 0
    assert [run["rate"] for run in document["runs"]] == pytest.approx([capacity * 0.05, capacity * 0.1])
    assert picture.read_text().startswith("<svg ")


def test_a_trace_is_replayed_at_its_own_speed(server, tmp_path):
    trace = tmp_path / "trace.txt"
    trace.write_text("# thirty requests in 300 ms\n" + "".join(f"{at * 10}\n" for at in range(30)))
    flags = ("--trace", trace, "--seconds", "0.6", "--warm-seconds", "0")
    outcome = only_run(bench(f"{server.http}/tiny", *flags)[1])
    assert outcome["rate"] is None
    assert outcome["offered"] == 60, "from the beginning again"


def test_callers_who_leave_are_not_counted_against_the_server(server):
    for protocol in ("json", "grpc"):
        flags = ("--protocol", protocol, "--cancel", "0.3", "--slo-ms", "1")
        outcome = only_run(bench(f"{server.http}/tiny", *flags, *SHORT)[1])
        assert outcome["failed"] == {}
        assert outcome["answered"] + outcome["cancelled"] == outcome["offered"]


def test_slow_readers_do_not_keep_others_from_their_answers(server):
    outcome = only_run(bench(f"{server.http}/tiny", "--slow", "2", *SHORT)[1])
    assert outcome["slow"]["sent_bytes"] > 0
    assert outcome["failed"] == {}
    assert outcome["answered"] == outcome["offered"]


def test_a_run_that_ran_out_of_connections_is_not_valid(mute, body):
    flags = ("--body", body, "--connections", "1", "--patience-seconds", "0.1", "--arrivals", "constant")
    code, document = bench(f"{mute}/m", *flags, "--rates", "40", "--seconds", "0.5", "--warm-seconds", "0")
    outcome = only_run(document)
    assert (code, document["valid"], outcome["valid"]) == (LIMITED, False, False)
    assert (outcome["offered"], outcome["sent"], outcome["waited"]) == (20, 1, 19)
    assert outcome["failed"] == {"not answered": 1, "not sent": 19}
    assert any("19 of 20 requests waited for a free connection" in reason for reason in outcome["invalid_because"])
    assert outcome["offered_ms"]["p50"] is None, "never served is never"


def test_the_table_tells_why_a_run_is_not_valid(mute, body):
    flags = ("--body", body, "--patience-seconds", "0.1", "--rates", "40", "--seconds", "0.5", "--warm-seconds", "0")
    ended = run(f"{mute}/m", *flags)
    assert ended.returncode == LIMITED
    assert "not valid: no request was served" in ended.stdout
    assert "1 of 1 runs not valid" in ended.stdout


def test_a_refusal_is_told_with_its_status_and_text(server, body):
    ended = run(f"{server.http}/absent", "--body", body, "--rates", "50", "--seconds", "0.3", "--warm-seconds", "0")
    assert ended.returncode == LIMITED
    assert "x 404" in ended.stdout
    assert "absent" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nowhere"], "HOST:PORT/NAME"),
        (["{}/m", "--rates", "0"], "--rates '0': numbers above 0 are allowed"),
        (["{}/m", "--rates", "-5"], "--rates"),
        (["{}/m", "--rates", "1e9", "--body", "{body}"], "rate, in requests per second, is 1000000000"),
        (["{}/m", "--rates", "1", "--body", "{body}", "--connections", "100000"], "100000"),
        (["{}/m", "--rates", "1", "--body", "{body}", "--streams", "5000"], "streams: 5000 found, 1 to 1000"),
        (["{}/m", "--priority", "high"], "levels from 1 with shares above 0"),
        (["{}/m", "--large", "2:3"], "a share between 0 and 1"),
        (["{}/m", "--lengths", "lognormal:0:5"], "lognormal:MEDIAN:MAX"),
        (["{}/m", "--seconds", "0"], "--seconds"),
        (["{}/m", "--slow", "1", "--protocol", "grpc", "--rates", "1", "--body", "{body}"], "slow readers speak HTTP"),
    ],
)
def test_nonsense_is_refused_with_what_is_allowed(mute, body, arguments, told):
    ended = run(*(argument.replace("{}", mute).replace("{body}", str(body)) for argument in arguments))
    assert ended.returncode == 2, ended.stderr
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_server_that_is_not_there_is_told(body):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    for flags in ((), ("--body", body)):
        ended = run(f"{address}/m", "--rates", "10", *flags)
        assert ended.returncode == 1
        assert address in ended.stderr
        assert "is the server running" in ended.stderr
