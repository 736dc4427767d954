"""`servekit` as people type it: what it serves, what it says, what it reads first, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
import yaml

from tests.serve import models
from tests.serve.process import serving

COMMAND = [sys.executable, "-m", "servekit"]
FREE_PORTS = ["--http-port", "0", "--grpc-port", "0", "--management-port", "0"]
GOOD = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1.5, -2.0, 3.25]}]}


def run(*arguments, **variables):
    """Run a command to its end: exit code, stdout, stderr."""
    environment = {**os.environ, **variables}
    command = [*COMMAND, *map(str, arguments)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, env=environment)
    return ended.returncode, ended.stdout, ended.stderr


def refused(*arguments, **variables):
    """The one line of a command that is refused for its arguments or its configuration."""
    code, out, complaint = run(*arguments, **variables)
    assert (code, out) == (2, ""), complaint
    lines = complaint.strip().splitlines()
    assert all(line.startswith("servekit: ") for line in lines), complaint
    assert "Traceback" not in complaint
    return "\n".join(line.removeprefix("servekit: ") for line in lines)


def names(server):
    _, _, listed = server.request("GET", "/v2/models")
    return sorted(model["name"] for model in json.loads(listed)["models"])


def test_a_file_is_one_model_by_its_name(tmp_path):
    with serving(models.ident(tmp_path)) as server:
        assert server.ready["models"] == ["ident"]
        status, answer = server.infer("ident", GOOD)
        assert (status, answer["outputs"][0]["data"]) == (200, [1.5, -2.0, 3.25])
        assert server.request("GET", "/v2/models/ident/versions/1")[0] == 200


def test_a_file_can_have_another_name(tmp_path):
    with serving(models.ident(tmp_path), arguments=["--model-name", "other"]) as server:
        assert server.ready["models"] == ["other"]
        assert server.infer("other", GOOD)[0] == 200
        assert server.infer("ident", GOOD)[0] == 404


def test_a_folder_with_one_model_is_called_after_the_folder(tmp_path):
    folder = tmp_path / "mounted"
    models.ident(folder).rename(folder / "model.onnx")
    with serving(folder) as server:
        assert server.ready["models"] == ["mounted"]
    with serving(folder, arguments=["--model-name", "given"]) as server:
        assert server.ready["models"] == ["given"]


def mixed(folder):
    """All forms in which a folder holds models."""
    models.ident(folder)
    models.ident(folder / "plain").rename(folder / "plain" / "model.onnx")
    for version in ("2", "10"):
        models.ident(folder / "versions" / version).rename(folder / "versions" / version / "model.onnx")
    return folder


def test_a_folder_of_models_may_be_mixed_and_the_highest_version_is_served(tmp_path):
    with serving(mixed(tmp_path)) as server:
        assert sorted(server.ready["models"]) == ["ident", "plain", "versions"]
        _, _, about = server.request("GET", "/v2/models/versions")
        assert json.loads(about)["versions"] == ["10"]
        assert server.request("GET", "/v2/models/versions/versions/2")[0] == 404


def test_two_paths_are_served_together(tmp_path):
    with serving(models.ident(tmp_path / "one"), models.tiny(tmp_path / "two")) as server:
        assert sorted(server.ready["models"]) == ["ident", "tiny"]


def test_without_a_path_the_demo_is_served():
    with serving() as server:
        (name,) = server.ready["models"]
        _, _, about = server.request("GET", f"/v2/models/{name}")
        contract = json.loads(about)
        inputs = [
            {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": sample(tensor, shape)}
            for tensor in contract["inputs"]
            for shape in [[max(1, size) for size in tensor["shape"]]]
        ]
        status, answer = server.infer(name, {"inputs": inputs})
        assert status == 200, answer
        assert {output["name"] for output in answer["outputs"]} == {output["name"] for output in contract["outputs"]}


def sample(tensor, shape):
    count = 1
    for size in shape:
        count *= size
    return ["text" if tensor["datatype"] == "BYTES" else 1] * count


@contextmanager
def text_server(*arguments):
    """A server that speaks to people; its first line that holds `ready`."""
    command = [*COMMAND, "serve", *map(str, arguments), *FREE_PORTS]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield next(line for line in process.stderr if " ready " in line), process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


def test_the_ready_line_is_one_line_of_words(tmp_path):
    uds = tmp_path / "s.sock"
    with text_server(models.ident(tmp_path), "--uds", uds) as (line, process):
        words = line.split()
        said = dict(word.split("=", 1) for word in words if "=" in word)
        assert words[1:3] == ["info", "ready"]
        assert list(said) == ["http", "grpc", "management", "uds", "models"]
        assert (said["models"], said["uds"]) == ("ident", str(uds))
        host, port = said["http"].split(":")
        socket.create_connection((host, int(port))).close()
    assert process.returncode == 0


def test_the_ready_line_is_one_object_for_machines(tmp_path):
    with serving(models.ident(tmp_path)) as server:
        assert {"event", "http", "grpc", "management", "uds", "models"} <= set(server.ready)
        assert server.ready["uds"] is None
        assert len({server.http, server.grpc, server.management}) == 3


def test_one_port_can_stand_for_both(tmp_path):
    command = [*COMMAND, "serve", str(models.ident(tmp_path)), "--port", "0", "--management-port", "0"]
    with subprocess.Popen([*command, "--log-format", "json"], stderr=subprocess.PIPE, text=True) as process:
        ready = next(said for line in process.stderr if (said := json.loads(line))["event"] == "ready")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, 3)
    assert ready["http"]
    assert ready["grpc"] is None


def test_check_tells_the_contract_and_every_decision(tmp_path):
    code, out, _ = run("check", models.tiny(tmp_path))
    assert code == 0
    for words in ("x: FP32 [any, 4]", "y: FP32 [any, 3]", "batching", "execution", "arena", "usable", "limits"):
        assert words in out, words
    assert "memory_bytes_max" in out


def test_check_tells_machines_the_same(tmp_path):
    code, out, _ = run("check", "--json", models.tiny(tmp_path), "--batch-rows-max", "32")
    document = json.loads(out)
    (model,) = document["models"]
    assert code == 0
    assert (model["name"], model["state"], model["device"], model["batch_rows_max"]) == ("tiny", "ready", "cpu", 32)
    assert model["contract"]["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert model["execution"] in ("inline", "pool")
    assert {"batching", "execution", "device", "arena"} <= {topic for topic, _ in model["decisions"]}
    assert all(reason for _, reason in model["decisions"])
    assert {"cores", "shards", "runners", "intra_op", "reasons"} <= set(document["cores"])
    assert document["limits"]["batch_rows_max"] == 32
    assert {"memory_bytes_max", "connections_max", "in_flight_bytes_max"} <= {
        line["key"] for line in document["arithmetic"]
    }


def test_check_says_why_a_model_cannot_be_served(tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\xff" * 10)
    code, out, complaint = run("check", path)
    assert code == 1
    assert "cannot be served (model_file)" in out
    assert "Traceback" not in complaint


def test_a_missing_file_is_named_with_what_is_near(tmp_path):
    models.ident(tmp_path)
    said = refused("serve", tmp_path / "idnet.onnx")
    assert said == f"no file or folder {tmp_path / 'idnet.onnx'}; did you mean {tmp_path / 'ident.onnx'}?"


def test_a_model_of_another_kind_is_told_the_way(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"")
    assert "torch.onnx.export" in refused("serve", tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limits: {queue_request_max: 3}", "did you mean 'queue_requests_max'?"),
        ("limit: {}", "did you mean 'limits'?"),
        ("data: {http_port: many}", "found 'many', a whole number is allowed"),
        ("limits: {headers_max: 0}", "found 0, 1 or more is allowed"),
        ("models: [{name: ident, exection: pool}]", "did you mean 'execution'?"),
        ("data: {http_port: 1, http_port: 2}", "'http_port' stands twice"),
        ("]", "correct it"),
    ],
)
def test_a_fault_in_the_file_is_told_in_one_line_with_the_nearest_key(tmp_path, text, words):
    file = tmp_path / "servekit.yaml"
    file.write_text(text)
    said = refused("serve", models.ident(tmp_path), "--config", file)
    assert words in said
    assert str(file) in said


def test_a_fault_in_the_environment_is_told_by_its_name(tmp_path):
    path = models.ident(tmp_path)
    assert "SERVEKIT__DATA__HTTP_PORTS" in refused("serve", path, SERVEKIT__DATA__HTTP_PORTS="1")
    assert "flag --http-port: found 'x'" in refused("serve", path, "--http-port", "x")
    assert run("serve", "--no-such-flag")[0] == 2
    assert run("no-such-command")[0] == 2


def test_names_that_kubernetes_sets_for_a_service_are_ignored(tmp_path):
    path = models.ident(tmp_path)
    code, out, _ = run("config", SERVEKIT_PORT="tcp://10.0.0.1:80", SERVEKIT_DATA_HTTP_PORT="1")
    assert code == 0
    assert yaml.safe_load(out)["data"]["http_port"] == 8000
    assert path.exists()


def test_flags_win_over_the_environment_and_the_environment_over_the_file(tmp_path):
    file = tmp_path / "servekit.yaml"
    file.write_text("limits: {queue_requests_max: 11, batch_rows_max: 12, headers_max: 13}\n")
    environment = {"SERVEKIT__LIMITS__BATCH_ROWS_MAX": "22", "SERVEKIT__LIMITS__QUEUE_REQUESTS_MAX": "21"}
    arguments = ["check", "--json", models.ident(tmp_path), "--config", file, "--queue-requests-max", "31"]
    code, out, complaint = run(*arguments, **environment)
    assert code == 0, complaint
    limits = json.loads(out)["limits"]
    assert [limits[key] for key in ("queue_requests_max", "batch_rows_max", "headers_max")] == [31, 22, 13]


def test_the_file_can_name_models_and_their_settings(tmp_path):
    models.ident(tmp_path / "models")
    file = tmp_path / "servekit.yaml"
    file.write_text("models: [{path: models/ident.onnx, name: renamed, execution: pool, batch_rows_max: 7}]\n")
    with serving(arguments=["--config", str(file)]) as server:
        assert server.ready["models"] == ["renamed"]
        assert server.metric("servekit_model_info", model="renamed", execution="pool") == 1


def test_a_port_that_is_taken_is_told(tmp_path):
    path = models.ident(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        others = {"--http-port": "0", "--grpc-port": "0", "--management-port": "0"}
        for flag in others:
            arguments = [word for pair in {**others, flag: port}.items() for word in pair]
            code, _, complaint = run("serve", path, *arguments)
            assert code == 1, flag
            assert f"127.0.0.1:{port}" in complaint
            assert "in use" in complaint
            assert "Traceback" not in complaint


def test_probe_tells_whether_a_server_is_ready(tmp_path):
    with serving(models.ident(tmp_path)) as server:
        port = server.http.rsplit(":", 1)[1]
        assert run("probe", "--port", port) == (0, "", "")
        assert run("probe", "--live", "--port", port) == (0, "", "")
    code, _, complaint = run("probe", "--port", port)
    assert code == 1
    assert f"127.0.0.1:{port} does not answer: connection refused" in complaint


def test_the_versions_and_the_commands_are_told():
    code, out, _ = run("--version")
    assert (code, out.split()[0]) == (0, "servekit")
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in ("serve", "check", "config", "probe"))


HEAVY = {"numba", "grpc", "numpy", "onnxruntime", "jinja2", "markdown_it", "httpx", "google"}
"""What nobody should wait for who only serves."""


def test_nothing_that_serving_does_not_need_is_imported(tmp_path):
    with serving(models.ident(tmp_path), environment={"PYTHONPROFILEIMPORTTIME": "1"}) as server:
        assert server.infer("ident", GOOD)[0] == 200
        lines = [line for line in server.lines if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    assert "servekit" in imported
    assert imported & HEAVY == set()
    # The page of the operator comes last: the ports do not wait for it.
    order = [line.rpartition("|")[2].strip() for line in lines]
    assert order.index("servekit._native") < order.index("starlette")


def test_a_python_thread_is_not_held_up_by_the_server(tmp_path):
    # The main thread waits for signals without the interpreter, so a page can be served meanwhile.
    with serving(models.ident(tmp_path)) as server:
        answers = []
        threads = [
            threading.Thread(
                target=lambda: answers.append(server.request("GET", "/healthz", address=server.management))
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert [status for status, _, _ in answers] == [200] * 4
