"""The operator's port tells the truth about known traffic, in names dashboards know, and only to whom it should."""

import http.client
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.serve import models
from tests.serve.limit_cases import Group, message, placed, refused, served
from tests.serve.raw_frames import peer
from tests.serve.raw_http import abort, get, infer, raw_connection

G = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1.5,-2.0,3.25]}]}'
FOUR_ROWS = b'{"inputs":[{"name":"x","shape":[4,1],"datatype":"FP32","data":[1,2,3,4]}]}'
MESSAGE = message("ident", ("x", "FP32", [1, 3], bytes(12)))
BINARY = (
    b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}],'
    b'"parameters":{"binary_data_output":true}}'
)
OURS = {
    "servekit_request_duration_seconds": "histogram",
    "servekit_queue_duration_seconds": "histogram",
    "servekit_batch_rows": "histogram",
    "servekit_run_duration_seconds": "histogram",
    "servekit_in_flight_requests": "gauge",
    "servekit_queue_rows": "gauge",
    "servekit_refusals": "counter",
    "servekit_dispatch": "counter",
    "servekit_connections": "gauge",
    "servekit_connections_closed": "counter",
    "servekit_requests_accepted": "counter",
    "servekit_requests_answered": "counter",
    "servekit_requests_cancelled": "counter",
}
TRITON = {
    "nv_inference_request_success": "counter",
    "nv_inference_request_failure": "counter",
    "nv_inference_count": "counter",
    "nv_inference_exec_count": "counter",
    "nv_inference_request_duration_us": "counter",
    "nv_inference_queue_duration_us": "counter",
    "nv_inference_compute_input_duration_us": "counter",
    "nv_inference_compute_infer_duration_us": "counter",
    "nv_inference_compute_output_duration_us": "counter",
    "nv_inference_pending_request_count": "gauge",
}
GROUP = Group({}, (models.ident, models.pick, models.spin), environment=placed(ident="inline", spin="pool"))


@pytest.fixture
def server(tmp_path):
    with GROUP.served(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def idle(tmp_path_factory):
    """A server that only its operator talks to."""
    with GROUP.served(tmp_path_factory.mktemp("models")) as server:
        yield server


def scraped(server, accept="text/plain"):
    """Families by name."""
    status, headers, body = server.request("GET", "/metrics", headers={"Accept": accept}, address=server.management)
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(body.decode())}


def test_every_family_is_there_with_its_kind(server):
    with raw_connection(server) as connection:
        served(connection.ask(infer("ident", G)))
    families = scraped(server)
    found = {name: family.type for name, family in families.items()}
    assert {name: found.get(name) for name in {**OURS, **TRITON}} == {**OURS, **TRITON}
    assert all(family.documentation for family in families.values())
    assert found["process_resident_memory_bytes"] == "gauge"
    (info,) = [sample for sample in families["servekit_model_info"].samples if sample.labels["model"] == "ident"]
    assert {"digest", "ort", "ep", "execution", "version"} <= set(info.labels)
    assert (info.labels["ep"], len(info.labels["digest"])) == ("cpu", 64)


def test_known_traffic_is_counted_exactly(server):
    with raw_connection(server) as connection:
        for _ in range(5):
            served(connection.ask(infer("ident", G)))
        for _ in range(3):
            field = f"Inference-Header-Content-Length: {len(BINARY)}"
            served(connection.ask(infer("ident", BINARY + bytes(12), field)))
        served(connection.ask(infer("ident", FOUR_ROWS)))
        refused(connection.ask(infer("ident", G.replace(b"FP32", b"FP64"))), 400, "datatype")
        refused(connection.ask(infer("nope", G)), 404, "model")
    with peer(server) as caller:
        for _ in range(2):
            served(caller.call(MESSAGE))
        refused(caller.call(message("pick", ("i", "INT64", [1], (99).to_bytes(8, "little")))), 3, "row")
    for outcome, transport, count in (
        ("ok", "http_json", 6),
        ("ok", "http_binary", 3),
        ("ok", "grpc", 2),
        ("datatype", "http_json", 1),
    ):
        name = "servekit_request_duration_seconds_count"
        server.settles(name, count, model="ident", outcome=outcome, transport=transport)
    server.settles("servekit_request_duration_seconds_count", 1, model="pick", outcome="row", transport="grpc")
    expected = {
        "nv_inference_request_success": 11,
        "nv_inference_count": 14,
        "nv_inference_exec_count": 11,
        "servekit_batch_rows_sum": 14,
        "servekit_batch_rows_count": 11,
        "servekit_run_duration_seconds_count": 11,
    }
    assert {name: server.metric(name, model="ident") for name in expected} == expected
    assert server.metric("nv_inference_request_failure", model="ident", reason="OTHER") == 1
    assert server.metric("nv_inference_request_failure", model="pick", reason="BACKEND") == 1
    for label in ("datatype", "model", "row"):
        assert server.metric("servekit_refusals_total", reason=label) == 1
    assert server.metric("servekit_refusals_total") == 3
    accepted, answered, cancelled = (
        server.metric(f"servekit_requests_{fate}_total") for fate in ("accepted", "answered", "cancelled")
    )
    assert (accepted, answered, cancelled) == (12, 12, 0)
    durations = [name for name in TRITON if name.endswith("_us")]
    assert all(server.metric(name, model="ident") >= 0 for name in durations)
    assert server.metric("nv_inference_request_duration_us", model="ident") > 0


def test_who_leaves_is_counted_apart(server):
    endless = b'{"inputs":[{"name":"n","shape":[1],"datatype":"INT64","data":[1000000000000]}]}'
    with raw_connection(server) as connection:
        connection.send(infer("spin", endless))
        server.settles("servekit_in_flight_requests", 1, model="spin")
        abort(connection.socket)
    server.settles("servekit_requests_cancelled_total", 1)
    server.settles("nv_inference_request_failure", 1, model="spin", reason="CANCELED")
    assert server.metric("servekit_requests_accepted_total") == 1


def test_gauges_show_what_is_open(server):
    with raw_connection(server) as one, raw_connection(server) as two, peer(server) as caller:
        served(one.ask(get("/v2/health/live")))
        served(two.ask(get("/v2/health/live")))
        served(caller.call(MESSAGE))
        server.settles("servekit_connections", 3)
        server.settles("servekit_streams", 0)
    server.settles("servekit_connections", 0)


def test_buckets_are_cumulative_and_end_with_all(server):
    with raw_connection(server) as connection:
        for _ in range(4):
            served(connection.ask(infer("ident", G)))
    for name in ("servekit_request_duration_seconds", "servekit_batch_rows"):
        samples = [s for s in scraped(server)[name].samples if s.labels["model"] == "ident" and s.labels.get("le")]
        counts = [sample.value for sample in samples]
        assert counts == sorted(counts)
        assert (samples[-1].labels["le"], counts[-1]) == ("+Inf", 4)


def test_label_values_come_from_closed_sets(server):
    with raw_connection(server) as connection:
        for name in ("made-up", "../../etc", "a b"):
            connection.ask(infer(name.replace(" ", "%20"), G))
            connection.ask(get(f"/{name.replace(' ', '%20')}"))
    text = server.request("GET", "/metrics", address=server.management)[2]
    assert b"made-up" not in text
    assert b"etc" not in text


def test_health_and_metrics_need_no_name(idle):
    for path in ("/metrics", "/healthz"):
        headers = {"Host": "anything.example:1", "Origin": "http://evil.example"}
        assert idle.request("GET", path, headers=headers, address=idle.management)[0] == 200


@pytest.mark.parametrize("path", ["/", "/status.json", "/guide"])
def test_pages_are_only_for_who_names_this_server(idle, path):
    port = idle.management.rsplit(":", 1)[1]
    for host in ("127.0.0.1", f"localhost:{port}", f"[::1]:{port}"):
        assert idle.request("GET", path, headers={"Host": host}, address=idle.management)[0] == 200
    for headers in ({"Host": "evil.example"}, {"Host": "127.0.0.1", "Origin": "http://127.0.0.1"}, {"Origin": "null"}):
        status, answered, body = idle.request("GET", path, headers=headers, address=idle.management)
        assert (status, answered["servekit-refusal"]) == (403, "forbidden")
        assert set(json.loads(body)) == {"error"}


def test_a_further_name_can_be_allowed(tmp_path):
    group = Group({}, (models.ident,), environment={"SERVEKIT__MANAGEMENT__HOSTS": "ops.example"})
    with group.served(tmp_path) as server:
        assert server.request("GET", "/", headers={"Host": "ops.example"}, address=server.management)[0] == 200


def test_the_first_page_shows_models_and_their_contracts(server):
    with raw_connection(server) as connection:
        served(connection.ask(infer("ident", G)))
    status, headers, body = server.request("GET", "/", address=server.management)
    page = body.decode()
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in headers["content-security-policy"]
    for words in ("ident", "pick", "spin", "FP32", "INT64", "inline", "pool"):
        assert words in page, words
    figures = json.loads(server.request("GET", "/status.json", address=server.management)[2])["figures"]
    assert figures["server/answered"] == "1"
    assert figures["server/state"] == "ready"


def test_the_guide_is_served_and_nothing_else_is(idle):
    contents = idle.request("GET", "/guide", address=idle.management)[2].decode()
    assert "/guide/limits" in contents
    assert b"<table" in idle.request("GET", "/guide/errors", address=idle.management)[2]
    for path in ("/guide/../server.py", "/guide/%2e%2e%2fserver", "/admin", "/v2/models"):
        assert idle.request("GET", path, address=idle.management)[0] == 404


def test_the_management_port_changes_nothing(idle):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/", "/metrics", "/status.json"):
            assert idle.request(method, path, address=idle.management)[0] == 405


def test_data_ports_have_no_metrics(idle):
    connection = http.client.HTTPConnection(idle.http, timeout=20)
    connection.request("GET", "/metrics")
    assert connection.getresponse().status == 404
    connection.close()
