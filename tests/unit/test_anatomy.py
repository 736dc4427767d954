import pytest

from servekit.anatomy import slowest_s, totals_s
from tests.unit import snapshots


def test_stages_add_up_over_transports():
    both = [snapshots.anatomy("grpc"), snapshots.anatomy("http_json")]
    assert totals_s(both) == pytest.approx({"queue": 0.602, "input": 0, "run": 0.204, "output": 0, "rest": 0})


def test_the_slowest_are_those_of_the_last_buckets():
    both = [snapshots.anatomy("grpc"), snapshots.anatomy("http_json")]
    assert slowest_s(both, 0.01)["queue"] == pytest.approx(0.3)
    assert slowest_s(both, 0.1)["run"] == pytest.approx(0.1)
    assert slowest_s(both, 0.11)["queue"] == pytest.approx(0.602 / 20), "the next bucket is taken whole"
    assert slowest_s(both, 0.0)["queue"] == pytest.approx(0.3)


def test_without_requests_there_is_nothing_to_tell():
    assert totals_s([]) == slowest_s([], 0.01) == {}
    assert slowest_s([snapshots.anatomy("grpc") | {"counts": [0, 0, 0, 0]}], 0.01) == {}
