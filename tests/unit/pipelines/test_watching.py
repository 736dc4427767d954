"""Edits of pipelines while they are served."""

import json

import pytest

from servekit import _native
from servekit.pipelines.starting import started
from servekit.pipelines.watching import Watching
from servekit.plan import WrittenPipeline
from tests.unit.pipelines.test_starting import CONFIG, ENTRY, SCORES

SOFTMAX = "after: [{use: scores.softmax}]\n"
ARGMAX = "after: [{use: scores.argmax}]\n"
CITY = {"name": "city", "datatype": "INT64", "shape": ["N", 1], "optional": False}
LOOKUP = {"inputs": {"city": "string"}, "before": [{"use": "lookup", "with": {"file": "cities.txt"}}]}


class Served:
    """A server that only remembers what it was asked, and its log."""

    def __init__(self):
        self.asked = []
        self.told = []

    def load(self, model_json):
        entry = json.loads(model_json)
        if entry["version"] == "refused":
            raise _native.LoadError("no lane is left")
        self.asked.append(
            ("load", entry["name"], [one["name"] for one in json.loads(entry["pipeline"]["plan"])["outputs"]])
        )
        return "{}"

    def unload(self, name, version):
        self.asked.append(("unload", name, version))

    def info(self, event, **fields):
        self.told.append((event, fields["model"], ""))

    def warning(self, event, **fields):
        self.told.append((event, fields["model"], fields["reason"]))


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A served pipeline, its file, and who looks after it."""

    def contract(native_json, name):
        taken = SCORES | {"name": "x"} if name == "own" else CITY
        return json.dumps({"name": name, "inputs": [taken], "outputs": [SCORES]})

    monkeypatch.setattr(_native, "contract", contract)

    def start(text, *, version="1", allow_code=False):
        file = tmp_path / "model.yaml"
        file.write_text(text)
        models = [{"name": "own", "version": version, **ENTRY}]
        return file, *watching(
            [WrittenPipeline("own", str(tmp_path), str(file), text=text)], models, allow_code=allow_code
        )

    return start


def watching(written, models, *, allow_code=False):
    result = started(json.dumps(CONFIG | {"models": models}), written, allow_code=allow_code)
    served = Served()
    return Watching(served, result, written, served, allow_code=allow_code), served


def test_an_edit_is_served(watched):
    file, watching, served = watched(SOFTMAX)
    watching.look()
    assert served.told == []
    file.write_text(ARGMAX)
    watching.look()
    watching.look()
    assert served.asked == [("load", "own", ["best"])]
    assert served.told == [("pipeline_swapped", "own", "")]


def test_a_broken_edit_keeps_what_is_served_and_is_told_once(watched):
    file, watching, served = watched(SOFTMAX)
    file.write_text("after: [{use: scores.softmx}]")
    watching.look()
    watching.look()
    assert served.asked == []
    ((event, model, reason),) = served.told
    assert (event, model) == ("pipeline_kept", "own")
    assert "did you mean 'scores.softmax'?" in reason
    file.write_text(SOFTMAX)
    watching.look()
    assert served.told[1:] == [("pipeline_swapped", "own", "")]


def test_a_file_that_is_gone_keeps_what_is_served(watched):
    file, watching, served = watched(SOFTMAX)
    file.unlink()
    watching.look()
    assert served.told == [("pipeline_kept", "own", "model.yaml: no such file or directory; put it back")]


def test_an_edit_puts_right_what_was_broken_from_the_start(watched):
    file, watching, served = watched("after: [{use: scores.softmx}]")
    file.write_text(SOFTMAX)
    watching.look()
    assert served.asked == [("load", "own", ["probabilities"])]


def test_an_edit_that_cannot_be_loaded_is_told(watched):
    file, watching, served = watched(SOFTMAX, version="refused")
    file.write_text(ARGMAX)
    watching.look()
    assert served.told == [("pipeline_kept", "own", "no lane is left")]


def test_a_raw_name_goes_with_the_edit_that_takes_it(watched):
    file, watching, served = watched(SOFTMAX + "raw: true")
    file.write_text(SOFTMAX)
    watching.look()
    assert served.asked[1:] == [("unload", "own.raw", "1")]


def test_code_of_the_folder_is_part_of_the_pipeline(watched):
    file, watching, served = watched(SOFTMAX, allow_code=True)
    (file.parent / "kernels.py").write_text("# a kernel to come")
    watching.look()
    assert served.told == [("pipeline_swapped", "own", "")]


def test_a_file_that_a_stage_reads_is_part_of_the_pipeline(watched):
    file, _, _ = watched(SOFTMAX)
    (file.parent / "cities.txt").write_text("lima")
    # A table of the configuration is watched for what its stages read.
    written = [WrittenPipeline("places", str(file.parent), "models: places", table=LOOKUP)]
    looking, served = watching(written, [{"name": "places", "version": "1", **ENTRY}])
    looking.look()
    file.write_text(ARGMAX)
    looking.look()
    assert served.told == []
    (file.parent / "cities.txt").write_text("oslo")
    looking.look()
    looking.look()
    assert served.told == [("pipeline_swapped", "places", "")]
