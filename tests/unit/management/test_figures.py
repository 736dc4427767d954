import pytest
from hypothesis import given
from hypothesis import strategies as st

from servekit.management.figures import Meter, quantile_s
from tests.unit import snapshots

BOUNDS = [0.001, 0.01, 0.1]


def with_answers(count, **changes):
    return snapshots.snapshot(snapshots.model(requests=[snapshots.requests("ok", [count, 0, 0, 0], 0.0)], **changes))


def test_a_rate_needs_two_moments():
    meter = Meter()
    assert meter.figures(with_answers(100), 1.0)["tiny/1/requests_per_s"] == "–"
    assert meter.figures(with_answers(300), 3.0)["tiny/1/requests_per_s"] == "100"
    assert meter.figures(with_answers(300), 5.0)["server/requests_per_s"] == "50"


def test_rates_forget_what_is_older_than_the_window():
    meter = Meter()
    for second in range(0, 40, 2):
        last = meter.figures(with_answers(1000 if second else 0), float(second))
    assert last["tiny/1/requests_per_s"] == "0"


def test_many_viewers_do_not_shorten_the_window():
    meter = Meter()
    meter.figures(with_answers(0), 0.0)
    for step in range(1, 400):
        last = meter.figures(with_answers(step), step * 0.01)
    assert last["tiny/1/requests_per_s"] == "100"


def test_percentiles_are_of_the_last_seconds():
    meter = Meter()
    slow = snapshots.model(requests=[snapshots.requests("ok", [0, 0, 100, 0], 5.0)])
    then_fast = snapshots.model(requests=[snapshots.requests("ok", [100, 0, 100, 0], 5.1)])
    meter.figures(snapshots.snapshot(slow), 0.0)
    assert meter.figures(snapshots.snapshot(then_fast), 2.0)["tiny/1/p99"] == "990 µs"


def test_figures_are_written_for_people():
    figures = Meter().figures(snapshots.snapshot(), 0.0)
    assert figures["server/memory"] == "50 MiB of 1 GiB"
    assert figures["server/refusals"] == "queue_full 2"
    assert figures["server/connections_closed"] == "idle 2"
    assert figures["tiny/1/batch_rows"] == "2.5"
    assert figures["tiny/1/refusals"] == "queue_full 2"


def test_who_waits_in_any_of_a_pipelines_queues_is_queued():
    taken = snapshots.snapshot(snapshots.model(legs=[snapshots.leg()]))
    assert Meter().figures(taken, 0.0)["tiny/1/queue"] == "8"


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([0, 0, 0, 0], 0.5, None),
        ([10, 0, 0, 0], 0.5, 0.0005),
        ([0, 10, 0, 0], 0.5, 0.0055),
        ([5, 5, 0, 0], 0.5, 0.001),
        ([0, 0, 0, 1], 0.5, 0.1),
        ([], 0.5, None),
    ],
)
def test_quantiles_are_spread_within_their_bucket(counts, share, expected):
    assert quantile_s(counts, BOUNDS, share) == pytest.approx(expected)


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_quantile_is_never_lower(counts, one, other):
    lower, higher = (quantile_s(counts, BOUNDS, share) for share in sorted((one, other)))
    assert lower is None or lower <= higher + 1e-12


def test_models_may_come_and_go():
    meter = Meter()
    meter.figures(snapshots.snapshot(snapshots.model("old")), 0.0)
    figures = meter.figures(snapshots.snapshot(snapshots.model("new")), 2.0)
    assert figures["new/1/requests_per_s"] == "–"
    assert "old/1/p50" not in figures
