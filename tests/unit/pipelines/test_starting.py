"""What crosses to the native side when a server starts with pipelines."""

import json
import subprocess
import sys

import pytest

from servekit import _native
from servekit.config.schema import PIPELINE_KEYS
from servekit.pipelines.schema import KEYS
from servekit.pipelines.starting import started
from servekit.plan import WrittenPipeline

SCORES = {"name": "y", "datatype": "FP32", "shape": ["N", 3], "optional": False}
ENTRY = {"pipeline": None, "shared": None, "failed": None, "intra_op": None}
CONFIG = {"limits": {"pipeline_stages_max": 4}}
SOFTMAX = "after: [{use: scores.softmax}]"


@pytest.fixture(autouse=True)
def native(monkeypatch):
    """Models that take and give three numbers, without files; one called `broken` has a file that is none."""

    def contract(native_json, name):
        if name == "broken":
            error = _native.LoadError("model 'broken' is no model")
            error.label = "model_file"
            raise error
        return json.dumps({"name": name, "inputs": [SCORES | {"name": "x"}], "outputs": [SCORES]})

    monkeypatch.setattr(_native, "contract", contract, raising=False)


def crossed(pipelines, *others, **options):
    """The entries of the models after the start."""
    models = [{"name": name, **ENTRY} for name in (*pipelines, *others)]
    config = CONFIG | {"models": models}
    written = [WrittenPipeline(name, "/models", f"{name}.yaml", text=text) for name, text in pipelines.items()]
    result = started(json.dumps(config), written, **{"allow_code": False, **options})
    return {entry["name"]: entry for entry in json.loads(result.native_json)["models"]}, result.plans


def reason(text, *others, **pipelines):
    entries, plans = crossed({"own": text, **pipelines}, *others)
    assert "own" not in plans
    assert entries["own"]["pipeline"] is None
    return entries["own"]["failed"]


def test_the_plan_crosses_with_its_folder_and_is_kept_with_its_kernels():
    entries, plans = crossed({"own": SOFTMAX + "\nraw: true"})
    crossing = entries["own"]["pipeline"]
    left_out = {"plan": None, "digest": None}
    assert crossing | left_out == left_out | {"folder": "/models", "raw": True, "models": []}
    (call,) = plans["own"].batch[1:]
    assert json.loads(crossing["plan"])["batch"][1]["kernel"]["address"] == call.kernel.compiled().address


def test_a_digest_is_of_what_is_computed_and_not_of_where_it_lies():
    texts = (SOFTMAX, SOFTMAX, "after: [{use: scores.softmax, as: shares}]", "after: [{use: scores.sigmoid}]")
    found = [crossed({"own": text}) for text in texts]
    crossings = [entries["own"]["pipeline"] for entries, _ in found]
    addresses = [json.loads(crossing["plan"])["batch"][1]["kernel"]["address"] for crossing in crossings]
    assert len(set(addresses)) == len(texts)
    first, second, *others = (crossing["digest"] for crossing in crossings)
    assert first == second
    assert len({first, *others}) == 3


def test_a_table_of_the_configuration_is_a_pipeline_too():
    config = CONFIG | {"models": [{"name": "own", **ENTRY}]}
    table = {"after": [{"use": "scores.softmax"}]}
    written = [WrittenPipeline("own", "/models", "models: own", table=table)]
    assert "own" in started(json.dumps(config), written, allow_code=False).plans


def test_a_pipeline_that_is_broken_fails_its_model_alone():
    entries, plans = crossed({"own": SOFTMAX, "bad": "after: [{use: scores.softmx}]"}, "plain")
    assert "did you mean 'scores.softmax'?" in entries["bad"]["failed"]
    assert set(plans) == {"own"}
    assert entries["own"]["failed"] is None
    assert entries["plain"] == {"name": "plain", **ENTRY}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("after: [", "own.yaml"),
        ("outptus: [y]", "unknown key 'outptus'; did you mean 'outputs'?"),
        ("before: [{use: kernels.py:mine}]", "--allow-code"),
        (f"before: [{', '.join(['{use: scores.softmax}'] * 4)}]", "at most 4"),
        ("model: othr", "did you mean 'other'?"),
    ],
)
def test_the_reason_names_what_is_wrong(text, said):
    assert said in reason(text, "other")


def test_faults_of_one_file_are_one_line():
    assert "\n" not in reason("outptus: [y]\ninptus: {}")


def test_a_broken_file_is_the_reason_of_its_pipeline():
    entries, _ = crossed({"broken": SOFTMAX})
    assert entries["broken"]["failed"] == "model 'broken' is no model"


def test_a_pipeline_runs_other_models_by_their_files():
    entries, _ = crossed({"own": "model: other", "piped": SOFTMAX, "third": "model: piped.raw"}, "other")
    assert entries["own"]["pipeline"]["models"] == ["other"]
    assert entries["third"]["pipeline"]["models"] == ["piped"]


def test_a_file_that_several_queues_run_is_told_of():
    entries, _ = crossed({"own": "model: other", "piped": SOFTMAX, "both": SOFTMAX + "\nraw: true"}, "other")
    assert {name: entry["shared"] for name, entry in entries.items()} == {
        "own": None,
        "piped": None,
        "both": "it is served as both.raw too",
        "other": "the pipeline of 'own' runs it too",
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("model: other", "the pipeline of 'own' runs it too"),
        ("after: [{model: other, as: x}]", "the pipeline of 'own' runs it too"),
        ("after: [{model: own.raw, as: x}]", "its pipeline runs it in several steps"),
        ("raw: true", "it is served as own.raw too"),
    ],
)
def test_threads_that_cannot_be_had_are_refused(text, why):
    models = [{"name": name, **ENTRY, "intra_op": 2} for name in ("own", "other")]
    written = [WrittenPipeline("own", "/models", "model.yaml", text=text)]
    found = json.loads(started(json.dumps(CONFIG | {"models": models}), written, allow_code=False).native_json)
    own, other = found["models"]
    shared = "other" if "other" in text else "own"
    assert own["failed"] == (
        f"pipeline of 'own': model '{shared}' has intra_op 2, 1 is allowed as {why}; take intra_op out"
    )
    assert (own["intra_op"], other["intra_op"], other["failed"]) == (2, 2, None)


@pytest.mark.parametrize("order", [("own", "piped"), ("piped", "own")])
def test_the_order_of_models_means_nothing(order):
    texts = {"own": "before: [{model: piped.raw, as: x}]", "piped": "before: [{model: other, as: x}]"}
    entries, plans = crossed({name: texts[name] for name in order}, "other")
    assert set(plans) == set(order)
    assert [entries[name]["pipeline"]["models"] for name in ("own", "piped")] == [["piped"], ["other"]]
    assert [bool(entries[name]["shared"]) for name in ("own", "piped", "other")] == [False, True, True]


def test_a_pipeline_does_not_run_inside_another():
    said = reason("model: piped", piped=SOFTMAX)
    assert "model 'piped' has a pipeline of its own" in said
    assert said.endswith("name the model's own tensors, piped.raw")


def test_models_that_run_each_other_are_told_the_circle():
    entries, plans = crossed({"own": "model: two", "two": "model: own", "three": SOFTMAX})
    assert "own → two → own" in entries["own"]["failed"]
    assert "two → own → two" in entries["two"]["failed"]
    assert set(plans) == {"three"}


def test_two_models_do_not_share_the_name_of_the_raw_one():
    assert "another model is called 'own.raw'" in reason(SOFTMAX + "\nraw: true", "own.raw")


def test_a_defect_fails_its_model_alone(monkeypatch):
    def fail(native_json, name):
        raise RuntimeError("defect")

    monkeypatch.setattr(_native, "contract", fail, raising=False)
    assert "failed by a defect (RuntimeError('defect')), please report it" in reason(SOFTMAX)


def test_the_configuration_knows_the_keys_of_a_pipeline():
    assert PIPELINE_KEYS == KEYS


def test_a_server_without_pipelines_never_loads_what_compiles_them(tmp_path):
    script = (
        "import sys\n"
        "from servekit import _native, server\n"
        "from servekit.cli.commands import outcome\n"
        "plan = outcome(['serve', '--management-port', '0', '--http-port', '0', '--grpc-port', '0'])\n"
        "class Stop(Exception): pass\n"
        "def start(native_json): raise Stop\n"
        "class Server: start = staticmethod(start)\n"
        "_native.Server = Server\n"
        "try: server.serve(plan)\n"
        "except Stop: pass\n"
        "heavy = ('numba', 'llvmlite', 'numpy', 'servekit.kernels', 'servekit.pipelines')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_pipeline_of_code_is_planned_where_code_is_allowed(folder):
    code = "from servekit.kernels import scores\npipeline = {'after': [{'use': scores.softmax}]}"
    written = [WrittenPipeline("own", str(folder("pipeline.py", code)), "pipeline.py", is_code=True)]
    config = json.dumps(CONFIG | {"models": [{"name": "own", **ENTRY}]})
    assert "own" in started(config, written, allow_code=True).plans
    (entry,) = json.loads(started(config, written, allow_code=False).native_json)["models"]
    assert "--allow-code" in entry["failed"]


def test_code_is_run_once_whoever_names_the_model(folder, tmp_path):
    code = (
        f"with open({str(tmp_path / 'runs')!r}, 'a') as runs: runs.write('x')\n"
        "pipeline = {'after': [{'use': 'scores.softmax'}]}"
    )
    path = str(folder("pipeline.py", code))
    written = [
        WrittenPipeline("own", path, "pipeline.py", is_code=True),
        WrittenPipeline("other", "/models", "other.yaml", text="before: [{model: own, as: x}]"),
    ]
    config = json.dumps(CONFIG | {"models": [{"name": name, **ENTRY} for name in ("other", "own")]})
    assert "own" in started(config, written, allow_code=True).plans
    assert (tmp_path / "runs").read_text() == "x"


def test_a_pipeline_is_written_once(folder):
    path = folder("pipeline.py", "")
    written = [WrittenPipeline("own", str(path), "model.yaml", text=SOFTMAX)]
    config = json.dumps(CONFIG | {"models": [{"name": "own", **ENTRY}]})
    (entry,) = json.loads(started(config, written, allow_code=True).native_json)["models"]
    assert "model.yaml and pipeline.py are both there" in entry["failed"]
