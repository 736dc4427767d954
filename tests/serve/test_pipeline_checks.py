"""`servekit check` tells what each step of a pipeline costs, and why it runs as it does."""

import json
import subprocess
import sys

import pytest

from tests.serve import pipelines


def checked(folder, *arguments):
    command = [sys.executable, "-m", "servekit", "check", str(folder), "--allow-code", *arguments]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize(
    ("make", "row"),
    [
        (pipelines.classifier, "image: a made-up PNG of 640 × 480, "),
        (pipelines.encoder, "text: a made-up sentence of 41 words"),
        (pipelines.table, "the category 'berlin'"),
        (pipelines.finite, "value: made-up float32 [3]"),
    ],
)
def test_each_step_has_a_cost(tmp_path, make, row):
    (model,) = json.loads(checked(make(tmp_path), "--json"))["models"]
    assert row in model["pipeline"]["costs"]["row"]
    check_costs(model["pipeline"])


def check_costs(found):
    assert found["costs"]["unknown"] is None
    assert [run["rows"] for run in found["costs"]["runs"]][:1] == [1]
    for run in found["costs"]["runs"]:
        assert len(run["steps_us"]) == len(found["steps"])
        assert all(took_us > 0 for took_us in run["steps_us"])


def test_steps_of_several_models_have_a_cost_each(tmp_path):
    pipelines.classifier(tmp_path)
    pipelines.chain(tmp_path)
    chain, photos = json.loads(checked(tmp_path, "--json"))["models"]
    assert [step.split()[0] for step in chain["pipeline"]["steps"]] == ["model", "model"]
    check_costs(chain["pipeline"])
    check_costs(photos["pipeline"])


def test_a_step_that_refuses_the_row_says_why_and_nothing_fails(tmp_path):
    folder = pipelines.finite(tmp_path)
    code = folder / "kernels.py"
    code.write_text(code.read_text().replace("not math.isfinite(value[place])", "value[place] < 2"))
    (line,) = [line for line in checked(folder).splitlines() if "(kernels.py:finite)" in line]
    assert line.endswith("  cost unknown, the row was refused: the value is not a finite number")


def test_threads_of_a_shared_file_have_their_reason(tmp_path):
    folder, settings = pipelines.finite(tmp_path), tmp_path / "servekit.yaml"
    for said, why in (
        ("{}", "it is served as finite.raw too, and a shared file runs on one thread"),
        ("batching: {intra_op: 2}", "it is served as finite.raw too, and a shared file runs on one thread"),
        ("models: [{name: finite, intra_op: 1}]", "as configured"),
    ):
        settings.write_text(said)
        assert f"intra_op   1: {why}" in checked(folder, "--config", str(settings))


def test_samples_of_the_operator_are_what_is_tried(tmp_path):
    folder = pipelines.finite(tmp_path)
    (folder / "model.yaml").write_text("after: [{use: scores.softmax}]")
    (tmp_path / "rows.json").write_text(
        '{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}]}'
    )
    settings = tmp_path / "servekit.yaml"
    settings.write_text("models: [{name: finite, samples: rows.json}]")
    assert "costs      of one row, the first row of its samples" in checked(folder, "--config", str(settings))
