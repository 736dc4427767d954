import math
import re

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from servekit import metrics
from servekit.errors import CATALOGUE
from tests.unit import snapshots

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def scraped(text, series_max=10_000):
    body, content_type = metrics.render(metrics.registry(lambda: text, series_max), "text/plain")
    assert content_type.startswith("text/plain")
    assert list(parse(body.decode())), "the library reads what it wrote"
    return {key(line.rpartition(" ")[0]): float(line.rpartition(" ")[2]) for line in lines(body)}


def lines(body):
    return [line for line in body.decode().splitlines() if not line.startswith("#")]


def key(series):
    """`name{a="b"}` as a tuple; the library's own parser would rename Triton's counters."""
    name, _, labels = series.partition("{")
    return (name, *re.findall(r'(\w+)="([^"]*)"', labels))


@pytest.fixture(scope="module")
def samples():
    return scraped(snapshots.text())


MODEL = (("model", "tiny"), ("version", "1"))


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("nv_inference_request_success", MODEL, 10),
        ("nv_inference_count", MODEL, 10),
        ("nv_inference_exec_count", MODEL, 4),
        ("nv_inference_request_duration_us", MODEL, 500_000),
        ("nv_inference_queue_duration_us", MODEL, 2_000),
        ("nv_inference_compute_input_duration_us", MODEL, 100),
        ("nv_inference_compute_infer_duration_us", MODEL, 1_000),
        ("nv_inference_compute_output_duration_us", MODEL, 200),
        ("nv_inference_request_failure", (MODEL[0], ("reason", "REJECTED"), MODEL[1]), 2),
        ("nv_inference_request_failure", (MODEL[0], ("reason", "BACKEND"), MODEL[1]), 0),
        ("nv_inference_pending_request_count", MODEL, 2),
        ("nv_model_load_duration_secs", MODEL, 0.25),
        ("nv_cpu_memory_used_bytes", (), 50 * 2**20),
        ("servekit_connections", (), 7),
        ("servekit_connections_closed_total", (("reason", "idle"),), 2),
        ("servekit_refusals_total", (("reason", "queue_full"),), 2),
        ("servekit_requests_accepted_total", (), 12),
        ("servekit_requests_answered_total", (), 10),
        ("servekit_requests_cancelled_total", (), 1),
        ("servekit_in_flight_bytes", (), 4096),
        ("servekit_in_flight_requests", MODEL, 5),
        ("servekit_queue_rows", MODEL, 3),
        ("servekit_model_ready", MODEL, 1),
        ("servekit_dispatch_total", (MODEL[0], ("reason", "full"), MODEL[1]), 1),
        ("servekit_shed_total", (MODEL[0], ("reason", "arrival"), MODEL[1]), 4),
        ("servekit_shed_total", (MODEL[0], ("reason", "expired"), MODEL[1]), 0),
        ("servekit_padding_elements_total", (("kind", "padded"), *MODEL), 10),
        ("servekit_estimate_arrival_rows_per_second", MODEL, 1500),
        ("servekit_estimate_capacity_rows_per_second", MODEL, 50_000),
        ("servekit_estimate_knee_rows", MODEL, 48),
        ("servekit_estimate_base_seconds", MODEL, 8e-5),
        ("servekit_estimate_row_seconds", MODEL, 1.3e-5),
        ("servekit_request_stage_seconds_total", (MODEL[0], ("stage", "queue"), MODEL[1]), 0.602),
        ("servekit_failing_fast", MODEL, 0),
        ("servekit_busy_lanes", MODEL, 1),
        ("servekit_run_duration_seconds_count", MODEL, 4),
        ("servekit_stage_duration_seconds_sum", (MODEL[0], ("stage", "decode_image"), MODEL[1]), 0.02),
        ("servekit_stage_duration_seconds_count", (MODEL[0], ("stage", "softmax"), MODEL[1]), 4),
        ("servekit_batch_rows_sum", MODEL, 10),
        ("servekit_panics_total", MODEL, 0),
        ("servekit_log_lines_dropped_total", (), 6),
        ("servekit_metric_series_dropped_total", (), 0),
    ],
)
def test_a_figure_of_the_snapshot_has_its_name(samples, name, labels, value):
    assert samples[(name, *labels)] == value


LEG = (("model", "tiny/second"), ("version", "1"))


@pytest.fixture(scope="module")
def legged():
    return scraped(snapshots.text(snapshots.model(legs=[snapshots.leg()])))


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("nv_inference_pending_request_count", LEG, 6),
        ("servekit_queue_rows", LEG, 7),
        ("servekit_dispatch_total", (LEG[0], ("reason", "window"), LEG[1]), 4),
        ("servekit_shed_total", (LEG[0], ("reason", "expired"), LEG[1]), 2),
        ("servekit_padding_elements_total", (("kind", "padded"), *LEG), 10),
        ("servekit_estimate_knee_rows", LEG, 48),
        ("servekit_estimate_row_seconds", LEG, 1.3e-5),
        ("servekit_busy_lanes", LEG, 1),
        ("servekit_run_duration_seconds_count", LEG, 4),
        ("servekit_queue_duration_seconds_sum", LEG, 0.002),
        ("servekit_batch_rows_sum", LEG, 10),
        ("servekit_panics_total", LEG, 0),
    ],
)
def test_a_leg_of_a_pipeline_has_a_queue_and_batches(legged, name, labels, value):
    assert legged[(name, *labels)] == value


def test_a_leg_leaves_its_model_s_figures_alone_and_answers_no_requests(legged, samples):
    own = {key: value for key, value in legged.items() if LEG[0] not in key}
    measured = {key for key in samples if key[0].startswith(("process_", "servekit_cgroup", "nv_cpu"))}
    assert {key: own[key] for key in samples if key not in measured} == {
        key: value for key, value in samples.items() if key not in measured
    }
    counted = {key[0] for key in legged if LEG[0] in key}
    assert not [name for name in counted if name.startswith(("nv_inference_request_", "servekit_request_"))]


def test_buckets_hold_the_ones_below_them(samples):
    of = (MODEL[0], ("outcome", "ok"), ("transport", "grpc"), MODEL[1])
    buckets = {
        float(key[1][1]): value
        for key, value in samples.items()
        if key[0] == "servekit_request_duration_seconds_bucket" and set(of) < set(key[1:])
    }
    assert buckets == {0.001: 6, 0.01: 9, 0.1: 9, math.inf: 10}
    assert samples[("servekit_request_duration_seconds_count", *of)] == 10
    assert samples[("servekit_request_duration_seconds_sum", *of)] == 0.5


def test_what_serves_a_model_is_told(samples):
    of = [dict(key[1:]) for key in samples if key[0] == "servekit_model_info"]
    assert of == [
        {"model": "tiny", "version": "1", "digest": "ab" * 32, "ort": "1.32.0", "ep": "cpu", "execution": "inline"}
    ]


def test_the_process_itself_is_measured(samples):
    assert samples[("process_resident_memory_bytes",)] > 0


def test_tritons_counters_are_counters_under_their_own_names():
    body, _ = metrics.render(metrics.registry(snapshots.text, 1000), "")
    assert b"# TYPE nv_inference_count counter\nnv_inference_count{" in body


def test_openmetrics_is_given_to_who_asks_for_it():
    body, content_type = metrics.render(metrics.registry(snapshots.text, 1000), OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(body.decode())}
    assert {"servekit_requests_accepted", "nv_inference_count"} <= names


def test_series_past_the_limit_are_dropped_and_counted():
    found = scraped(snapshots.text(), series_max=20)
    ours = [key for key in found if not key[0].startswith(("process_", "servekit_metric_series_dropped"))]
    assert len(ours) == 20
    assert found[("servekit_metric_series_dropped_total",)] > 0


def test_a_model_that_failed_has_no_histograms_and_breaks_none():
    failed = snapshots.unserved("tiny", "failed", "no such operator", "model_file")
    found = scraped(snapshots.text(failed))
    assert found[("servekit_model_ready", *MODEL)] == 0
    assert found[("nv_inference_count", *MODEL)] == 0
    assert ("servekit_run_duration_seconds_count", *MODEL) not in found


def test_every_refusal_that_triton_knows_is_one_of_ours():
    assert set(metrics.TRITON_REASONS) <= {refusal.label for refusal in CATALOGUE}


def test_own_names_end_in_units():
    for key in scraped(snapshots.text()):
        assert not key[0].startswith("servekit_") or not key[0].endswith(("_ms", "_us", "_mib", "_kb")), key
