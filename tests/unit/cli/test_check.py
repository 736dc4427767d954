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
        return json.dumps(snapshots.model(asked["name"]) | {"plan": plan, "run_ms_max": 1000})

    monkeypatch.setattr(_native, "check", check)


@pytest.fixture
def models(tmp_path):
    for name in ("good.onnx", "bad.onnx"):
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
    assert {model["name"]: model["state"] for model in told["models"]} == {"bad": "failed", "good": "ready"}
    assert told["cores"]["cores"] == 1.5
    assert told["limits"]["request_body_bytes_max"] > 0
    assert {"key", "value", "reason"} == set(told["arithmetic"][0])
    assert len(told["passed_over"]) == 1
