"""Models that other people made: a shipped one that knows the types of files, and what exporters write."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import magika
import numpy as np
import pytest

from tests.serve import models
from tests.serve.alive import alive, unharmed
from tests.serve.process import serving
from tests.serve.stubs import stub_module
from tests.serve.trained import COLUMNS, MODELS, texts_of, write
from tests.serve.transports import TRANSPORTS, Asked, infer_once

ROOT = Path(__file__).parents[2]
SHIPPED = next(Path(magika.__file__).parent.rglob("*.onnx"))
TYPES = SHIPPED.parent.name
FILES = 64
# Kinds of files that are in this repository, as many of each as there are until there are enough.
PATTERNS = ["*.md", "*.toml", "LICENSE", "Makefile", "protos/*", "configs/*", "servekit/demo/*.onnx"]
PATTERNS += ["servekit/management/templates/*", "servekit/**/*.py", "native/*/src/*.rs"]
CLIENTS = ["httpx", "triton-http", "triton-grpc", "grpc"]
# The package's own scores differ by this much between a file alone and the same file among 64.
SCORE_ERROR_MAX = 1e-3
PROBABILITY_ERROR_MAX = 1e-5


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return {name: write(folder, name) for name in MODELS}


@pytest.fixture(scope="module")
def server(tmp_path_factory, trained):
    folder = tmp_path_factory.mktemp("models")
    models.ident(folder)
    models.tiny(folder)
    with serving(SHIPPED.parent, folder, next(iter(trained.values())).path.parent) as process:
        yield process


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Copies of files of this repository, so that both sides read the same."""
    folder = tmp_path_factory.mktemp("files")
    found = [path for pattern in PATTERNS for path in sorted(ROOT.glob(pattern)) if path.is_file()][:FILES]
    assert len(found) == FILES
    return [Path(shutil.copy(path, folder / f"{number:02}-{path.name}")) for number, path in enumerate(found)]


@pytest.fixture(scope="module")
def expected(files):
    """What the package answers by itself."""
    results = magika.Magika().identify_paths(files)
    return {path.name: verdict(result) for path, result in zip(files, results, strict=True)}


def verdict(result):
    about = result.prediction
    return about.dl.label, about.output.label, about.overwrite_reason, about.score


class RemoteSession:
    """In place of the package's own session: the same question, asked of a server."""

    def __init__(self, infer):
        self.infer = infer
        self.rows = 0

    def run(self, outputs, inputs):
        arrays = {name: np.array(rows, np.int32) for name, rows in inputs.items()}
        self.rows += sum(len(array) for array in arrays.values())
        answer = self.infer(Asked(TYPES, arrays, outputs=outputs))
        return [answer[name] for name in outputs]


@pytest.fixture
def remote():
    """The package, with its model served elsewhere."""

    def make(infer):
        package = magika.Magika()
        package._onnx_session = RemoteSession(infer)
        return package

    return make


def agrees(results, files, expected):
    for path, result in zip(files, results, strict=True):
        *found, score = verdict(result)
        *labels, package_score = expected[path.name]
        assert found == labels, path.name
        assert score == pytest.approx(package_score, abs=SCORE_ERROR_MAX), path.name


def test_the_shipped_model_tells_its_contract(server):
    about = json.loads(server.request("GET", f"/v2/models/{TYPES}")[2])
    (bytes_,) = about["inputs"]
    assert (bytes_["name"], bytes_["datatype"], bytes_["shape"][0]) == ("bytes", "INT32", -1)
    assert [output["name"] for output in about["outputs"]] == ["target_label"]


def test_the_files_are_of_several_kinds(expected):
    assert len({output for _, output, _, _ in expected.values()}) >= 6


@pytest.mark.parametrize("client", CLIENTS)
def test_files_asked_one_by_one_get_the_package_s_answers(server, remote, files, expected, client):
    with TRANSPORTS[client](server) as infer:
        package = remote(infer)
        agrees([package.identify_path(path) for path in files], files, expected)
        assert package._onnx_session.rows > FILES // 2, "the model has to be asked for most of them"
    alive(server)


@pytest.mark.parametrize("client", CLIENTS)
def test_64_files_in_one_request_get_the_package_s_answers(server, remote, files, expected, client):
    with TRANSPORTS[client](server) as infer:
        agrees(remote(infer).identify_paths(files), files, expected)
    alive(server)


@pytest.mark.parametrize("client", CLIENTS)
def test_64_files_at_the_same_time_get_the_package_s_answers(server, remote, files, expected, client):
    package = remote(lambda asked: infer_once(client, server, asked))
    with ThreadPoolExecutor(FILES) as pool:
        agrees(list(pool.map(package.identify_path, files)), files, expected)
    alive(server)


# What exporters write


@pytest.mark.parametrize("client", ["json", "binary", *CLIENTS])
@pytest.mark.parametrize("name", MODELS)
def test_an_exported_model_answers_as_its_estimator(server, trained, name, client):
    model = trained[name]
    with unharmed(server), TRANSPORTS[client](server) as infer:
        for rows in (model.rows[:1], model.rows):
            first, *more = infer(Asked(name, {"X": rows})).values()
            predicted = model.estimator.predict(rows)
            if not model.is_classifier:
                np.testing.assert_allclose(first.ravel(), predicted, rtol=1e-5)
                continue
            assert [as_text(label) for label in first.ravel()] == [str(label) for label in predicted]
            (probabilities,) = more
            assert probabilities.dtype == np.float32
            expected = model.estimator.predict_proba(rows)
            assert probabilities.shape == expected.shape
            np.testing.assert_allclose(probabilities, expected, rtol=0, atol=PROBABILITY_ERROR_MAX)


def as_text(label):
    return label.decode() if isinstance(label, bytes) else str(label)


ZIPPED = [name for name in MODELS if name.startswith(("logistic", "forest_texts")) or name == "lightgbm"]


@pytest.mark.parametrize("name", ZIPPED)
def test_maps_become_a_matrix_whose_columns_are_named(server, trained, name):
    model = trained[name]
    about = json.loads(server.request("GET", f"/v2/models/{name}")[2])
    assert about["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, COLUMNS]}]
    matrix = about["outputs"][1]
    assert (matrix["datatype"], matrix["shape"]) == ("FP32", [-1, len(model.labels)])
    assert texts_of(about["properties"]["labels"]) == model.labels
    with grpc.insecure_channel(server.grpc) as channel:
        stub = stub_module("open_inference_pb2_grpc").GRPCInferenceServiceStub(channel)
        request = stub_module("open_inference_pb2").ModelMetadataRequest(name=name)
        assert texts_of(stub.ModelMetadata(request, timeout=30).properties["labels"]) == model.labels


@pytest.mark.parametrize("name", ZIPPED)
def test_an_answer_names_its_columns_too(server, trained, name):
    model = trained[name]
    inputs = [{"name": "X", "datatype": "FP32", "shape": [1, COLUMNS], "data": model.rows[0].tolist()}]
    _, answer = server.infer(name, {"inputs": inputs})
    assert texts_of(answer["outputs"][1]["parameters"]["labels"]) == model.labels
    with grpc.insecure_channel(server.grpc) as channel:
        stub = stub_module("open_inference_pb2_grpc").GRPCInferenceServiceStub(channel)
        request = stub_module("open_inference_pb2").ModelInferRequest(model_name=name)
        request.inputs.add(name="X", datatype="FP32", shape=[1, COLUMNS]).contents.fp32_contents.extend(model.rows[0])
        output = stub.ModelInfer(request, timeout=30).outputs[1]
    assert texts_of(output.parameters["labels"].string_param) == model.labels


def test_many_callers_of_a_zipped_model_get_their_own_rows(server, trained):
    model = trained["logistic_texts"]

    def ask(row):
        return infer_once("binary", server, Asked("logistic_texts", {"X": row.reshape(1, -1)}))

    with unharmed(server), ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, model.rows))
    found = np.vstack([answer["output_probability"] for answer in answers])
    np.testing.assert_allclose(found, model.estimator.predict_proba(model.rows), rtol=0, atol=PROBABILITY_ERROR_MAX)
