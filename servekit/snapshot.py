"""The native side's snapshot, typed: one JSON text for a scrape, read once, then passed as a value."""

import json
from typing import Any, Protocol, TypedDict


class Source(Protocol):
    """Who can be asked how things stand."""

    def snapshot(self) -> str:
        """Every figure, as JSON."""

    def why(self, name: str, version: str, /) -> str | None:
        """What a model's latency consists of, as JSON with `sentences` and `advice`; None where it is not served."""


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


class Anatomy(TypedDict):
    """What requests with a result spent their time on, by bucket of the whole time; `rest` is the server's own work."""

    transport: str
    counts: list[int]
    queue_s: list[float]
    input_s: list[float]
    run_s: list[float]
    output_s: list[float]
    rest_s: list[float]


class Total(TypedDict):
    """Time spent, without a distribution."""

    sum_s: float


class StepFigures(TypedDict):
    """One step of a pipeline, and how long it took each time; `place` is `row`, `batch` or `model`."""

    name: str
    place: str
    seconds: Histogram


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


class Proof(TypedDict):
    """Whether rows leave each other alone, as the load found out."""

    verdict: str
    difference: float | None
    tolerance: float | None
    rows_proved: int
    why: str


Surface = TypedDict(
    "Surface",
    {"class": str, "base_ns": float, "row_ns": float, "spread": float, "corrections": list[float], "samples": int},
)
"""How long a run of some rows takes: a part for the run, one for each row, and a factor for each number of rows.

`class` says in words what may share such a run; first comes the model as a whole.
"""


class Estimate(TypedDict):
    """What a queue goes by."""

    surfaces: list[Surface]
    rows_per_s: float
    knee_rows: int
    capacity_rows_per_s: float
    is_failing_fast: bool
    shed_share: float
    lanes: int
    lanes_busy: int


class QueueFigures(TypedDict):
    """One queue with its lanes: a model's, or that of a further leg of its pipeline."""

    name: str
    batch_rows_max: int
    lanes: int
    queue: Histogram
    run: Histogram
    input: Total
    output: Total
    batch_rows: RowHistogram
    rows: int
    runs: int
    panics: int
    dispatch: dict[str, int]
    shed: dict[str, int]
    padding: dict[str, int]
    estimate: Estimate | None
    queue_rows: int
    queue_requests: int


class ModelFigures(QueueFigures):
    """One version of a model. Without a contract it was not loaded."""

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
    decisions: list[list[str]]
    proof: Proof | None
    one_row_us: float | None
    intra_op: int
    warm_up: str
    profile: str
    surfaces: list[Surface]
    mode: str
    targets_ms: list[float]
    priority_default: int
    requests: list[Requests]
    anatomy: list[Anatomy]
    steps: list[StepFigures]
    in_flight_requests: int
    legs: list[QueueFigures]


class Snapshot(TypedDict):
    """Everything at one moment."""

    server: ServerFigures
    bounds: Bounds
    models: list[ModelFigures]


def read(text: str) -> Snapshot:
    """Parses what `Server.snapshot` gives. A model that is not served has no figures there; here they are none."""
    document = json.loads(text)
    document["models"] = [with_defaults(model) for model in document["models"]]
    snapshot: Snapshot = document
    return snapshot


def with_defaults(model: dict[str, Any]) -> ModelFigures:
    """A model's entry, with nothing counted where nothing is said."""
    figures: Any = {**_unserved(), **model}
    for queue in (figures, *figures["legs"]):
        if queue["estimate"] is not None:
            known = [_surface(entry) for entry in queue["estimate"]["surfaces"]]
            queue["estimate"] = queue["estimate"] | {"surfaces": known}
    entry: ModelFigures = figures
    return entry


def _surface(known: dict[str, Any]) -> dict[str, Any]:
    """What a queue knows of a class, in the form in which the load tells it."""
    shape, length = known["shape"] or "all shapes", known["length"]
    return {"class": shape if length is None else f"{shape}, n up to {length}", **known["surface"]}


def _unserved() -> dict[str, Any]:
    return {
        **dict.fromkeys(("execution", "device", "ort", "digest", "mode", "warm_up", "profile"), ""),
        **dict.fromkeys(
            ("file_bytes", "batch_rows_max", "lanes", "intra_op", "priority_default", "rows", "runs", "panics"), 0
        ),
        **dict.fromkeys(("rows", "runs", "panics", "in_flight_requests", "queue_rows", "queue_requests"), 0),
        "load_s": 0.0,
        **dict.fromkeys(("contract", "proof", "one_row_us", "estimate")),
        "decisions": [],
        "surfaces": [],
        "targets_ms": [],
        "requests": [],
        "queue": {"counts": [], "sum_s": 0.0},
        "run": {"counts": [], "sum_s": 0.0},
        "input": {"sum_s": 0.0},
        "output": {"sum_s": 0.0},
        "batch_rows": {"counts": [], "sum": 0},
        "dispatch": {},
        "shed": {},
        "padding": {},
        "anatomy": [],
        "steps": [],
        "legs": [],
    }
