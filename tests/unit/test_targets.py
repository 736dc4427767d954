import pytest

from servekit.config.limits import Limits
from servekit.config.schema import ModelSettings
from servekit.targets import targets


def found(model=None, limit=None, one_row_us=None, levels=8):
    settings = ModelSettings(name="m", **(model or {}))
    return [
        target[1:]
        for target in targets(settings, Limits(latency_target_ms=limit, priority_levels_max=levels), one_row_us)
    ]


def test_every_level_has_one():
    assert len(found()) == 8
    assert len(found(levels=3)) == 3


@pytest.mark.parametrize(
    ("model", "limit", "one_row_us", "held_ms", "source"),
    [
        ({}, None, None, 100, "automatic: no row could be measured"),
        ({}, None, 800, 100, "automatic: 5 × one row's 800 µs is less"),
        ({}, None, 30_000, 150, "automatic: 5 × one row's 30.0 ms is more than 100"),
        ({}, 0, 30_000, 0, "limits.latency_target_ms"),
        ({}, 70, None, 70, "limits.latency_target_ms"),
        ({"latency_target_ms": 0}, 70, None, 0, "models.latency_target_ms"),
        ({"latency_target_ms": 20}, None, None, 20, "models.latency_target_ms"),
    ],
)
def test_the_model_s_word_goes_before_the_limit_and_that_before_the_measurement(
    model, limit, one_row_us, held_ms, source
):
    assert set(found(model, limit, one_row_us)) == {(held_ms, source)}


def test_a_level_may_have_its_own():
    assert found({"latency_target_ms": 80, "latency_targets_ms": {1: 20, 3: 0}}, levels=4) == [
        (20, "models.latency_targets_ms"),
        (80, "models.latency_target_ms"),
        (0, "models.latency_targets_ms"),
        (80, "models.latency_target_ms"),
    ]
