import pytest
from hypothesis import given
from hypothesis import strategies as st

from servekit import snapshot
from servekit.surfaces import busiest, knee_rows, predicted_s
from tests.unit import snapshots


def surface(base_us=80.0, row_us=13.0, corrections=()):
    return snapshots.surface() | {
        "base_ns": base_us * 1e3,
        "row_ns": row_us * 1e3,
        "corrections": list(corrections),
    }


def test_a_run_takes_its_base_and_its_rows():
    assert predicted_s(surface(), 10) == pytest.approx(210e-6)


def test_a_correction_is_for_one_number_of_rows_and_the_last_for_all_beyond():
    corrected = surface(corrections=[1.0, 2.0, 0.5])
    assert [predicted_s(corrected, rows) * 1e6 for rows in (1, 2, 3, 4)] == pytest.approx([93, 212, 59.5, 66])


def test_more_rows_pay_until_the_target_bounds_them():
    assert knee_rows(surface(), 64, 0.0, 1) == 64
    assert knee_rows(surface(), 64, 2e-3, 1) == 64
    assert knee_rows(surface(), 64, 1e-3, 1) == 32, "two runs of 32 rows fit, two of 33 do not"
    assert knee_rows(surface(), 64, 1e-3, 4) == 55, "with four lanes the wait for one is shorter"
    assert knee_rows(surface(), 64, 1e-4, 1) == 0


def test_a_step_in_the_cost_is_seen():
    assert knee_rows(surface(corrections=[1.0] * 8 + [3.0] * 56), 64, 0.0, 1) == 8


def test_the_busiest_has_most_runs():
    few, many = snapshots.surface(samples=2), snapshots.surface()
    assert busiest([few, many]) == many
    assert busiest([]) is None


def test_what_a_queue_knows_is_read_in_the_form_of_a_load():
    (model,) = snapshot.read(snapshots.text())["models"]
    whole, longer = model["estimate"]["surfaces"]
    assert whole == snapshots.surface()
    assert longer["class"] == "[?, n], n up to 64"


@given(st.floats(1, 1e6), st.floats(1, 1e6), st.floats(0, 10), st.integers(1, 8), st.integers(1, 300))
def test_the_knee_meets_its_target(base_ns, row_ns, target_s, lanes, rows_max):
    measured = snapshots.surface() | {"base_ns": base_ns, "row_ns": row_ns}
    knee = knee_rows(measured, rows_max, target_s, lanes)
    assert 0 <= knee <= rows_max
    assert not (knee and target_s) or predicted_s(measured, knee) * (1 + 1 / lanes) <= target_s
