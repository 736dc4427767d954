"""Models may stand in any order in the configuration, whatever their pipelines run."""

import numpy as np
import pytest
from onnx import helper

from tests.serve import models
from tests.serve.process import serving
from tests.serve.transports import TRANSPORTS, Asked

AXES = ["N", 3]
PIPELINES = {"first": "before: [{model: second.raw, as: x}]", "second": "before: [{model: third, as: x}]"}
ROW = np.array([[1, -2, 3]], np.float32)


@pytest.fixture
def write(tmp_path):
    """Writes three models that each double their numbers, and a configuration that lists them in this order."""

    def write(*order):
        node = helper.make_node("Add", ["x", "x"], ["y"])
        for name in order:
            (tmp_path / name).mkdir()
            tensors = [[models.value(one, "FP32", AXES)] for one in ("x", "y")]
            models.write(tmp_path / name / "model.onnx", [node], *tensors)
            if name in PIPELINES:
                (tmp_path / name / "model.yaml").write_text(f"inputs: {{x: 'float32[3]'}}\n{PIPELINES[name]}\n")
        file = tmp_path / "servekit.yaml"
        file.write_text(f"models: [{', '.join(f'{{path: {name}}}' for name in order)}]\n")
        return file

    return write


@pytest.mark.parametrize("order", [("first", "second", "third"), ("third", "second", "first")])
def test_what_a_pipeline_runs_is_loaded_before_it(write, order):
    with (
        serving(arguments=["--config", str(write(*order))]) as server,
        TRANSPORTS["binary"](server) as infer,
    ):
        found = {name: next(iter(infer(Asked(name, {"x": ROW})).values())).tolist() for name in order}
    assert set(server.ready["models"]) == set(order)
    assert found == {"first": (4 * ROW).tolist(), "second": (4 * ROW).tolist(), "third": (2 * ROW).tolist()}
