"""The native side's snapshot, typed: one JSON text for a scrape, read once, then passed as a value."""

import json
from typing import Any, TypedDict


class CorePlan(TypedDict):
    """How the usable cores are shared."""

    cores: float
    shards: int
    runners: int
    intra_op: int
    reasons: list[str]


class Memory(TypedDict):
    """Resident size and what it may grow to."""

    resident_bytes: int
    limit_bytes: int


class ServerFigures(TypedDict):
    """Figures of the whole process."""

    state: str
    ready: bool
    started_at_unix_s: float
    connections: int
    connections_closed: dict[str, int]
    in_flight_requests: int
    in_flight_bytes: int
    accepted: int
    answered: int
    cancelled: int
    refusals: dict[str, int]
    memory: Memory
    cores: CorePlan
    streams: int
    log_lines_dropped: int


class Bounds(TypedDict):
    """Upper bounds of the histograms' buckets; every histogram has one bucket more, without a bound."""

    seconds: list[float]
    rows: list[float]


class Histogram(TypedDict):
    """Counts of each bucket by itself, and the sum of what was observed."""

    counts: list[int]
    sum_s: float


class RowHistogram(TypedDict):
    """As `Histogram`, of rows."""

    counts: list[int]
    sum: float


class Requests(Histogram):
    """Requests of one transport with one outcome: `ok`, `cancelled` or a refusal's label."""

    transport: str
    outcome: str


class Total(TypedDict):
    """Time spent, without a distribution."""

    sum_s: float


class TensorContract(TypedDict):
    """One input or output."""

    name: str
    datatype: str
    shape: list[int]


class Contract(TypedDict):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorContract]
    outputs: list[TensorContract]
    properties: dict[str, Any]


class ModelFigures(TypedDict):
    """One version of a model. Without a contract it was not loaded."""

    name: str
    version: str
    state: str
    reason: str
    label: str
    contract: Contract | None
    execution: str
    device: str
    ort: str
    digest: str
    file_bytes: int
    load_s: float
    batch_rows_max: int
    lanes: int
    decisions: list[list[str]]
    requests: list[Requests]
    queue: Histogram
    run: Histogram
    input: Total
    output: Total
    batch_rows: RowHistogram
    rows: int
    runs: int
    panics: int
    dispatch: dict[str, int]
    in_flight_requests: int
    queue_rows: int
    queue_requests: int


class Snapshot(TypedDict):
    """Everything at one moment."""

    server: ServerFigures
    bounds: Bounds
    models: list[ModelFigures]


def read(text: str) -> Snapshot:
    """Parses what `Server.snapshot` gives. A model that is not served has no figures there; here they are none."""
    document = json.loads(text)
    document["models"] = [{**_unserved(), **model} for model in document["models"]]
    snapshot: Snapshot = document
    return snapshot


def _unserved() -> dict[str, Any]:
    return {
        **dict.fromkeys(("execution", "device", "ort", "digest"), ""),
        **dict.fromkeys(("file_bytes", "batch_rows_max", "lanes", "rows", "runs", "panics"), 0),
        **dict.fromkeys(("in_flight_requests", "queue_rows", "queue_requests"), 0),
        "load_s": 0.0,
        "contract": None,
        "decisions": [],
        "requests": [],
        "queue": {"counts": [], "sum_s": 0.0},
        "run": {"counts": [], "sum_s": 0.0},
        "input": {"sum_s": 0.0},
        "output": {"sum_s": 0.0},
        "batch_rows": {"counts": [], "sum": 0},
        "dispatch": {},
    }
