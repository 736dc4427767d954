"""Rows share runs only where that was proved at load: what `check` says of models, and what callers get."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import magika
import numpy as np
import onnxruntime
import pytest
import yaml
from onnx import TensorProto, helper

from tests.serve import models, trained
from tests.serve.models import value
from tests.serve.process import serving
from tests.serve.transports import Asked, infer_once

BATCHED = {"exact", "within tolerance", "trusted"}
CALLERS = 16
MAGIKA = next(Path(magika.__file__).parent.rglob("*.onnx"))
# As good as no bound: what is proved must not depend on how busy the machine is.
PLENTY = {"batching": {"proof_seconds_max": 60.0}}
ROWS = [value("x", "FP32", ["N", 4])], [value("y", "FP32", ["N", 4])]

Make = Callable[[Path], Path]
MAKERS: dict[str, Make] = {}


def maker(make: Make) -> Make:
    """Note a function that writes the model of its name into a folder."""
    MAKERS[make.__name__] = make
    return make


def written(folder, name, nodes, ends=ROWS, **constants):
    return models.write(folder / f"{name}.onnx", nodes, *ends, constants)


@maker
def training_norm(folder):
    """Normalised over the rows, as in training."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0]),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "centred"], ["squares"]),
        helper.make_node("ReduceMean", ["squares"], ["variance"], axes=[0]),
        helper.make_node("Add", ["variance", "small"], ["positive"]),
        helper.make_node("Sqrt", ["positive"], ["deviation"]),
        helper.make_node("Div", ["centred", "deviation"], ["y"]),
    ]
    return written(folder, "training_norm", nodes, small=np.float32(1e-5))


@maker
def batch_norm(folder):
    """BatchNormalization that was exported while it was still in training."""
    node = helper.make_node("BatchNormalization", ["x", "one", "nil", "nil", "one"], ["y", "m", "v"], training_mode=1)
    return written(folder, "batch_norm", [node], one=np.ones(4, np.float32), nil=np.zeros(4, np.float32))


@maker
def softmax_rows(folder):
    return written(folder, "softmax_rows", [helper.make_node("Softmax", ["x"], ["y"], axis=0)])


@maker
def sum_rows(folder):
    return written(folder, "sum_rows", [helper.make_node("CumSum", ["x", "axis"], ["y"])], axis=np.array(0, np.int64))


@maker
def large_rows(folder):
    """What is above 100 in any row is added to all."""
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], axes=[0]),
        helper.make_node("Sub", ["most", "bound"], ["over"]),
        helper.make_node("Relu", ["over"], ["excess"]),
        helper.make_node("Add", ["x", "excess"], ["y"]),
    ]
    return written(folder, "large_rows", nodes, bound=np.float32(100))


@maker
def repeated_rows(folder):
    """How many rows of the batch are like this one."""
    nodes = [
        helper.make_node("Unsqueeze", ["x", "first"], ["left"]),
        helper.make_node("Unsqueeze", ["x", "second"], ["right"]),
        helper.make_node("Equal", ["left", "right"], ["equal"]),
        helper.make_node("Cast", ["equal"], ["one"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["one"], ["whole"], axes=[2], keepdims=0),
        helper.make_node("ReduceSum", ["whole", "second"], ["y"]),
    ]
    ends = ROWS[0], [value("y", "FP32", ["N", 1])]
    axes = {"first": np.array([0], np.int64), "second": np.array([1], np.int64)}
    return written(folder, "repeated_rows", nodes, ends, **axes)


@maker
def unique_rows(folder):
    """Each kind of row once: how many come back depends on the batch."""
    node = helper.make_node("Unique", ["x"], ["y"], axis=0)
    return written(folder, "unique_rows", [node], (ROWS[0], [value("y", "FP32", ["M", 4])]))


@maker
def baked(folder):
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    ends = ROWS[0], [value("y", "FP32", ["M", 2, 2])]
    return written(folder, "baked", [node], ends, shape=np.array([8, 2, 2], np.int64))


@maker
def second_axis(folder):
    """Time first, rows second."""
    ends = [value("x", "FP32", ["T", "N"])], [value("y", "FP32", ["T", "N"])]
    node = helper.make_node("CumSum", ["x", "axis"], ["y"])
    return written(folder, "second_axis", [node], ends, axis=np.array(0, np.int64))


@maker
def embedding(folder):
    """The mean of the vectors of words, of a table of 100, where the mask is one."""
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
        helper.make_node("Mul", ["vectors", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "places"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "places"], ["count"]),
        helper.make_node("Div", ["total", "count"], ["y"]),
    ]
    ends = (
        [value("input_ids", "INT64", ["N", "T"]), value("attention_mask", "INT64", ["N", "T"])],
        [value("y", "FP32", ["N", 8])],
    )
    table = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    axes = {"last": np.array([2], np.int64), "places": np.array([1], np.int64)}
    return written(folder, "embedding", nodes, ends, table=table, **axes)


@maker
def layers(folder):
    """Matrix products and a softmax over each row's scores."""
    random = np.random.default_rng(0)
    weights = {name: random.standard_normal((128, 128)).astype(np.float32) for name in ("one", "two")}
    nodes = [
        helper.make_node("MatMul", ["x", "one"], ["sums"]),
        helper.make_node("Tanh", ["sums"], ["bent"]),
        helper.make_node("MatMul", ["bent", "two"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["y"], axis=-1),
    ]
    ends = [value("x", "FP32", ["N", 128])], [value("y", "FP32", ["N", 128])]
    return written(folder, "layers", nodes, ends, **weights)


@maker
def words(folder):
    """Strings, split off nothing: only compared and passed on."""
    return models.identity(folder, "words", "BYTES", ["N", 2])


@maker
def other_symbols(folder):
    """First axes that mean the same and are called differently."""
    ends = (
        [value("a", "FP32", ["batch", 2]), value("b", "FP32", ["B", 2])],
        [value("y", "FP32", ["unknown", 4])],
    )
    return written(folder, "other_symbols", [helper.make_node("Concat", ["a", "b"], ["y"], axis=1)], ends)


@maker
def shifted(folder):
    """Rows of a table, four further: nothing that is made up is inside it."""
    nodes = [helper.make_node("Add", ["i", "four"], ["place"]), helper.make_node("Gather", ["table", "place"], ["y"])]
    ends = [value("i", "INT64", ["N"])], [value("y", "FP32", ["N", 3])]
    table = np.arange(12, dtype=np.float32).reshape(4, 3)
    return written(folder, "shifted", nodes, ends, four=np.array([4], np.int64), table=table)


REFUTED = {
    "training_norm": "rows influence each other",
    "softmax_rows": "Softmax over axis 0",
    "sum_rows": "CumSum over axis 0",
    "large_rows": "rows influence each other",
    "repeated_rows": "rows influence each other",
    "unique_rows": "Unique over axis 0",
    "baked": "Reshape to a first axis of 8",
    "second_axis": "rows lie along axis 1 of input 'x'",
}
PROVED = ["embedding", "layers", "words", "other_symbols"]
OURS_BATCHED = ["ident", "tiny", "nonfinite", "pick", "rank8", "two", "optional", "external"]
OURS_ALONE = ["grow", "spin", "scalar", "fixed"]


def check(*arguments, settings=PLENTY):
    """What `servekit check --json` says of models, by name."""
    folder = Path(os.path.commonpath([str(argument) for argument in arguments]))
    folder = folder if folder.is_dir() else folder.parent
    config = folder / "servekit.yaml"
    config.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "servekit", "check", "--json", "--config", str(config), *map(str, arguments)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert ended.stdout, ended.stderr
    return {model["name"]: model for model in json.loads(ended.stdout)["models"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every model of this file."""
    folder = tmp_path_factory.mktemp("batchability")
    for make in MAKERS.values():
        make(folder)
    return folder


@pytest.fixture(scope="module")
def checked(folder):
    return check(folder)


def batching(model):
    return dict(map(tuple, model["decisions"]))["batching"]


@pytest.mark.parametrize("name", REFUTED)
def test_rows_that_are_not_independent_run_alone_and_it_is_said_why(checked, name):
    model = checked[name]
    assert model["proof"]["verdict"] == "not batchable"
    assert REFUTED[name] in model["proof"]["why"]
    assert batching(model) == f"one request a run: {model['proof']['why']}"
    assert model["batch_rows_max"] == 1


def test_a_model_that_changes_from_run_to_run_is_unproved(checked):
    model = checked["batch_norm"]
    assert (model["proof"]["verdict"], model["batch_rows_max"]) == ("unproved", 1)
    assert "BatchNormalization in training mode" in model["proof"]["why"]


@pytest.mark.parametrize("name", PROVED)
def test_rows_that_are_independent_share_runs(checked, name):
    proof = checked[name]["proof"]
    assert proof["verdict"] in BATCHED
    assert (proof["rows_proved"], checked[name]["batch_rows_max"]) == (64, 64)
    assert proof["tolerance"] is None or proof["difference"] <= proof["tolerance"]
    assert batching(checked[name]) == f"rows: {proof['why']}"


def test_the_models_of_other_tests_batch_as_they_always_have(tmp_path):
    for name in [*OURS_BATCHED, *OURS_ALONE]:
        getattr(models, name)(tmp_path)
    for datatype in models.KINDS:
        models.same(tmp_path, datatype)
    found = {name: model["proof"]["verdict"] for name, model in check(tmp_path).items()}
    alone = {name for name, verdict in found.items() if verdict not in BATCHED}
    assert alone == set(OURS_ALONE)
    assert set(found) - alone == {*OURS_BATCHED, *(f"same_{datatype}" for datatype in models.KINDS)}


def test_what_exporters_write_is_batched(tmp_path):
    for name in trained.MODELS:
        trained.write(tmp_path, name)
    found = check(tmp_path)
    assert {name: model["batch_rows_max"] for name, model in found.items()} == dict.fromkeys(trained.MODELS, 64)


def test_the_shipped_model_of_files_is_batched(tmp_path):
    copy = tmp_path / "files.onnx"
    copy.write_bytes(MAGIKA.read_bytes())
    (model,) = check(copy).values()
    assert model["proof"]["verdict"] == "within tolerance"
    assert model["batch_rows_max"] == 64


def test_real_rows_prove_what_made_up_ones_cannot(checked, tmp_path):
    assert checked["shifted"]["proof"]["verdict"] == "unproved"
    path, rows = shifted(tmp_path), tmp_path / "rows.npz"
    np.savez(rows, i=np.array([-4, -1], np.int64))
    (model,) = check(path, settings=PLENTY | {"models": [{"name": "shifted", "samples": str(rows)}]}).values()
    assert (model["proof"]["verdict"], model["batch_rows_max"]) == ("exact", 64)


def test_the_operator_may_be_trusted_instead(tmp_path):
    (model,) = check(sum_rows(tmp_path), settings={"batching": {"trust_batching": True}}).values()
    assert (model["proof"]["verdict"], model["batch_rows_max"]) == ("trusted", 64)


def test_without_time_nothing_is_proved(tmp_path):
    (model,) = check(models.tiny(tmp_path), settings={"batching": {"proof_seconds_max": 1e-9}}).values()
    assert (model["proof"]["verdict"], model["batch_rows_max"]) == ("unproved", 1)
    assert "proof_seconds_max" in model["proof"]["why"]


@dataclass(frozen=True)
class Question:
    """One row of one model, and what the model says to it alone."""

    model: str
    inputs: dict[str, np.ndarray]
    expected: np.ndarray


def questions(folder, name):
    """As many as there are callers; some rows twice, some large."""
    random = np.random.default_rng(1)
    session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
    for number in range(CALLERS):
        scale = 1000.0 if number % 4 == 3 else 1.0
        row = np.ones((1, 4), np.float32) if number % 4 == 0 else random.standard_normal((1, 4)).astype(np.float32)
        if name == "embedding":
            ids = random.integers(0, 100, (1, 6))
            inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        else:
            inputs = {"x": row * np.float32(scale)}
        yield Question(name, inputs, session.run(None, inputs)[0])


@pytest.mark.parametrize("placement", ["inline", "pool"])
def test_callers_at_the_same_time_get_what_their_row_gets_alone(folder, tmp_path, placement):
    names = ["training_norm", "softmax_rows", "sum_rows", "large_rows", "repeated_rows", "second_axis", "embedding"]
    config = tmp_path / "servekit.yaml"
    config.write_text(yaml.safe_dump({"models": [{"name": name, "execution": placement} for name in names]}))
    asked = [question for name in names for question in questions(folder, name)]
    with (
        serving(folder, arguments=["--config", str(config)]) as server,
        ThreadPoolExecutor(CALLERS) as pool,
    ):
        answers = pool.map(lambda it: infer_once("binary", server, Asked(it.model, it.inputs))["y"], asked)
        for question, answer in zip(asked, answers, strict=True):
            np.testing.assert_allclose(answer, question.expected, rtol=1e-4, atol=1e-6, err_msg=question.model)
