import json
import resource
import xml.etree.ElementTree as ElementTree
from itertools import count

import pytest

from servekit.bench import report
from servekit.bench.encoding import Body
from servekit.bench.picture import picture
from servekit.bench.settings import Settings, check_files
from servekit.bench.sweep import (
    LOOP_SECONDS,
    LOOP_SECONDS_MAX,
    LOOP_WINDOWS,
    Bench,
    Capacity,
    Run,
    knee,
    numbers,
    problems,
    seconds_of,
    steady_rate,
)
from servekit.bench.target import Target
from servekit.errors import BindError, ConfigError


def outcome(**changed):
    times = {"p50": 1.0, "p90": 2.0, "p99": 30.0, "p999": None}
    return {
        "valid": True,
        "invalid_because": [],
        "offered": 100,
        "answered": 100,
        "ok": 100,
        "good": 100,
        "cancelled": 0,
        "refused": {},
        "refusal_texts": {},
        "failed": {},
        "offered_per_s": 100.0,
        "goodput_per_s": 100.0,
        "served_per_s": 100.0,
        "offered_ms": times,
        "served_ms": times,
        "refusal_ms": {"p50": None, "p99": None},
        "late_ms": {"p50": 0.1, "p99": 0.2, "max": 0.3},
        "priorities": [],
        "cpu_share": 0.1,
        "ok_total": 120,
        **changed,
    }


def run(rate, **changed):
    return Run(rate, None, outcome(**changed), None)


def bench(monkeypatch, told, settings=None):
    """A bench whose native runs are told by a function of their plan."""
    plans = []

    def native(plan_json, bodies):
        plans.append(json.loads(plan_json))
        assert bodies == [b"{}"]
        return json.dumps(told(plans[-1]))

    monkeypatch.setattr("servekit._native.bench", native, raising=False)
    return Bench(Target("a:1", "m"), [Body(b"{}", "application/json")], settings or Settings()), plans


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100", [100]),
        ("1,2.5", [1, 2.5]),
        ("1..3:3", [1, 2, 3]),
        ("5..9:1", [5]),
        ("0.25..2", [0.25 * n for n in range(1, 9)]),
    ],
)
def test_rates_are_a_list_or_a_span(text, expected):
    assert numbers(text, "--rates") == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "0", "-1", "1,0", "nan", "inf", "a..b", "1..2:0", "1..2:x", "0..1", "1;2"])
def test_rates_that_mean_nothing_are_refused(text):
    with pytest.raises(ConfigError, match="--rates"):
        numbers(text, "--rates")


def test_the_knee_is_where_requests_begin_to_miss():
    runs = [run(300, good=50), run(100), run(200, good=99), run(400)]
    assert knee(runs) == 200
    assert knee([run(100, good=98)]) is None
    assert knee([run(100), run(200, valid=False, good=1), run(300)]) == 300, "what is not valid says nothing"
    assert knee([run(100, good=95, cancelled=5)]) == 100, "who left is not missed"


def loop(plan, served_per_s):
    """A closed loop that serves so many, evenly."""
    windows = [{"ok": served_per_s * plan["seconds"] / LOOP_WINDOWS}] * LOOP_WINDOWS
    return outcome(seconds=plan["seconds"], timeline=windows)


def in_flight_of(plan):
    return plan["load"]["closed"]["in_flight"]


def test_a_capacity_is_sought_until_more_in_flight_bring_no_more(monkeypatch):
    served = {8: 100.0, 16: 90.0, 32: 80.0, 64: 200.0, 128: 310.0, 256: 305.0, 512: 300.0}
    subject, plans = bench(monkeypatch, lambda plan: loop(plan, served[in_flight_of(plan)]), Settings(slo_ms=1_000.0))
    capacity = subject.capacity()
    assert (capacity.requests_per_s, capacity.in_flight) == (pytest.approx(310.0), 128)
    assert [plan["connections"] for plan in plans] == [8, 16, 32, 64, 128, 256, 512, 128]
    assert subject.capacity(in_flight=8).requests_per_s == pytest.approx(100.0)
    served |= {64: 99.0}
    assert subject.capacity().in_flight == 8, "the first of what is no more"


def test_a_capacity_is_one_at_which_a_turn_takes_no_longer_than_the_objective(monkeypatch):
    served = {8: 100.0, 16: 110.0, 32: 120.0, 64: 320.0, 128: 640.0, 256: 660.0, 512: 670.0}
    subject, _ = bench(monkeypatch, lambda plan: loop(plan, served[in_flight_of(plan)]), Settings(slo_ms=201.0))
    assert subject.capacity().in_flight == 128
    subject, _ = bench(monkeypatch, lambda plan: loop(plan, served[in_flight_of(plan)]), Settings(slo_ms=190.0))
    assert subject.capacity().in_flight == 16
    subject, _ = bench(monkeypatch, lambda plan: loop(plan, served[in_flight_of(plan)]), Settings(slo_ms=1.0))
    assert subject.capacity().in_flight == 8, "some figure is needed even so"


def test_a_capacity_is_no_lucky_figure_of_its_search(monkeypatch):
    luck = count(0)
    lucky = {1: 140.0}
    subject, plans = bench(monkeypatch, lambda plan: loop(plan, lucky.get(next(luck), 100.0)), Settings(slo_ms=1_000.0))
    capacity = subject.capacity()
    assert (capacity.requests_per_s, capacity.in_flight) == (pytest.approx(100.0), 16)
    assert max(served for _, served in capacity.steps) == pytest.approx(140.0)
    assert plans[-1]["seconds"] > max(plan["seconds"] for plan in plans[:-1])


def test_slow_models_get_longer_loops():
    assert seconds_of(4, 8, 1_000, LOOP_SECONDS) == LOOP_SECONDS
    assert seconds_of(4, 32, 30, LOOP_SECONDS) == 4.3
    assert seconds_of(30, 64, 30, LOOP_SECONDS) == LOOP_SECONDS_MAX


def bursts(period, size, first, windows=200):
    return [size if at >= first and (at - first) % period == 0 else 0 for at in range(windows)]


@pytest.mark.parametrize("first", range(0, 43, 3))
@pytest.mark.parametrize("size", [1, 8, 16])
def test_bursts_are_counted_at_their_rate_wherever_the_ends_cut(first, size):
    counts = bursts(43, size, first)
    assert steady_rate(counts, 0.01) == pytest.approx(size / 0.43)
    spread = max(abs(sum(bursts(43, size, at)) / 2.0 - size / 0.43) * 0.43 / size for at in range(43))
    assert spread > 0.06, "which divided by the whole time they are not"


def test_a_burst_that_is_cut_into_two_windows_changes_little():
    counts = bursts(43, 10, 5)
    counts[5], counts[6] = 3, 7
    assert steady_rate(counts, 0.01) == pytest.approx(10 / 0.43, rel=0.02)


def test_an_even_stream_has_its_own_rate():
    assert steady_rate([20] * 100, 0.01) == pytest.approx(2_000)
    assert steady_rate([0, 0, 6, 0], 0.5) == 3.0, "of one burst nothing better is known"
    assert steady_rate([0] * 10, 0.01) == 0.0
    assert steady_rate([], 0.01) == 0.0


def test_a_server_that_serves_nothing_has_no_capacity(monkeypatch):
    refused = outcome(ok=0, refused={"404": 7}, refusal_texts={"404": "unknown model"})
    subject, _ = bench(monkeypatch, lambda plan: refused)
    with pytest.raises(BindError, match="7 x 404 unknown model"):
        subject.capacity()


def test_each_rate_of_a_sweep_is_one_plan(monkeypatch):
    settings = Settings(arrivals="mmpp", slo_ms=50, priorities=((1, 0.3),), cancel_share=0.05, slow_connections=2)
    subject, plans = bench(monkeypatch, lambda plan: outcome(), settings)
    runs = list(subject.sweep([100.0, 200.0], Capacity(200.0)))
    assert [run.load for run in runs] == [0.5, 1.0]
    plan = plans[1]
    assert plan["load"] == {"open": {"rate": 200.0, "arrivals": {"kind": "mmpp", "low_s": 1.0, "high_s": 0.5}}}
    assert plan["target"] == {"address": "a:1", "path": "/v2/models/m/infer", "protocol": "http"}
    assert plan["priorities"] == [{"level": 1, "share": 0.3}]
    assert plan["cancel"] == {"share": 0.05, "within_ms": 50}
    assert plan["slow"] == {"connections": 2, "bytes_per_second": 1_000}


def test_connections_follow_the_rate_and_the_objective():
    assert Settings(slo_ms=100).connections_for(10) == 64
    assert Settings(slo_ms=100).open_plan(1_000)["connections"] == 400
    assert Settings(slo_ms=100, deadline_ms=500).open_plan(1_000)["connections"] == 2_000
    assert Settings(protocol="grpc").open_plan(10_000)["connections"] == 40
    assert Settings(connections=7).open_plan(1e6)["connections"] == 7


def test_more_connections_than_files_are_refused(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1_024, 4_096))
    raised = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: raised.append(limits))
    check_files(100)
    check_files(2_000)
    assert raised == [(2_064, 4_096)]
    with pytest.raises(ConfigError, match="5000 connections need 5064 open files, 4096 are allowed"):
        check_files(5_000)


def test_a_process_that_is_gone_has_no_processor_time(monkeypatch):
    subject, _ = bench(monkeypatch, lambda plan: outcome())
    with pytest.raises(ConfigError, match="no such process"):
        Bench(subject.target, subject.bodies, subject.settings, server_pid=2**22 + 1).run(1.0)


def test_the_table_names_what_went_wrong():
    told = outcome(
        valid=False,
        invalid_because=["the generator used 95 % of a core"],
        refused={"503": 3},
        refusal_texts={"503": "overloaded"},
        failed={"connection lost": 2},
        priorities=[{"level": 1, "offered": 10, "good": 9, "offered_ms": {"p99": None}}],
    )
    line = report.line(Run(100.0, 0.5, told, 0.012))
    for part in (
        "∞",
        "not valid: the generator used 95 %",
        "3 x 503 overloaded; 2 x connection lost",
        "priority 1: 90.00%",
    ):
        assert part in line
    assert len(report.heading(50).splitlines()[1]) == len(line.splitlines()[0])
    assert problems(outcome()) == "nothing"


def test_a_sweep_ends_with_its_knee_and_what_to_doubt():
    told = report.ending([run(100), run(200, valid=False)], Capacity(400.0))
    assert told[0].startswith("knee: 100 requests/s")
    assert told[0].endswith("0.25 of the capacity")
    assert told[1].startswith("1 of 2 runs not valid")


def test_the_document_is_json_without_infinities():
    text = json.dumps(report.document({"model": "m"}, [run(100)], Capacity(5.0, 4, ((4, 5.0),))), allow_nan=False)
    assert json.loads(text)["runs"][0]["rate"] == 100


def test_the_picture_is_well_formed_and_suits_dark_pages():
    turns = count(1)
    runs = [
        run(rate, valid=rate < 300, offered_ms={"p50": next(turns), "p90": 9, "p99": 20, "p999": None})
        for rate in (100, 200, 300)
    ]
    text = picture(runs, 50.0, 'a "model" <b>')
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "prefers-color-scheme: dark" in text
    circles = [node for node in root.iter() if node.tag.endswith("circle")]
    assert len(circles) == 9, "p50, p99 and goodput of three runs; p99.9 was never reached"
    assert sum("fill: var(--paper)" in node.get("style") for node in circles) == 3, "of the run that was not valid"
    assert ElementTree.fromstring(picture([], 50.0, "nothing")) is not None
