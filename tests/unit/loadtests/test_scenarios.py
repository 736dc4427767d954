"""How scenarios judge: rounds, bars, recoveries, and what they ask the simulator. No server is started here."""

import json
import math
from pathlib import Path

import pytest

from loadtests.scenarios import __main__ as command
from loadtests.scenarios import ablation, knee, lone, overload, saturation, stage
from loadtests.scenarios.catalogue import SCENARIOS
from loadtests.scenarios.criteria import Criterion, Recovered, Verdict, recovery_s, stall_end_s
from loadtests.scenarios.rounds import JUDGED_LEAST, Round, Rounds, rounds
from loadtests.scenarios.subjects import MLP, WINDOW_MS, Closely
from servekit.bench.sweep import LOOP_WINDOWS, Bench, Run

LATE = "requests left late"
WINDOW_S = 0.01
RECOVERED = Recovered(share=0.95, for_s=0.05)


def run(served_per_s=1_000.0, **changed):
    """A closed loop, or a rate, of one second."""
    doubts = [LATE] if changed.pop("late", False) else []
    steady = [{"ok": round(served_per_s), "offered": 0, "good": 0, "refused": 0}] * LOOP_WINDOWS
    outcome = {
        "valid": not doubts,
        "invalid_because": doubts,
        "seconds": float(LOOP_WINDOWS),
        "timeline": steady,
        "offered": 100,
        "good": 100,
        "cancelled": 0,
        "answered_total": 1_000,
        "goodput_per_s": served_per_s,
        "served_ms": {"p50": 1e3 / served_per_s},
        "refusal_ms": {"p50": 1.0},
        "offered_ms": {"p99": 2.0},
    }
    return Run(None, None, outcome | changed, 0.1)


def round_of(before, of, after, **changed):
    return Round(run(before), run(of, **changed), run(after))


def timeline(*shares):
    return [{"offered": 100, "good": round(100 * share)} for share in shares]


def test_what_is_compared_takes_turns_and_begins_and_ends_with_the_measure():
    order = []
    measured, seen = iter(range(1, 5)), []

    def measure():
        order.append("measure")
        return run(100.0 * next(measured))

    def play(before):
        order.append("play")
        seen.append(before.steady_per_s)
        return run()

    played = rounds(3, measure, play)
    assert order == ["measure", "play"] * 3 + ["measure"]
    assert seen == pytest.approx([100, 200, 300])
    assert [one.measure(lambda run: run.steady_per_s) for one in played.played] == pytest.approx([150, 250, 350])
    assert [run.steady_per_s for run in played.measures] == pytest.approx([100, 200, 300, 400])


def test_a_slow_drift_of_the_machine_changes_no_ratio():
    drifting = Rounds([round_of(1_000 - 100 * at, 475 - 50 * at, 900 - 100 * at) for at in range(5)])
    assert drifting.median(overload.goodput_of) == pytest.approx(0.5)


def test_the_median_is_judged_and_one_odd_round_is_nothing():
    played = Rounds([round_of(100, found, 100) for found in (97, 3, 99, 98, 400)])
    assert played.median(overload.goodput_of) == pytest.approx(0.98)


def test_rounds_in_which_the_generator_was_late_are_not_judged():
    fine, late = round_of(100, 50, 100), round_of(100, 1, 100, late=True)
    played = Rounds([fine, late, fine, fine, late])
    assert played.lacking == []
    assert played.median(overload.goodput_of) == pytest.approx(0.5)
    told = played.told(overload.told)
    assert [LATE in line for line in told] == [False, True, False, False, True]
    assert Round(run(late=True), run(), run()).doubts == [LATE], "what it is measured by counts as well"


def test_too_few_rounds_are_not_judged_at_all():
    fine, late = round_of(100, 50, 100), round_of(100, 1, 100, late=True)
    few = Rounds([fine] * (JUDGED_LEAST - 1) + [late])
    assert few.lacking == ["in 2 of 3 rounds the generator kept up, 3 are needed"]
    assert Verdict([], lacking=few.lacking).doubts == few.lacking
    assert math.isnan(Rounds([late]).median(overload.goodput_of))
    assert not Criterion("x", math.nan, least=0.0).met


def test_each_scenario_shows_its_rounds():
    one = round_of(100, 98, 100)
    assert "98.0/s is 0.980 of it" in overload.told(one)
    assert "as installed 98.0, 0.980 of it" in saturation.told(one)
    assert lone.latency_of(one) == pytest.approx(100 / 98)
    assert "1.020 of it" in lone.told(one)


def test_refusals_are_paid_for_out_of_the_capacity():
    assert overload.attainable(1.0, 0.0) == 1.0
    assert overload.attainable(1.0, 0.2) == pytest.approx(0.75)
    assert overload.attainable(1.0, 0.9) == 0.0, "where refusals alone fill the processor"
    assert overload.cost_of([run(), run()]) == pytest.approx(1e-4)


def test_the_stall_is_found_in_the_run_itself():
    good, stalled = [1.0] * 20, [0.0] * 300
    assert stall_end_s(timeline(*good, *stalled, 0.0, 0.0, *good), WINDOW_S, 3.0) == pytest.approx(3.2)
    assert stall_end_s(timeline(*good, 0.4, *stalled, *good), WINDOW_S, 3.0) == pytest.approx(3.204)
    assert stall_end_s(timeline(*good, 0.0, 0.0, *good, 1.0, *stalled), WINDOW_S, 3.0) == pytest.approx(3.43)
    assert stall_end_s(timeline(*stalled), WINDOW_S, 3.0) == 3.0


def test_recovery_counts_from_the_end_of_the_stall_to_when_it_stays_well():
    after = timeline(*[0.0] * 10, *[0.0] * 3, 1.0, 0.5, *[1.0] * 20)
    assert recovery_s(after, WINDOW_S, 0.1, RECOVERED) == pytest.approx(0.05), "one good window is no recovery"
    assert recovery_s(after, WINDOW_S, 0.096, RECOVERED) == pytest.approx(0.054)
    assert recovery_s(timeline(*[0.0] * 10, *[0.96] * 10), WINDOW_S, 0.1, RECOVERED) == 0.0
    assert recovery_s(timeline(*[0.9] * 30), WINDOW_S, 0.1, RECOVERED) == math.inf
    assert recovery_s([], WINDOW_S, 0.1, RECOVERED) == math.inf


def test_a_stall_is_looked_at_closely_however_long_it_is():
    settings = Closely(slo_ms=50.0, seconds=40.0)
    assert settings.open_plan(100.0)["window_ms"] == WINDOW_MS
    assert settings.slo_ms >= 5 * WINDOW_MS


def test_loops_keep_within_the_target_of_those_who_wait():
    assert saturation.loop_size(20_000, 50) == 256
    assert saturation.loop_size(1_000, 100) == 32
    assert saturation.loop_size(1, 100) == 8


def test_a_configuration_becomes_environment_variables(monkeypatch):
    monkeypatch.setenv("SERVEKIT_TEST", "kept")
    found = stage.environment({"limits.latency_target_ms": None, "batching.mode": "late", "limits.batch_rows_max": 8})
    assert found["SERVEKIT__BATCHING__MODE"] == "late"
    assert found["SERVEKIT__LIMITS__BATCH_ROWS_MAX"] == "8"
    assert found["SERVEKIT__BATCHING__PROFILES"] == "off", "no server knows what another has learned"
    assert "SERVEKIT__LIMITS__LATENCY_TARGET_MS" not in found
    assert found["SERVEKIT_TEST"] == "kept"


SURFACE = {"base_ns": 80_000.0, "row_ns": 40_000.0, "spread": 0.1, "corrections": [], "samples": 500}


def test_the_line_of_a_surface_is_right_where_it_matters():
    line, rows = knee.line_of(SURFACE, 0.05)
    assert rows == knee.BATCH_ROWS_MAX
    assert (line.base_s, line.row_s) == pytest.approx((80e-6, 40e-6))
    bent, rows = knee.line_of(SURFACE | {"corrections": [1.5] + [1.0] * 63}, 0.05)
    assert bent.base_s + bent.row_s == pytest.approx(1.5 * 120e-6)
    assert bent.base_s + 64 * bent.row_s == pytest.approx(80e-6 + 64 * 40e-6)


def test_the_simulator_tells_the_knee_of_a_line():
    found = knee.simulated(knee.Line(80e-6, 40e-6), 50.0, knee.REQUESTS_LEAST)
    capacity = 64 / (80e-6 + 64 * 40e-6)
    assert found == pytest.approx(capacity, rel=0.1)


def test_the_profile_of_the_server_is_read_and_a_missing_one_told(tmp_path):
    with pytest.raises(RuntimeError, match="0 profiles were kept"):
        knee.learned(tmp_path)
    surfaces = [{"shape": "", "length": None, "surface": SURFACE}]
    Path(tmp_path / "key.json").write_text(json.dumps({"schema": 1, "payload": {"surfaces": surfaces}}))
    assert knee.learned(tmp_path) == SURFACE


def test_the_measured_knee_is_sought_by_halves(monkeypatch):
    loads = []

    def answer(self, rate, load):
        loads.append(load)
        return run(good=100 if load <= 0.83 else 50, late=len(loads) == 1)

    monkeypatch.setattr(Bench, "run", answer)
    found, runs = knee.sought(Bench(None, [], MLP.settings), 1_000.0)
    assert 815 <= found <= 830
    assert len(runs) == knee.HALVES
    assert len(loads) == knee.HALVES + 1, "a run in which the generator was late is tried again"
    monkeypatch.setattr(Bench, "run", lambda self, rate, load: run(good=0))
    assert knee.sought(Bench(None, [], MLP.settings), 1_000.0)[0] == 0.0


def test_a_row_of_the_ablation_doubts_what_the_generator_limited():
    cells = ablation.cells(1_000.0, [run(), run(late=True), run(700.0)])
    assert cells == ["1,000", "100.00%", "(100.00%)", "(2.00)", "0.700", "1.00"]
    assert len(ablation.row("x", cells)) == sum(ablation.WIDTHS)
    assert max(map(len, ablation.choices(Path("x")))) <= ablation.WIDTHS[0]


def test_every_scenario_is_in_the_guide_of_the_folder():
    guide = Path(command.__file__).with_name("README.md").read_text()
    assert [name for name in SCENARIOS if f"`{name}`" not in guide] == []


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict([Criterion("x", 1.0, least=0.9)], notes=["round 1: fine"]), 0),
        (Verdict([Criterion("x", 0.8, least=0.9)]), 1),
        (Verdict([Criterion("x", 0.8, least=0.9)], lacking=["too few"]), 4),
        (Verdict([Criterion("x", math.nan, least=0.9)], lacking=["too few"]), 4),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_exit_code_says_how_it_ended(monkeypatch, capsys, verdict, code, form):
    places = []

    def scenario(place):
        places.append(place)
        return verdict

    monkeypatch.setitem(SCENARIOS, "lone", ("one client", scenario))
    monkeypatch.setattr("sys.argv", ["scenarios", "lone", "--seconds", "2", "--rounds", "3", *form])
    assert command.main() == code
    assert (places[0].seconds, places[0].rounds) == (2.0, 3)
    told = capsys.readouterr().out
    assert all(note in told for note in verdict.notes)
    if form:
        document = json.loads(told, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        assert document["doubts"] == list(verdict.doubts)
