"""A snapshot as the native side gives it, for tests of what reads it."""

import json
from typing import Any

SECONDS = [0.001, 0.01, 0.1]
ROWS = [1, 2, 4]


def requests(outcome: str, counts: list[int], sum_s: float, transport: str = "grpc") -> dict[str, Any]:
    return {"transport": transport, "outcome": outcome, "counts": counts, "sum_s": sum_s}


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
        "in_flight_requests": 5,
        "queue_rows": 3,
        "queue_requests": 2,
    } | changes


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
