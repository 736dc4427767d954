"""Rows share runs only where that provably changes nothing; where it would, each caller is still answered rightly."""

import json
import subprocess
import sys

import numpy as np
import pytest
from onnx import helper

from tests.serve import models
from tests.serve.limit_cases import message, served
from tests.serve.process import serving
from tests.serve.raw_frames import peer
from tests.serve.stubs import stub_module


def centred(folder):
    """x FP32 [-1,3] -> y = x less the mean over all rows: each row's answer depends on its neighbours."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    inputs, outputs = [models.value("x", "FP32", ["N", 3])], [models.value("y", "FP32", ["N", 3])]
    return models.write(folder / "centred.onnx", nodes, inputs, outputs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for make in (models.ident, models.tiny, models.pick, models.fixed, centred):
        make(folder)
    return folder


def checked(*arguments):
    """What `servekit check` tells, by model."""
    command = [sys.executable, "-m", "servekit", "check", "--json", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return {model["name"]: model for model in json.loads(ended.stdout)["models"]}


def verdicts(*arguments):
    return {name: model["proof"]["verdict"] for name, model in checked(*arguments).items()}


def test_the_proof_tells_who_may_share_a_run(folder):
    found = checked(folder)
    told = {name: model["proof"]["verdict"] for name, model in found.items()}
    assert told["ident"] == told["pick"] == "exact"
    assert told["tiny"] in {"exact", "within tolerance"}
    assert told["centred"] == told["fixed"] == "not batchable"
    assert found["ident"]["proof"]["rows_proved"] == found["ident"]["batch_rows_max"] == 64
    assert found["centred"]["batch_rows_max"] == 1
    for model in found.values():
        assert model["proof"]["why"]


def test_without_the_proof_the_operator_is_believed(folder):
    assert verdicts(folder / "centred.onnx", "--trust-batching") == {"centred": "trusted"}


def test_rows_that_would_harm_each_other_run_alone(folder):
    raw = [np.full((1, 3), value, np.float32).tobytes() for value in range(16)]
    with serving(folder / "centred.onnx") as server, peer(server) as caller:
        calls = [caller.called(message("centred", ("x", "FP32", [1, 3], row))) for row in raw]
        caller.send(*(frame for _, frames in calls for frame in frames))
        for number, _ in calls:
            answer = caller.answered(number)
            served(answer)
            response = stub_module("open_inference_pb2").ModelInferResponse.FromString(answer.body[5:])
            assert np.frombuffer(response.raw_output_contents[0], np.float32).tolist() == [0, 0, 0]


@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_rows_of_the_operator_are_what_is_tried(folder, tmp_path, suffix):
    file = tmp_path / f"rows.{suffix}"
    if suffix == "npz":
        np.savez(file, i=np.array([0, 3, 1], np.int64))
    else:
        file.write_text('{"inputs": [{"name": "i", "datatype": "INT64", "shape": [3], "data": [0, 3, 1]}]}')
    settings = tmp_path / "servekit.yaml"
    settings.write_text(f"models: [{{path: {folder / 'pick.onnx'}, samples: {file.name}}}]")
    assert verdicts("--config", settings) == {"pick": "exact"}


def test_rows_that_do_not_fit_the_model_are_told(folder, tmp_path):
    np.savez(tmp_path / "rows.npz", nothing=np.zeros(3, np.int64))
    settings = tmp_path / "servekit.yaml"
    settings.write_text(f"models: [{{path: {folder / 'pick.onnx'}, samples: rows.npz}}]")
    command = [sys.executable, "-m", "servekit", "check", "--config", str(settings)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    assert "nothing" in ended.stdout
