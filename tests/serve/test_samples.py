"""Rows of the operator, in either form, are what a model is tried with."""

import subprocess
import sys

import numpy as np
import pytest

from tests.serve import models


@pytest.fixture
def check(tmp_path):
    """Checks `pick` with the samples of a file."""
    path = models.pick(tmp_path)

    def run(file):
        settings = tmp_path / "servekit.yaml"
        settings.write_text(f"models: [{{path: {path.name}, samples: {file.name}}}]")
        command = [sys.executable, "-m", "servekit", "check", "--config", str(settings)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return run


@pytest.mark.parametrize("suffix", ["npz", "json"])
def test_rows_of_the_operator_are_what_is_tried(check, tmp_path, suffix):
    file = tmp_path / f"rows.{suffix}"
    if suffix == "npz":
        np.savez(file, i=np.array([0, 3, 1], np.int64))
    else:
        file.write_text('{"inputs": [{"name": "i", "datatype": "INT64", "shape": [3], "data": [0, 3, 1]}]}')
    ended = check(file)
    assert ended.returncode == 0, ended.stderr
    assert "proof      exact" in ended.stdout


@pytest.mark.parametrize(
    ("rows", "told"), [({"nothing": np.zeros(3, np.int64)}, "nothing"), ({"i": np.zeros(3, np.float32)}, "FP32")]
)
def test_rows_that_do_not_fit_the_model_are_told(check, tmp_path, rows, told):
    np.savez(tmp_path / "rows.npz", **rows)
    ended = check(tmp_path / "rows.npz")
    assert ended.returncode == 1
    assert told in ended.stdout


def test_a_file_that_is_none_is_told_before_anything_is_loaded(check, tmp_path):
    (tmp_path / "rows.json").write_text("{}")
    ended = check(tmp_path / "rows.json")
    assert ended.returncode == 2
    assert "no list 'inputs' found" in ended.stderr
