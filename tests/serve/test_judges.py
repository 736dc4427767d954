"""Programs of other people judge the protocols: curl, wrk and h2load, where they are, on both data ports."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from tests.serve.alive import G_VALUES, G, unharmed
from tests.serve.transports import Asked, grpc_request, http_arrays, json_body, path_of

SECONDS = 60
REQUESTS = 2_000
IDENT = path_of("ident")
WIDE = np.linspace(-1, 1, 200_000, dtype=np.float32).reshape(2, -1)
VERSIONS = ["--http1.1", "--http2-prior-knowledge"]

# Which are here is decided when tests are collected; the end of the run names the others.
CURL, WRK, H2LOAD, NGHTTP = (
    pytest.mark.parametrize("judge", [path] if (path := shutil.which(name)) else [])
    for name in ("curl", "wrk", "h2load", "nghttp")
)
POST_WITH_WRK = """
wrk.method, wrk.body = "POST", '%s'
wrk.headers["Content-Type"] = "application/json"
function response(status, headers, body)
  if status ~= 200 or not body:find('"data":%%[1.5,') then print("WRONG " .. status .. " " .. body) end
end
"""


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.json"
    path.write_bytes(G)
    return path


def run(*command, text=True):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=text, timeout=SECONDS, check=False)
    assert done.returncode == 0, done
    return done.stdout


def right(body):
    assert json.loads(body)["outputs"][0]["data"] == G_VALUES.ravel().tolist()


# curl


@CURL
@pytest.mark.parametrize("version", VERSIONS)
def test_curl_gets(judge, address, version):
    assert json.loads(run(judge, "-sS", version, f"http://{address}/v2/models/ident"))["name"] == "ident"
    head = run(judge, "-sS", "--head", version, f"http://{address}/v2/health/ready")
    assert re.match(r"HTTP/(1\.1|2) 200", head)


@CURL
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["application/json", None], ids=["json", "as-curl-says"])
def test_curl_posts(judge, address, good, version, kind):
    extra = ["-H", f"Content-Type: {kind}"] if kind else []
    right(run(judge, "-sS", version, *extra, "-d", f"@{good}", f"http://{address}{IDENT}"))


@CURL
@pytest.mark.parametrize("version", VERSIONS)
def test_curl_streams_what_has_no_length(judge, address, good, version):
    chunked = ["-H", "Transfer-Encoding: chunked"] if version == VERSIONS[0] else []
    with good.open("rb") as body:
        command = [judge, "-sS", version, *chunked, "-X", "POST", "-T", "-", f"http://{address}{IDENT}"]
        done = subprocess.run(command, stdin=body, capture_output=True, timeout=SECONDS, check=True)
    right(done.stdout)


@CURL
@pytest.mark.parametrize("version", VERSIONS)
def test_curl_sends_a_large_body_after_asking(judge, address, tmp_path, version):
    path = tmp_path / "wide.json"
    path.write_bytes(json_body(Asked("ident", {"x": WIDE})))
    assert path.stat().st_size > 2**20, "above this curl asks first"
    kind = ["-H", "Content-Type: application/json", "-H", "Expect: 100-continue"]
    body = run(judge, "-sS", version, *kind, "--data-binary", f"@{path}", f"http://{address}{IDENT}", text=False)
    np.testing.assert_array_equal(http_arrays(200, {}, body)["y"], WIDE)


# By prior knowledge curl 7.88 loses the second request of a connection, whoever serves it: nghttp judges that.


@CURL
def test_curl_keeps_one_connection_for_many_requests(judge, address, good):
    urls = [f"http://{address}{IDENT}"] * 20
    told = run(judge, "-sS", "--http1.1", "-d", f"@{good}", "-w", r"\n%{num_connects} %{http_code}\n", *urls)
    assert re.findall(r"^([01]) (\d+)$", told, re.MULTILINE) == [("1", "200")] + [("0", "200")] * 19


@CURL
def test_curl_runs_requests_in_parallel(judge, address, good):
    urls = [f"http://{address}{IDENT}"] * 50
    told = run(judge, "-sS", "--parallel", "--http1.1", "-d", f"@{good}", "-w", r"\n%{http_code}\n", *urls)
    assert re.findall(r"^(\d{3})$", told, re.MULTILINE) == ["200"] * 50


@NGHTTP
@pytest.mark.parametrize("window_bits", [2, 16])
def test_nghttp_runs_requests_in_parallel_on_one_connection(judge, address, good, window_bits):
    told = run(judge, "-ns", "-m", 100, "-w", window_bits, "-d", good, f"http://{address}{IDENT}")
    size = len(run(judge, "-d", good, f"http://{address}{IDENT}"))
    assert len(re.findall(rf" 200 +{size} {IDENT}$", told, re.MULTILINE)) == 100, told


@CURL
@pytest.mark.parametrize("version", VERSIONS)
def test_curl_reads_a_refusal(judge, server, good, version):
    with unharmed(server, model=1):
        told = run(judge, "-sS", "-i", version, "-d", f"@{good}", f"http://{server.http}{path_of('nope')}")
    assert re.match(r"HTTP/(1\.1|2) 404", told)
    assert re.search(r"^servekit-refusal: model\r?$", told, re.MULTILINE | re.IGNORECASE)


@CURL
def test_curl_upgrades_nothing_and_is_served_all_the_same(judge, address, good):
    right(run(judge, "-sS", "--http2", "-d", f"@{good}", f"http://{address}{IDENT}"))


# wrk


@WRK
@pytest.mark.parametrize("clients", [1, 32])
def test_wrk_gets_nothing_but_right_answers(judge, address, tmp_path, clients):
    script = tmp_path / "post.lua"
    script.write_text(POST_WITH_WRK % G.decode())
    told = run(judge, "-t1", f"-c{clients}", "-d1s", "-s", script, f"http://{address}{IDENT}")
    for complaint in ("WRONG", "Non-2xx", "Socket errors"):
        assert complaint not in told, told[:1000]
    assert int(re.search(r"(\d+) requests in", told)[1]) > 0


# h2load


@H2LOAD
@pytest.mark.parametrize("version", [[], ["--h1"]], ids=["http2", "http1"])
@pytest.mark.parametrize(("clients", "streams"), [(1, 1), (4, 1), (4, 64), (1, 256)])
def test_h2load_loses_no_request(judge, address, good, version, clients, streams):
    kind = ["-H", "content-type: application/json"]
    amount = ["-n", REQUESTS, "-c", clients, "-m", streams]
    told = run(judge, *version, *amount, *kind, "-d", good, f"http://{address}{IDENT}")
    assert f"{REQUESTS} done, {REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout" in told
    assert f"status codes: {REQUESTS} 2xx" in told


@H2LOAD
@pytest.mark.parametrize("window_bits", [4, 16])
def test_h2load_speaks_grpc_in_any_window(judge, address, tmp_path, window_bits):
    message = grpc_request(Asked("ident", {"x": G_VALUES})).SerializeToString()
    path = tmp_path / "message"
    path.write_bytes(b"\0" + len(message).to_bytes(4, "big") + message)
    fields = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    amount = ["-n", REQUESTS, "-c", 2, "-m", 16, "-w", window_bits]
    url = f"http://{address}/inference.GRPCInferenceService/ModelInfer"
    told = run(judge, *amount, *fields, "-d", path, url)
    assert f"{REQUESTS} done, {REQUESTS} succeeded, 0 failed" in told
