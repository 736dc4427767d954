"""The Unix socket speaks everything the ports speak, and the sidecar's manifest runs as it is written."""

import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from shutil import which

import grpc
import httpx
import numpy as np
import pytest
import yaml

from servekit.cli.probe import UnixConnection
from tests.serve import models
from tests.serve.alive import G_VALUES, G
from tests.serve.process import serving
from tests.serve.raw_frames import Peer
from tests.serve.raw_http import RawConnection, get
from tests.serve.stubs import stub_module
from tests.serve.transports import Asked, grpc_request, inference_stub, message_arrays

MANIFEST = Path(__file__).parents[2] / "configs" / "kubernetes-sidecar.yaml"
PATH = "/v2/models/ident/infer"
OFF = ("--http-port", "off", "--grpc-port", "off")
VALUES = [1.5, -2.0, 3.25]


@pytest.fixture(scope="module")
def uds(tmp_path_factory):
    """The socket of a server that listens nowhere else."""
    folder = tmp_path_factory.mktemp("sidecar")
    path = folder / "servekit.sock"
    with serving(models.ident(folder), arguments=["--uds", str(path), *OFF]) as server:
        assert (server.ready["http"], server.ready["grpc"], server.ready["uds"]) == (None, None, str(path))
        yield path


def connect(path):
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(str(path))
    return connected


def test_http_is_spoken_to_httpx(uds):
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(uds)), base_url="http://sidecar", trust_env=False
    ) as client:
        for _ in range(3):
            answer = client.post(PATH, content=G)
            assert answer.status_code == 200
            assert answer.json()["outputs"][0]["data"] == VALUES


def test_http2_is_spoken_by_its_preface(uds):
    with connect(uds) as connected:
        answer = Peer(connected).ask(PATH, G)
        assert answer.headers[":status"] == "200"
        assert json.loads(answer.body)["outputs"][0]["data"] == VALUES


def test_grpc_is_spoken_to_grpcio(uds):
    with grpc.insecure_channel(f"unix:{uds}") as channel:
        answer = inference_stub(channel).ModelInfer(grpc_request(Asked("ident", {"x": G_VALUES})), timeout=20)
        np.testing.assert_array_equal(message_arrays(answer)["y"], G_VALUES)
        messages = stub_module("health_pb2")
        health = stub_module("health_pb2_grpc").HealthStub(channel).Check(messages.HealthCheckRequest(), timeout=20)
        assert health.status == messages.HealthCheckResponse.SERVING


@pytest.mark.skipif(not which("curl"), reason="curl is not here")
@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_curl_is_answered(uds, version):
    if version.startswith("--http2") and b"HTTP2" not in subprocess.check_output(["curl", "--version"]):
        pytest.skip("this curl speaks no HTTP/2")
    command = ["curl", "--silent", version, "--unix-socket", str(uds), f"http://sidecar{PATH}", "-d", G.decode()]
    assert json.loads(subprocess.check_output(command))["outputs"][0]["data"] == VALUES


def test_the_socket_is_for_its_owner_and_group(uds):
    mode = uds.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


def probe(*arguments, command=("-m", "servekit", "probe")):
    ended = subprocess.run(
        [sys.executable, *command, *arguments], check=False, capture_output=True, text=True, timeout=20
    )
    return ended.returncode, ended.stderr


def test_probe_asks_over_the_socket(uds, tmp_path):
    assert probe("--uds", str(uds)) == (0, "")
    assert probe("--uds", str(uds), "--live") == (0, "")
    code, said = probe("--uds", str(tmp_path / "none.sock"))
    assert code == 1
    assert "does not answer: no such file or directory" in said


def test_a_socket_left_behind_is_taken_over_and_a_live_one_is_not(tmp_path, uds):
    path, stale = models.ident(tmp_path), tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(stale))
    with serving(path, arguments=["--uds", str(stale), *OFF]), connect(stale) as connected:
        assert RawConnection(connected).ask(get("/v2/health/ready")).status == 200
    assert not stale.exists()
    with serving(path, arguments=["--uds", str(uds), *OFF], wait=False) as second:
        assert second.ended() == 1
    assert "another process listens there" in "".join(second.lines)
    assert probe("--uds", str(uds)) == (0, "")
    precious = tmp_path / "precious"
    precious.write_text("kept")
    with serving(path, arguments=["--uds", str(precious), *OFF], wait=False) as third:
        assert third.ended() == 1
    assert precious.read_text() == "kept"


def manifest():
    """The sidecar's container."""
    (container,) = yaml.safe_load(MANIFEST.read_text())["spec"]["initContainers"]
    return container


def placed(words, replaced):
    """The words of a command with the Pod's paths replaced by a test's."""
    text = shlex.join(words)
    for path, own in replaced.items():
        text = text.replace(path, own)
    return shlex.split(text)


def test_the_manifest_runs_as_it_is_written(tmp_path):
    container = manifest()
    mounted, sockets = tmp_path / "models", tmp_path / "run"
    models.ident(mounted).rename(mounted / "model.onnx")
    sockets.mkdir()
    replaced = {
        "/mnt/models": str(mounted),
        "/run/servekit": str(sockets),
        "$(POD_IP)": "127.0.0.1",
        "--management-port=8002": "--management-port=0",
    }
    uds = sockets / "servekit.sock"
    probes = {
        name: placed(container[name]["exec"]["command"], replaced)
        for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert container["command"] == ["servekit"]
    assert all(words[:2] == ["servekit", "probe"] for words in probes.values())
    run = ("-m",)
    for words in probes.values():
        assert probe(*words, command=run)[0] == 1
    command = [sys.executable, "-m", "servekit", *placed(container["args"], replaced)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        ready = next(said for line in process.stderr if (said := json.loads(line))["event"] == "ready")
        assert (ready["models"], ready["uds"], ready["http"]) == (["models"], str(uds), None)
        for words in probes.values():
            assert probe(*words, command=run) == (0, "")
        connection = UnixConnection(str(uds), 20)
        connection.request("POST", "/v2/models/models/infer", G)
        assert connection.getresponse().status == 200
        connection.close()
        process.send_signal(signal.SIGTERM)
        # The application has ended before: there is nobody to wait for.
        assert process.wait(10) == 0
    assert not uds.exists()
