"""What the tables of limit cases share.

A table is a `Group`: servers that are started alike, and for each key one case that drives a request at the limit and
one past it. Limits are set through the environment, and are small, so that the cases are quick.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.serve.alive import waited
from tests.serve.process import ServerProcess, serving
from tests.serve.raw_frames import Peer, Reply, peer
from tests.serve.raw_http import Answer, raw_connection
from tests.serve.raw_http import infer as infer_request

Drive = Callable[[ServerProcess], None]

INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
UNAVAILABLE = 14
RETRY_LABELS = frozenset(
    {
        "read_timeout",
        "queue_full",
        "overloaded",
        "memory",
        "loading",
        "model_failed",
        "lane_lost",
        "draining",
        "load_refused",
    }
)
_LEAK = re.compile(r"0x[0-9a-f]{6,}|/(?:tmp|home|root|work|usr|var|etc|srv)\b|\.onnx|\.rs:\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Group:
    """Cases that share one kind of server."""

    limits: Mapping[str, int | str] = field(default_factory=dict)
    models: Sequence[Callable[[Path], Path]] = ()
    arguments: Sequence[str] = ("--shards", "1", "--runners", "1")
    environment: Mapping[str, str] = field(default_factory=dict)
    cases: dict[str, Drive] = field(default_factory=dict)

    def case(self, key: str) -> Callable[[Drive], Drive]:
        """Enter a function as the case of a key."""

        def enter(drive: Drive) -> Drive:
            self.cases[key] = drive
            return drive

        return enter

    @contextmanager
    def served(self, folder: Path) -> Iterator[ServerProcess]:
        """A server with these limits and models."""
        paths = [model(folder) for model in self.models]
        with serving(*paths, arguments=self.arguments, environment=self.variables()) as server:
            yield server

    def variables(self) -> dict[str, str]:
        """The limits as environment."""
        return {f"SERVEKIT__LIMITS__{key.upper()}": str(value) for key, value in self.limits.items()} | dict(
            self.environment
        )


def placed(**executions: str) -> dict[str, str]:
    """The environment that fixes where each model runs: `inline` or `pool`."""
    models = [{"name": name, "execution": execution} for name, execution in executions.items()]
    return {"SERVEKIT__MODELS": json.dumps(models)}


def python_path(folder: Path) -> dict[str, str]:
    """The environment in which Python looks into this folder first: a `sitecustomize.py` there runs before all else."""
    return {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", str(Path.cwd()))])}


def tensor(name: str, datatype: str, shape: Sequence[int], values: Sequence[object]) -> dict[str, Any]:
    """One input in JSON."""
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": list(values)}


def row(*values: float) -> dict[str, Any]:
    """One row for `ident`."""
    return tensor("x", "FP32", [1, len(values)], values)


def body(*inputs: Mapping[str, Any], **fields: object) -> bytes:
    """A request's JSON."""
    return json.dumps({"inputs": list(inputs), **fields}).encode()


def refused(answer: Answer | Reply, status: int, label: str) -> None:
    """An answer is this refusal, and says so as every refusal must. `status` is of HTTP or gRPC, as the answer is."""
    grpc = isinstance(answer, Reply) and "grpc-status" in answer.headers
    if isinstance(answer, Reply):
        found = answer.code if grpc else int(answer.headers[":status"])
        text = answer.text if grpc else str(json.loads(answer.body)["error"])
    else:
        found, text = answer.status, answer.text
    assert (found, answer.label) == (status, label), text
    _check_text(text)
    _check_retry(answer.headers, label, grpc=grpc)


def _check_text(text: str) -> None:
    said = text.partition("] ")[2] if text.startswith("[request id: ") else text
    assert said, "no text"
    assert not said[0].isupper(), text
    assert not said.endswith("."), text
    assert not _LEAK.search(text), text


def _check_retry(headers: Mapping[str, str], label: str, *, grpc: bool) -> None:
    names = ("grpc-retry-pushback-ms",) if grpc else ("retry-after", "retry-after-ms")
    if label not in RETRY_LABELS:
        assert not [name for name in names if name in headers], headers
        return
    wait_ms = int(headers["grpc-retry-pushback-ms" if grpc else "retry-after-ms"])
    assert wait_ms >= 10
    assert grpc or int(headers["retry-after"]) == -(-wait_ms // 1000)


@dataclass(frozen=True)
class Bound:
    """One rule of decoding, said in JSON and in gRPC: a body at the limit, a body past it, and the refusal."""

    label: str
    model: str = "ident"
    at: bytes | None = None
    past: bytes | None = None
    message_at: bytes | None = None
    message_past: bytes | None = None

    def __call__(self, server: ServerProcess) -> None:
        """Drive both protocols; the connection goes on after the refusal."""
        if self.at is not None and self.past is not None:
            with raw_connection(server) as connection:
                at, past = (infer_request(self.model, text) for text in (self.at, self.past))
                served(connection.ask(at))
                refused(connection.ask(past), 400, self.label)
                served(connection.ask(at))
        if self.message_at is not None and self.message_past is not None:
            with peer(server) as caller:
                served(caller.call(self.message_at))
                refused(caller.call(self.message_past), INVALID_ARGUMENT, self.label)
                served(caller.call(self.message_at))


def served(answer: Answer | Reply) -> None:
    """An answer is a result."""
    if isinstance(answer, Answer):
        assert answer.status == 200, answer.body
    elif "grpc-status" in answer.headers:
        assert answer.code == 0, answer.text
    else:
        assert answer.headers.get(":status") == "200", answer


def closes(server: ServerProcess, reason: str) -> float:
    """How many connections and streams have ended for this reason."""
    return server.metric("servekit_connections_closed_total", reason=reason)


@contextmanager
def ends_one(server: ServerProcess, reason: str) -> Iterator[None]:
    """Within, exactly one connection or stream ends for this reason."""
    before = closes(server, reason)
    yield
    server.settles("servekit_connections_closed_total", before + 1, reason=reason)


@contextmanager
def running(server: ServerProcess, model: str = "spin", turns: int = 10**12) -> Iterator[Peer]:
    """The one runner is busy with a run that does not end by itself; yields the peer that waits for it."""
    with peer(server) as caller:
        caller.send(*caller.called(spin_message(turns, model))[1])
        server.settles("servekit_in_flight_requests", 1, model=model)
        server.settles("nv_inference_pending_request_count", 0, model=model)
        yield caller
        # The runner is free again when the next who asks is served.
        waited(lambda: served(caller.call(spin_message(1, model), ("grpc-timeout", "20S"))))


def spin_message(turns: int, model: str = "spin") -> bytes:
    """A call of `spin`."""
    return message(model, ("n", "INT64", [1], turns.to_bytes(8, "little")))


def message(model: str, *inputs: tuple[str, str, Sequence[int], bytes], **fields: Any) -> bytes:
    """A serialized gRPC request with raw contents."""
    from tests.serve.stubs import stub_module

    request = stub_module("open_inference_pb2").ModelInferRequest(model_name=model, **fields)
    for name, datatype, shape, raw in inputs:
        request.inputs.add(name=name, datatype=datatype, shape=shape)
        request.raw_input_contents.append(raw)
    return bytes(request.SerializeToString())
