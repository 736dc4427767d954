import json

import pytest
from click.testing import CliRunner

from servekit import _native
from servekit.cli.check import command
from tests.unit import snapshots


@pytest.fixture
def native(monkeypatch):
    """Tells what a load would tell, without one; files whose name starts with `bad` cannot be loaded."""

    def check(config_json):
        (asked,) = json.loads(config_json)["models"]
        if asked["name"].startswith("bad"):
            error = _native.LoadError("model 'bad' uses operator evil.Run; list its domain")
            error.label = "model_file"
            raise error
        plan = {"cores": 1.5, "shards": 2, "runners": 2, "intra_op": 1, "reasons": ["quota of 1.5 processors"]}
        told = snapshots.model(asked["name"]) | {"plan": plan, "run_ms_max": 1000}
        if asked["name"].startswith("unmeasured"):
            told = {key: value for key, value in told.items() if key not in {"proof", "surfaces", "targets_ms", "mode"}}
        return json.dumps(told)

    monkeypatch.setattr(_native, "check", check)


@pytest.fixture
def models(tmp_path):
    for name in ("good.onnx", "bad.onnx", "unmeasured.onnx"):
        (tmp_path / name).write_bytes(b"model")
    return tmp_path


def checked(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("native")
def test_it_tells_every_decision_with_its_reason(models):
    ended = checked(models / "good.onnx")
    assert ended.exit_code == 0
    for told in (
        "good  version 1",
        "input      x: FP32 [any, 4]",
        "runs       inline on cpu, at most 64 rows a batch, 1000 ms a run",
        "batching   rows: first axis is symbolic",
        "proof      within tolerance, difference 2e-07 of 1e-05 allowed, up to 64 rows",
        "           rows run alone and in batches of 2, 3, 8 and 64 gave the same",
        "lanes      1, each runs one batch at a time on 2 threads",
        "warm_up    9 runs of 3 sizes in 0.1 s",
        "profile    none",
        "mode       auto, requests that name no level have 4",
        "target     50 ms for level 1 (automatic: 5 × one row's 40 µs is less)",
        "target     100 ms for levels 2 to 8 (automatic",
        "cores  1.5 usable: 2 shards, 2 runners",
        "quota of 1.5 processors",
        "in_flight_bytes_max",
        "a quarter of",
    ):
        assert told in ended.output, told


@pytest.mark.usefixtures("native")
def test_a_model_that_cannot_be_served_does_not_hide_the_others(models):
    ended = checked(models)
    assert ended.exit_code == 1
    assert "cannot be served (model_file): model 'bad' uses operator evil.Run" in ended.output
    assert "good  version 1" in ended.output


@pytest.mark.usefixtures("native")
def test_machines_get_one_object(models):
    (models / "m" / "01").mkdir(parents=True)
    told = json.loads(checked(models, "--json").output)
    assert {model["name"]: model["state"] for model in told["models"]} == {
        "bad": "failed",
        "good": "ready",
        "unmeasured": "ready",
    }
    good = next(model for model in told["models"] if model["name"] == "good")
    assert good["proof"]["verdict"] == "within tolerance"
    assert good["surfaces"][0]["samples"] == 120
    assert good["targets"][1] == {"level": 2, "ms": 100, "source": good["targets"][0]["source"]}
    assert told["cores"]["cores"] == 1.5
    assert told["limits"]["request_body_bytes_max"] > 0
    assert {"key", "value", "reason"} == set(told["arithmetic"][0])
    assert len(told["passed_over"]) == 1


@pytest.mark.usefixtures("native")
def test_a_profile_shows_how_long_runs_take(models):
    told = checked(models / "good.onnx", "--profile").output
    assert "all shapes: 80.0 µs a run + 13.00 µs a row, ± 8%, 120 runs" in told
    lines = [line.split() for line in told.splitlines()]
    assert ["1", "93.0", "µs", "10,753"] in lines
    assert ["64", "912.0", "µs", "70,175", "knee"] in lines
    assert "knee" not in checked(models / "good.onnx").output


@pytest.mark.usefixtures("native")
def test_what_a_decision_says_already_is_not_said_twice(models, monkeypatch):
    why = snapshots.model()["proof"]["why"]
    told = snapshots.model("good", decisions=[["batching", f"rows: {why}"]])
    plan = {"cores": 1.0, "shards": 1, "runners": 1, "intra_op": 1, "reasons": []}
    monkeypatch.setattr(_native, "check", lambda config_json: json.dumps(told | {"plan": plan, "run_ms_max": 1}))
    assert checked(models / "good.onnx").output.count(why) == 1


@pytest.mark.usefixtures("native")
def test_what_was_not_measured_is_said(models):
    ended = checked(models / "unmeasured.onnx", "--profile")
    assert ended.exit_code == 0
    assert "no run was measured" in ended.output
    assert "target     100 ms for levels 1 to 8 (automatic" in ended.output


@pytest.mark.usefixtures("native")
def test_targets_name_the_key_that_set_them(models, monkeypatch):
    monkeypatch.setenv(
        "SERVEKIT__MODELS", '[{"name": "unmeasured", "latency_targets_ms": {"1": 20}, "latency_target_ms": 0}]'
    )
    told = checked(models / "unmeasured.onnx").output
    assert "target     20 ms for level 1 (models.latency_targets_ms)" in told
    assert "target     none for levels 2 to 8 (models.latency_target_ms)" in told


@pytest.mark.usefixtures("native")
def test_run_times_that_cannot_be_kept_are_told(models, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "")
    assert "run times are not kept from one start to the next" in checked(models / "good.onnx").output
