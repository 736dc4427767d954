"""A model whose run takes a while, whatever its rows, and a server that runs one batch at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tests.serve import models
from tests.serve.limit_cases import body, message, tensor
from tests.serve.process import ServerProcess, serving
from tests.serve.raw_frames import Peer, Reply
from tests.serve.raw_http import infer, raw_connection

RUN_MS = 20.0
TURNS = 5_000
ROW = body(tensor("x", "FP32", [1, 3], [1.5, -2.0, 3.25]))
CALL = message("slow", ("x", "FP32", [1, 3], bytes(12)))
ONE_AT_A_TIME = ("--shards", "1", "--runners", "1", "--batch-rows-max", "1", "--trust-batching")
"""With one lane and batches of one row, who is served when is a matter of the queue alone."""
PATIENT = "x-request-timeout-ms: 60000"
PATIENT_MS = 60_000
"""A target that nobody here misses without a deadline of their own; with a target of 0 nothing would be estimated."""


def loop(folder: Path, turns: int) -> Path:
    """x FP32 [-1,3] -> y = x, multiplied by one so many times."""
    step = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Mul", ["carried", "one"], ["passed_on"])],
        "step",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, ["N", 3]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("passed_on", TensorProto.FLOAT, ["N", 3]),
        ],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    node = helper.make_node("Loop", ["turns", "true", "x"], ["y"], body=step)
    inputs, outputs = [models.value("x", "FP32", ["N", 3])], [models.value("y", "FP32", ["N", 3])]
    constants = {"turns": np.array(turns, np.int64), "true": np.ones((), np.bool_)}
    return models.write(folder / "slow.onnx", [node], inputs, outputs, constants)


def slow(folder: Path) -> Path:
    """`loop` with as many turns as take `RUN_MS` here."""
    return loop(folder, max(1, int(TURNS * RUN_MS / 1e3 / _loop_s(folder))))


@cache
def _loop_s(folder: Path) -> float:
    """What `TURNS` turns take on this machine, at best."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(loop(folder, TURNS), options, providers=["CPUExecutionProvider"])

    def once() -> float:
        began_at = time.monotonic()
        session.run(None, {"x": np.ones((1, 3), np.float32)})
        return time.monotonic() - began_at

    return min(once() for _ in range(5))


@contextmanager
def serving_slow(folder: Path, *arguments: str, **limits: int) -> Iterator[ServerProcess]:
    """`slow`, and `spin` to keep the lane busy until `run_ms_max` ends it."""
    variables = {"run_ms_max": 1_500, **limits}
    environment = {f"SERVEKIT__LIMITS__{key.upper()}": str(value) for key, value in variables.items()}
    with serving(
        slow(folder), models.spin(folder), arguments=[*ONE_AT_A_TIME, *arguments], environment=environment
    ) as (server):
        yield server


def run_ms(server: ServerProcess) -> float:
    """What one request takes here and now, usually."""
    with raw_connection(server) as connection:
        return median(_asked_ms(connection) for _ in range(7))


def _asked_ms(connection) -> float:
    began_at = time.monotonic()
    answer = connection.ask(infer("slow", ROW, PATIENT))
    assert answer.status == 200, answer.body
    return (time.monotonic() - began_at) * 1e3


@dataclass(frozen=True)
class Wish:
    """How one call differs from the plain one."""

    timeout_ms: int = 60_000
    level: int | None = None

    def fields(self) -> tuple[tuple[str, str], ...]:
        """As metadata."""
        level = [] if self.level is None else [("x-request-priority", str(self.level))]
        return (("grpc-timeout", f"{self.timeout_ms}m"), *level)


class Ordered(Peer):
    """A peer that remembers in which order its streams ended."""

    def __init__(self, connected) -> None:
        self.ended: list[int] = []
        super().__init__(connected)

    def _take(self, frame) -> None:
        super()._take(frame)
        if (
            frame.stream_id in self.replies
            and self.replies[frame.stream_id].ended
            and frame.stream_id not in self.ended
        ):
            self.ended.append(frame.stream_id)

    def call_all(self, wishes: list[Wish]) -> dict[int, Wish]:
        """Calls of `slow` in one write, by their streams."""
        calls = [(self.called(CALL, *wish.fields()), wish) for wish in wishes]
        self.send(*(frame for (_, frames), _ in calls for frame in frames))
        return {number: wish for (number, _), wish in calls}

    def answers(self, calls: Mapping[int, Wish]) -> dict[int, Reply]:
        """All answers."""
        return {number: self.answered(number) for number in calls}


@contextmanager
def ordered(server: ServerProcess) -> Iterator[Ordered]:
    """One on a connection of its own."""
    with server.connect() as connected:
        yield Ordered(connected)


def priority_parameter(level: object) -> bytes:
    """A JSON request to `slow` with the parameter of Triton's clients."""
    return body(tensor("x", "FP32", [1, 3], [1, 2, 3]), parameters={"priority": level})


def levels_of_models(**targets_ms: Mapping[int, int]) -> dict[str, str]:
    """The environment that gives single levels of models a target."""
    entries = [
        {"name": name, "latency_targets_ms": {str(level): target_ms for level, target_ms in levels.items()}}
        for name, levels in targets_ms.items()
    ]
    return {"SERVEKIT__MODELS": json.dumps(entries)}
