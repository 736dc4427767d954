"""A snapshot as the native side gives it, for tests of what reads it."""

import json
from typing import Any

from servekit.snapshot import QueueFigures

SECONDS = [0.001, 0.01, 0.1]
ROWS = [1, 2, 4]


def requests(outcome: str, counts: list[int], sum_s: float, transport: str = "grpc") -> dict[str, Any]:
    return {"transport": transport, "outcome": outcome, "counts": counts, "sum_s": sum_s}


STEPS = [
    {"name": "decode_image", "place": "row", "seconds": {"counts": [8, 2, 0, 0], "sum_s": 0.02}},
    {"name": "softmax", "place": "batch", "seconds": {"counts": [4, 0, 0, 0], "sum_s": 0.004}},
]
KNOWN = {"base_ns": 80_000.0, "row_ns": 13_000.0, "spread": 0.08, "corrections": [], "samples": 120}


def surface(**changes: Any) -> dict[str, Any]:
    """As a load tells it, and a snapshot once it is read."""
    return {"class": "all shapes", **KNOWN} | changes


def anatomy(transport: str) -> dict[str, Any]:
    stages = {"queue_s": [0.001, 0.0, 0.3, 0.0], "run_s": [0.002, 0.0, 0.1, 0.0]}
    rest = {key: [0.0, 0.0, 0.0, 0.0] for key in ("input_s", "output_s", "rest_s")}
    return {"transport": transport, "counts": [9, 0, 1, 0], **stages, **rest}


ESTIMATE = {
    "surfaces": [
        {"shape": "", "length": None, "surface": KNOWN},
        {"shape": "[?, n]", "length": 64, "surface": KNOWN | {"samples": 3}},
    ],
    "rows_per_s": 1500.0,
    "knee_rows": 48,
    "capacity_rows_per_s": 50_000.0,
    "is_failing_fast": False,
    "shed_share": 0.02,
    "lanes": 2,
    "lanes_busy": 1,
}


def model(name: str = "tiny", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1",
        "state": "ready",
        "reason": "",
        "label": "",
        "contract": {
            "name": name,
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
            "properties": {"classes": ["<a>", "b"]},
        },
        "execution": "inline",
        "device": "cpu",
        "ort": "1.32.0",
        "digest": "ab" * 32,
        "file_bytes": 2048,
        "load_s": 0.25,
        "batch_rows_max": 64,
        "lanes": 1,
        "decisions": [["batching", "rows: first axis is symbolic in every input and output"]],
        "proof": {
            "verdict": "within tolerance",
            "difference": 2e-7,
            "tolerance": 1e-5,
            "rows_proved": 64,
            "why": "rows run alone and in batches of 2, 3, 8 and 64 gave the same",
        },
        "one_row_us": 40,
        "intra_op": 2,
        "warm_up": "9 runs of 3 sizes in 0.1 s",
        "profile": "none",
        "surfaces": [surface()],
        "mode": "auto",
        "targets_ms": [50, 100, 100, 100, 100, 100, 100, 100],
        "priority_default": 4,
        "requests": [requests("ok", [6, 3, 0, 1], 0.5), requests("queue_full", [2, 0, 0, 0], 0.0, "http_json")],
        "queue": {"counts": [10, 0, 0, 0], "sum_s": 0.002},
        "run": {"counts": [4, 0, 0, 0], "sum_s": 0.001},
        "input": {"sum_s": 0.0001},
        "output": {"sum_s": 0.0002},
        "batch_rows": {"counts": [1, 1, 2, 0], "sum": 10},
        "rows": 10,
        "runs": 4,
        "panics": 0,
        "dispatch": {"idle": 3, "full": 1},
        "shed": {"arrival": 4, "expired": 0},
        "padding": {"useful": 90, "padded": 10},
        "anatomy": [anatomy("grpc"), anatomy("http_json")],
        "steps": STEPS,
        "legs": [],
        "estimate": ESTIMATE,
        "in_flight_requests": 5,
        "queue_rows": 3,
        "queue_requests": 2,
    } | changes


def leg(name: str = "tiny/second") -> dict[str, Any]:
    """A further leg of a pipeline: what is told of its queue."""
    told = model(name, rows=40, dispatch={"idle": 1, "window": 4}, shed={"expired": 2}, queue_rows=7, queue_requests=6)
    return {key: told[key] for key in QueueFigures.__annotations__}


def unserved(name: str, state: str, reason: str = "", label: str = "") -> dict[str, Any]:
    """The entry of a model without figures."""
    return {"name": name, "version": "1", "state": state, "reason": reason, "label": label}


def snapshot(*models: dict[str, Any], **server: Any) -> dict[str, Any]:
    return {
        "server": {
            "state": "ready",
            "ready": True,
            "started_at_unix_s": 1.0,
            "connections": 7,
            "connections_closed": {"idle": 2, "age": 0},
            "in_flight_requests": 5,
            "in_flight_bytes": 4096,
            "accepted": 12,
            "answered": 10,
            "cancelled": 1,
            "refusals": {"queue_full": 2},
            "memory": {"resident_bytes": 50 * 2**20, "limit_bytes": 2**30},
            "cores": {"cores": 2.0, "shards": 2, "runners": 2, "intra_op": 1, "reasons": ["affinity allows 2"]},
            "streams": 1,
            "log_lines_dropped": 6,
        }
        | server,
        "bounds": {"seconds": SECONDS, "rows": ROWS},
        "models": list(models) if models else [model()],
    }


def text(*models: dict[str, Any], **server: Any) -> str:
    return json.dumps(snapshot(*models, **server))


WHY = json.dumps(
    {
        "sentences": ["99 in 100 were answered within 4 ms"],
        "advice": ["Add a replica"],
        "figures": {},
        "legs": [{"name": "tiny/second", "sentences": ["4 batches have run"]}],
    }
)


class Source:
    """How things stand, told from a text."""

    def __init__(self, taken: str) -> None:
        self.taken = taken

    def snapshot(self) -> str:
        return self.taken

    def why(self, name: str, version: str) -> str | None:
        return WHY if (name, version) == ("tiny", "1") else None
