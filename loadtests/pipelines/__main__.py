"""Requests a second of a pipeline and of its twin in Python, taking turns, and their ratio beside its bar."""

import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loadtests.clients import LUA, Outcome, read_wrk
from loadtests.pipelines import models
from loadtests.server import CLOSED_LOOP, ready_line

CLIENTS: Final = 32
START_SECONDS_MAX: Final = 60
TEXT: Final = "the cat sat on the mat, and the dog was not happy. it ran and the cat played"


@dataclass(frozen=True)
class Subject:
    """One pipeline, a request to it, and how many times as fast as the twin it has to be."""

    name: str
    body: bytes
    headers: Mapping[str, str]
    ratio_min: float
    rates: dict[str, list[float]] = field(default_factory=lambda: {"servekit": [], "twin": []})


def subjects() -> list[Subject]:
    """A text of twenty tokens as JSON, and a photograph as a binary tensor."""
    from sklearn.datasets import load_sample_images

    text = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [TEXT]}]}
    photo = Path(load_sample_images().filenames[0]).read_bytes()
    element = len(photo).to_bytes(4, "little") + photo
    sizes = {"binary_data_size": len(element)}
    head = json.dumps({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters": sizes}]}).encode()
    binary = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return [
        Subject("texts", json.dumps(text).encode(), {"Content-Type": "application/json"}, 3.0),
        Subject("photos", head + element, binary, 2.0),
    ]


@contextmanager
def servekit(folders: list[Path]) -> Iterator[str]:
    """The server as a user starts it; HOST:PORT."""
    command = [sys.executable, "-m", "servekit", "serve", *map(str, folders), "--log-format", "json"]
    command += ["--http-port", "0", "--grpc-port", "0", "--management-port", "0"]
    with _ended(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=_environment())) as process:
        yield ready_line(process)["http"]


@contextmanager
def twin(folders: list[Path]) -> Iterator[str]:
    """The service in Python; HOST:PORT."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "loadtests.pipelines.twin", str(port), *map(str, folders)]
    with _ended(subprocess.Popen(command, text=True)):
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"


def checked(address: str, subject: Subject) -> None:
    """One request, which has to be answered."""
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("POST", f"/v2/models/{subject.name}/infer", subject.body, dict(subject.headers))
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    if answer.status != http.client.OK:
        raise RuntimeError(f"{subject.name}: {answer.status} {content[:400]!r}")


def sent(address: str, subject: Subject, seconds: int, folder: Path) -> Outcome:
    """One run of wrk with as many requests in flight as clients."""
    body, script = folder / f"{subject.name}.body", folder / f"{subject.name}.lua"
    body.write_bytes(subject.body)
    headers = "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in subject.headers.items())
    script.write_text(LUA.format(path=body, headers=headers))
    url = f"http://{address}/v2/models/{subject.name}/infer"
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--timeout", "60s", "-s", str(script), url]
    outcome = read_wrk(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    if outcome.failures:
        raise RuntimeError(f"{subject.name}: {outcome.failures} of {outcome.requests} requests failed")
    return outcome


def main() -> None:
    """Prints a line a pipeline; exits with 1 where one is slower than its bar."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    given = parser.parse_args()
    measured = subjects()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folders = [models.texts(root), models.photos(root)]
        with servekit(folders) as ours, twin(folders) as theirs:
            addresses = {"servekit": ours, "twin": theirs}
            for turn in range(given.rounds + 1):
                for subject in measured:
                    for who, address in addresses.items():
                        checked(address, subject)
                        outcome = sent(address, subject, given.seconds, root)
                        # The first turn is for caches and clocks.
                        if turn:
                            subject.rates[who].append(outcome.requests / outcome.seconds)
    print("| pipeline | servekit, requests/s | Python, requests/s | ratio | at least |\n|---|---|---|---|---|")
    missed = False
    for subject in measured:
        rates = subject.rates
        ratio = statistics.median(a / b for a, b in zip(rates["servekit"], rates["twin"], strict=True))
        middles = [statistics.median(rates[who]) for who in ("servekit", "twin")]
        print(f"| {subject.name} | {middles[0]:,.0f} | {middles[1]:,.0f} | {ratio:.1f} | {subject.ratio_min:.1f} |")
        missed = missed or ratio < subject.ratio_min
    sys.exit(missed)


def _environment() -> dict[str, str]:
    return {**os.environ, **CLOSED_LOOP}


@contextmanager
def _ended(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    main()
