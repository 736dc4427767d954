"""What is asked to learn the cost of kernels, and how answers are read. No server is started here."""

import pytest

from loadtests import calls
from loadtests.twins.workload import Answer
from servekit.pipelines import read

ADDRESS = "127.0.0.1:1"


def test_a_pipeline_has_as_many_kernels_as_were_asked_for(tmp_path):
    folder = calls.write(tmp_path / "many", 5)
    pipeline = read((folder / "model.yaml").read_text(), "model.yaml")
    assert [step.use for step in pipeline.before] == ["numbers.clip"] * 5
    assert (folder / "model.onnx").is_file()


def test_a_run_is_the_median_of_what_the_lane_says(monkeypatch):
    told = iter(["queue;dur=9.000, run;dur=0.002", "run;dur=0.004", "x;dur=7, run;dur=0.003, prerun;dur=8"])
    monkeypatch.setattr(calls, "ask", lambda *_: Answer(next(told), b""))
    assert calls.run_ns(ADDRESS, "few", 3) == pytest.approx(3_000)


def test_a_server_that_does_not_say_how_long_it_ran_is_an_error(monkeypatch):
    monkeypatch.setattr(calls, "ask", lambda *_: Answer("queue;dur=9.000", b""))
    with pytest.raises(RuntimeError, match="'run;dur=' is needed"):
        calls.run_ns(ADDRESS, "few", 3)
