"""Every metric, by name; nowhere else is one named. One scrape takes one snapshot.

Our own names end in base units. The `nv_*` families keep Triton's names, units and labels, so that dashboards and
autoscalers made for it go on working.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from servekit import cgroup, snapshot
from servekit.anatomy import totals_s
from servekit.snapshot import Estimate, ModelFigures, QueueFigures, ServerFigures, Snapshot
from servekit.surfaces import busiest

MODEL = ("model", "version")
_SERIES = "servekit_metric_series_dropped"

_REJECTED = ("queue_full", "overloaded", "memory", "loading", "draining", "deadline")
_BACKEND = ("row", "run_memory", "lane_lost", "model_failed", "abandoned", "internal")
TRITON_REASONS: Mapping[str, str] = {
    "cancelled": "CANCELED",
    **dict.fromkeys(_REJECTED, "REJECTED"),
    **dict.fromkeys(_BACKEND, "BACKEND"),
}
"""What Triton would call a refusal; all others are OTHER."""

Labels = Sequence[str]
Queues = Sequence[tuple[Labels, QueueFigures]]


class SnapshotCollector(Collector):
    """Turns one snapshot into families, at most `series_max` series of them."""

    def __init__(self, take_snapshot: Callable[[], str], series_max: int) -> None:
        self._take_snapshot = take_snapshot
        self._series_max = series_max
        self._dropped = 0
        self._processor = _ProcessorShare()

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not take a snapshot."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """One scrape."""
        figures = snapshot.read(self._take_snapshot())
        left = self._series_max
        for family in (*_server(figures["server"]), *_models(figures), *_triton(figures), *self._machine(figures)):
            kept = family.samples[:left] if left else []
            self._dropped += len(family.samples) - len(kept)
            left -= len(kept)
            family.samples = kept
            if kept:
                yield family
        yield _counter(
            _SERIES, "Series left out of scrapes, as metric_series_max allows no more", [((), self._dropped)]
        )

    def _machine(self, figures: Snapshot) -> Iterator[Metric]:
        yield from _cgroup()
        memory = figures["server"]["memory"]
        share = self._processor.since_last(figures["server"]["cores"]["cores"])
        yield _gauge("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]", [((), share)])
        yield _gauge("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", [((), memory["limit_bytes"])])
        yield _gauge("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", [((), memory["resident_bytes"])])


def registry(take_snapshot: Callable[[], str], series_max: int) -> CollectorRegistry:
    """A registry of this server's own, apart from the library's global one."""
    own = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=own)
    own.register(SnapshotCollector(take_snapshot, series_max))
    return own


def render(own: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The body and the content type that the scraper asked for."""
    from prometheus_client.exposition import choose_encoder

    encoder, content_type = choose_encoder(accept)
    body = encoder(own)
    # Triton's counters do not end in _total, which the library asks of every counter: they go through it untyped.
    return body.replace(b" untyped\n", b" counter\n"), content_type


def _server(server: ServerFigures) -> Iterator[Metric]:
    yield _gauge("servekit_connections", "Open connections", [((), server["connections"])])
    yield _gauge("servekit_streams", "Open HTTP/2 streams", [((), server["streams"])])
    yield _counter(
        "servekit_connections_closed",
        "Connections and streams that ended without an answer, by reason",
        [((reason,), count) for reason, count in server["connections_closed"].items()],
        ("reason",),
    )
    yield _gauge("servekit_in_flight_bytes", "Bytes read and not yet answered", [((), server["in_flight_bytes"])])
    yield _counter("servekit_requests_accepted", "Requests that were queued", [((), server["accepted"])])
    yield _counter("servekit_requests_answered", "Accepted requests with an answer", [((), server["answered"])])
    yield _counter("servekit_requests_cancelled", "Accepted requests whose caller left", [((), server["cancelled"])])
    yield _counter(
        "servekit_refusals",
        "Answers that are not results, by reason",
        [((reason,), count) for reason, count in server["refusals"].items()],
        ("reason",),
    )
    yield _gauge("servekit_memory_bytes", "Resident size", [((), server["memory"]["resident_bytes"])])
    yield _gauge("servekit_memory_max_bytes", "What it may grow to", [((), server["memory"]["limit_bytes"])])
    yield _counter(
        "servekit_log_lines_dropped", "Log lines left out, as they came too fast", [((), server["log_lines_dropped"])]
    )
    yield _gauge("servekit_cores", "Usable cores, by affinity and quota", [((), server["cores"]["cores"])])


def _models(figures: Snapshot) -> Iterator[Metric]:
    models, seconds, rows = figures["models"], figures["bounds"]["seconds"], figures["bounds"]["rows"]
    queues = _queues(models)
    yield _gauge(
        "servekit_model_ready",
        "1 where a request would be served",
        _each(models, lambda m: m["state"] == "ready"),
        MODEL,
    )
    yield _info([model for model in models if model["contract"]])
    yield _request_durations(models, seconds)
    queue = [(of, q["queue"]["counts"], q["queue"]["sum_s"]) for of, q in queues]
    yield _histogram("servekit_queue_duration_seconds", "Time in the queue", queue, seconds)
    run = [(of, q["run"]["counts"], q["run"]["sum_s"]) for of, q in queues]
    yield _histogram("servekit_run_duration_seconds", "Time of one batch's run", run, seconds)
    stages = [
        ((*_of(m), step["name"]), step["seconds"]["counts"], step["seconds"]["sum_s"])
        for m in models
        for step in m["steps"]
    ]
    yield _histogram(
        "servekit_stage_duration_seconds",
        "Time of one step of a pipeline: of a request before its batch forms, of a batch then",
        stages,
        seconds,
        (*MODEL, "stage"),
    )
    batch = [(of, q["batch_rows"]["counts"], q["batch_rows"]["sum"]) for of, q in queues]
    yield _histogram("servekit_batch_rows", "Rows of one batch", batch, rows)
    yield _gauge(
        "servekit_in_flight_requests",
        "Requests accepted and not yet answered",
        _each(models, lambda m: m["in_flight_requests"]),
        MODEL,
    )
    yield _gauge("servekit_queue_rows", "Rows in the queue", [(of, q["queue_rows"]) for of, q in queues], MODEL)
    yield _counter(
        "servekit_panics", "Runs that ended in a defect of ours", [(of, q["panics"]) for of, q in queues], MODEL
    )
    yield _counter(
        "servekit_dispatch",
        "Batches that left the queue, by reason",
        [((*of, reason), count) for of, q in queues for reason, count in q["dispatch"].items()],
        (*MODEL, "reason"),
    )
    yield _counter(
        "servekit_shed",
        "Requests given up without a run, as they could not be answered in time, by how that was seen",
        [((*of, reason), count) for of, q in queues for reason, count in q["shed"].items()],
        (*MODEL, "reason"),
    )
    yield _counter(
        "servekit_padding_elements",
        "Elements of padded batches, by whether a caller sent them",
        [((*of, kind), count) for of, q in queues for kind, count in q["padding"].items()],
        (*MODEL, "kind"),
    )
    yield _counter(
        "servekit_request_stage_seconds",
        "Time of requests with a result, by what it went to",
        [
            ((*_of(m), stage), spent_s)
            for m in models
            if m["anatomy"]
            for stage, spent_s in totals_s(m["anatomy"]).items()
        ],
        (*MODEL, "stage"),
    )
    yield from _estimates(queues)


def _queues(models: Iterable[ModelFigures]) -> Queues:
    """Every queue by the labels of its series; a leg's is called as the leg, with the version of its model."""
    return [((queue["name"], model["version"]), queue) for model in models for queue in (model, *model["legs"])]


def _estimates(queues: Queues) -> Iterator[Metric]:
    """What queues go by; of several shapes and lengths the one that most runs were seen of."""
    known = [(of, queue["estimate"]) for of, queue in queues if queue["estimate"]]
    for name, documentation, value in _ESTIMATES:
        yield _gauge(name, documentation, [(of, value(estimate)) for of, estimate in known], MODEL)
    surfaces = [(of, surface) for of, estimate in known if (surface := busiest(estimate["surfaces"]))]
    yield _gauge(
        "servekit_estimate_base_seconds",
        "What a run takes whatever its rows, as estimated",
        [(of, surface["base_ns"] / 1e9) for of, surface in surfaces],
        MODEL,
    )
    yield _gauge(
        "servekit_estimate_row_seconds",
        "What each row adds to a run, as estimated",
        [(of, surface["row_ns"] / 1e9) for of, surface in surfaces],
        MODEL,
    )


_ESTIMATES: tuple[tuple[str, str, Callable[[Estimate], float]], ...] = (
    ("servekit_estimate_arrival_rows_per_second", "Rows that arrive in a second", lambda e: e["rows_per_s"]),
    (
        "servekit_estimate_capacity_rows_per_second",
        "Rows that could be served in a second within the latency target",
        lambda e: e["capacity_rows_per_s"],
    ),
    ("servekit_estimate_knee_rows", "Rows of the batch with which most are served in time", lambda e: e["knee_rows"]),
    ("servekit_failing_fast", "1 while hopeless requests are refused as they arrive", lambda e: e["is_failing_fast"]),
    ("servekit_busy_lanes", "Lanes that run a batch", lambda e: e["lanes_busy"]),
)


def _triton(figures: Snapshot) -> Iterator[Metric]:
    models = figures["models"]
    for name, documentation, value in _TRITON_COUNTERS:
        yield _triton_counter(name, documentation, [(_of(m), value(m)) for m in models], MODEL)
    failures: dict[Labels, float] = {}
    for model in models:
        for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER"):
            failures[(*_of(model), reason)] = 0
        for requests in model["requests"]:
            if requests["outcome"] != "ok":
                reason = TRITON_REASONS.get(requests["outcome"], "OTHER")
                failures[(*_of(model), reason)] += sum(requests["counts"])
    yield _triton_counter(
        "nv_inference_request_failure",
        "Number of failed inference requests, all batch sizes",
        list(failures.items()),
        (*MODEL, "reason"),
    )
    yield _gauge(
        "nv_inference_pending_request_count",
        "Instantaneous number of pending requests awaiting execution per-model.",
        [(of, queue["queue_requests"]) for of, queue in _queues(models)],
        MODEL,
    )
    yield _gauge(
        "nv_model_load_duration_secs", "Model load time in seconds", _each(models, lambda m: m["load_s"]), MODEL
    )


_TRITON_COUNTERS: tuple[tuple[str, str, Callable[[ModelFigures], float]], ...] = (
    (
        "nv_inference_request_success",
        "Number of successful inference requests, all batch sizes",
        lambda m: sum(sum(requests["counts"]) for requests in m["requests"] if requests["outcome"] == "ok"),
    ),
    (
        "nv_inference_count",
        "Number of inferences performed (does not include cached requests)",
        lambda m: m["rows"],
    ),
    (
        "nv_inference_exec_count",
        "Number of model executions performed (does not include cached requests)",
        lambda m: m["runs"],
    ),
    (
        "nv_inference_request_duration_us",
        "Cumulative inference request duration in microseconds (includes cached requests)",
        lambda m: _microseconds(sum(requests["sum_s"] for requests in m["requests"] if requests["outcome"] == "ok")),
    ),
    (
        "nv_inference_queue_duration_us",
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
        lambda m: _microseconds(m["queue"]["sum_s"]),
    ),
    (
        "nv_inference_compute_input_duration_us",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        lambda m: _microseconds(m["input"]["sum_s"]),
    ),
    (
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        lambda m: _microseconds(m["run"]["sum_s"]),
    ),
    (
        "nv_inference_compute_output_duration_us",
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
        lambda m: _microseconds(m["output"]["sum_s"]),
    ),
)


def _cgroup() -> Iterator[Metric]:
    used_bytes, limit_bytes, processor = cgroup.memory_bytes(), cgroup.memory_limit_bytes(), cgroup.processor()
    if used_bytes is not None:
        yield _gauge("servekit_cgroup_memory_bytes", "Memory of the control group", [((), used_bytes)])
    if limit_bytes is not None:
        yield _gauge("servekit_cgroup_memory_max_bytes", "Limit of the control group", [((), limit_bytes)])
    if processor is not None:
        yield _counter("servekit_cgroup_cpu_periods", "Periods of the processor quota", [((), processor.periods)])
        yield _counter(
            "servekit_cgroup_cpu_throttled_periods",
            "Periods in which the quota stopped the process",
            [((), processor.throttled_periods)],
        )
        yield _counter(
            "servekit_cgroup_cpu_throttled_seconds",
            "Time in which the quota stopped the process",
            [((), processor.throttled_s)],
        )


class _ProcessorShare:
    """The process's share of its cores between two scrapes."""

    def __init__(self) -> None:
        self._last = (time.monotonic(), time.process_time())

    def since_last(self, cores: float) -> float:
        now = (time.monotonic(), time.process_time())
        elapsed_s, used_s = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now
        return min(1.0, used_s / elapsed_s / cores) if elapsed_s > 0 and cores > 0 else 0.0


def _of(model: ModelFigures) -> tuple[str, str]:
    return model["name"], model["version"]


def _each(models: Iterable[ModelFigures], value: Callable[[ModelFigures], float]) -> list[tuple[Labels, float]]:
    return [(_of(model), value(model)) for model in models]


def _gauge(name: str, documentation: str, values: Iterable[tuple[Labels, float]], labels: Labels = ()) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _counter(name: str, documentation: str, values: Iterable[tuple[Labels, float]], labels: Labels = ()) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family


def _triton_counter(name: str, documentation: str, values: Iterable[tuple[Labels, float]], labels: Labels) -> Metric:
    family = Metric(name, documentation, "unknown")
    for of, value in values:
        family.add_sample(name, dict(zip(labels, of, strict=True)), value)
    return family


def _info(models: Iterable[ModelFigures]) -> Metric:
    family = InfoMetricFamily("servekit_model", "What serves a model", labels=MODEL)
    for model in models:
        about = {key: model[key] for key in ("digest", "ort", "execution")} | {"ep": model["device"]}
        family.add_metric(_of(model), about)
    return family


def _request_durations(models: Iterable[ModelFigures], bounds: Sequence[float]) -> Metric:
    family = HistogramMetricFamily(
        "servekit_request_duration_seconds",
        "Time from a request's last byte to its answer",
        labels=(*MODEL, "transport", "outcome"),
    )
    for model in models:
        for requests in model["requests"]:
            labels = (*_of(model), requests["transport"], requests["outcome"])
            family.add_metric(labels, _buckets(bounds, requests["counts"]), requests["sum_s"])
    return family


def _histogram(
    name: str,
    documentation: str,
    values: Iterable[tuple[Labels, Sequence[int], float]],
    bounds: Sequence[float],
    labels: Labels = MODEL,
) -> Metric:
    family = HistogramMetricFamily(name, documentation, labels=labels)
    for of, counts, total in values:
        if counts:
            family.add_metric(of, _buckets(bounds, counts), total)
    return family


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Prometheus wants each bucket to hold the ones below it."""
    names = [*(repr(float(bound)) for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)
