"""What a server has learned about run times is where the next one begins; a file that cannot be used harms nobody."""

import http.client
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serve import models, pipelines
from tests.serve.process import ServerProcess, serving

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]})
RUNS_MIN = 200
"""Fewer new runs are not worth a file."""
NOTED_AFTER_SECONDS = 0.5
"""What was learned is written down for others every quarter of a second."""
ONE_THREAD = {"SERVEKIT__BATCHING__INTRA_OP": "1"}
"""On a busy machine `tiny` may be taken for a slow model, and its runs be shared: times of those are kept elsewhere."""
IGNORED = "is ignored"
NOT_KEPT = "cannot be kept"


def drive(server: ServerProcess, model: str = "tiny", body: str = BODY) -> None:
    """Requests, one after the other, until more than enough was learned of them."""
    connection = http.client.HTTPConnection(server.http, timeout=60)
    try:
        sent, until = 0, time.monotonic() + 2 * NOTED_AFTER_SECONDS
        while sent < 4 * RUNS_MIN or time.monotonic() < until:
            connection.request("POST", f"/v2/models/{model}/infer", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
            sent += 1
    finally:
        connection.close()


@contextmanager
def served(
    tmp_path: Path, folder: Path | None = None, make: Callable[[Path], object] = models.tiny
) -> Iterator[ServerProcess]:
    """A server that keeps profiles, on one shard so that all is learned in one place."""
    if not (tmp_path / "models").exists():
        make(tmp_path / "models")
    environment = {**ONE_THREAD, "SERVEKIT__BATCHING__PROFILES": str(folder or tmp_path / "profiles")}
    arguments = ("--shards", "1", "--runners", "1", "--allow-code")
    with serving(tmp_path / "models", arguments=arguments, environment=environment) as server:
        yield server


def stopped(server: ServerProcess) -> list[str]:
    """The server's lines about profiles, once it has ended as it should."""
    server.signal(signal.SIGINT)
    assert server.ended() == 0
    return [line for line in server.lines if IGNORED in line or NOT_KEPT in line]


def kept(tmp_path: Path) -> Path:
    """The one profile, and nothing beside it."""
    [path] = (tmp_path / "profiles").iterdir()
    return path


def profile_of_next_start(tmp_path: Path, model: str = "tiny") -> str:
    """What a load makes of what was kept, as `servekit check` tells it."""
    environment = {**os.environ, **ONE_THREAD, "SERVEKIT__BATCHING__PROFILES": str(tmp_path / "profiles")}
    arguments = ["check", str(tmp_path / "models"), "--shards", "1", "--runners", "1", "--allow-code", "--json"]
    told = subprocess.run(
        [sys.executable, "-m", "servekit", *arguments], env=environment, capture_output=True, text=True, check=True
    )
    [found] = [entry for entry in json.loads(told.stdout)["models"] if entry["name"] == model]
    return str(found["profile"])


def learned(tmp_path: Path) -> Path:
    """The profile that a server leaves after enough requests."""
    with served(tmp_path) as server:
        assert not (tmp_path / "profiles").exists(), "a start writes nothing"
        drive(server)
        assert stopped(server) == []
    return kept(tmp_path)


def test_what_was_learned_is_where_the_next_start_begins(tmp_path):
    path = learned(tmp_path)
    envelope = json.loads(path.read_bytes())
    payload = envelope["payload"]
    assert payload["key"] == path.stem
    assert payload["model"] == "tiny"
    assert payload["samples"] > RUNS_MIN
    assert path.stat().st_mode & 0o777 == 0o600
    # A busy machine may be slower now than it was, which is found out and said; what was kept is read in any case.
    assert profile_of_next_start(tmp_path).startswith(("used: ", "discarded: runs take "))
    with served(tmp_path) as server:
        assert server.infer("tiny", json.loads(BODY))[0] == 200
        assert stopped(server) == []
    assert kept(tmp_path).read_bytes() == path.read_bytes(), "too few runs to be worth a file"


def test_each_queue_of_a_pipeline_keeps_what_it_learned(tmp_path):
    body = json.dumps({"inputs": [{"name": "value", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 4]}]})
    with served(tmp_path, make=pipelines.relay) as server:
        drive(server, "relay", body)
        assert stopped(server) == []
    payloads = [json.loads(path.read_bytes())["payload"] for path in (tmp_path / "profiles").iterdir()]
    kept_of = {payload["model"]: payload for payload in payloads}
    assert set(kept_of) == {"relay", "relay/relay"}, "the models themselves answered nobody"
    for payload in kept_of.values():
        assert payload["samples"] > RUNS_MIN
        assert payload["alone"]["samples"] < RUNS_MIN, "runs of the model alone were made at the start, and no later"
    used = profile_of_next_start(tmp_path, "relay")
    assert used.startswith(("used: ", "discarded: runs take ")), used
    code = tmp_path / "models" / "relay" / "kernels.py"
    code.write_text(code.read_text().replace("isfinite(value[place])", "isfinite(value[place] * 2)"))
    assert profile_of_next_start(tmp_path, "relay") == "none", "other steps take another time"


def truncated(path: Path) -> None:
    """As a crash in the middle of writing leaves a file that is not written aside."""
    path.write_bytes(path.read_bytes()[:100])


def altered(path: Path) -> None:
    """One figure is another."""
    path.write_bytes(path.read_bytes().replace(b'"spread":0', b'"spread":1', 1))


def alien(path: Path) -> None:
    """A file of another program."""
    path.write_text('{"name": "somebody else\'s"}')


def noise(path: Path) -> None:
    """More than is ever read."""
    path.write_bytes(b"\xff" * (2 << 20))


def folder(path: Path) -> None:
    """No file at all."""
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    """Whoever opens this waits for the other end."""
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [truncated, altered, alien, noise, folder, pipe], ids=lambda spoil: spoil.__name__)
def test_a_profile_that_cannot_be_used_is_one_warning_and_no_more(tmp_path, spoil: Callable[[Path], None]):
    spoil(learned(tmp_path))
    with served(tmp_path) as server:
        assert server.infer("tiny", json.loads(BODY))[0] == 200
        [warning] = stopped(server)
    assert "'tiny'" in warning
    assert IGNORED in warning


def test_a_spoilt_profile_is_written_anew(tmp_path):
    altered(learned(tmp_path))
    with served(tmp_path) as server:
        drive(server)
        [warning] = stopped(server)
    assert IGNORED in warning
    assert profile_of_next_start(tmp_path).startswith(("used: ", "discarded: runs take "))


def test_a_folder_that_cannot_be_written_is_one_warning_and_no_more(tmp_path):
    profiles = tmp_path / "profiles"
    with served(tmp_path) as server:
        drive(server)
        profiles.write_text("in the way")
        [warning] = stopped(server)
    assert NOT_KEPT in warning
    assert "'tiny'" in warning
    assert profiles.read_text() == "in the way"


def test_a_disk_that_is_full_leaves_nothing_half_written(tmp_path):
    profiles = tmp_path / "profiles"
    profiles.mkdir()
    with served(tmp_path) as server:
        drive(server)
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (64, 64))
        warnings = stopped(server)
    assert len(warnings) == 1, warnings
    assert NOT_KEPT in warnings[0]
    assert list(profiles.iterdir()) == []
