"""The REST half of the Open Inference Protocol, by httpx and by hand."""

import base64
import itertools
import json
import tomllib
from pathlib import Path
from urllib.parse import quote

import httpx
import numpy as np
import onnx
import pytest

from tests.serve import models
from tests.serve.alive import G_VALUES, G
from tests.serve.process import serving
from tests.serve.tensors import DTYPES, FLOATS, SAMPLES, datatype_of, from_json, same_bits, texts, to_json
from tests.serve.transports import path_of

MANIFEST = Path(__file__).parents[2] / "pyproject.toml"
JSON = {"Content-Type": "application/json"}
# What later versions may add; a name in this list is a promise.
NOT_SERVED = {"classification", "sequence", "statistics", "trace", "logging", "cuda_shared_memory"}
PLAIN_PATHS = ["/", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v2/models/ident"]
PLAIN_PATHS += ["/v2/models/ident/ready", "/v2/models/ident/versions/1", "/v2/models/ident/versions/1/ready"]
PLAIN_PATHS += ["/healthz", "/livez", "/readyz"]
SHAPES = {
    "ident": ([("x", "FP32", [-1, -1])], [("y", "FP32", [-1, -1])]),
    "tiny": ([("x", "FP32", [-1, 4])], [("y", "FP32", [-1, 3])]),
    "scalar": ([("x", "FP32", [])], [("y", "FP32", [])]),
    "rank8": ([("x", "INT32", [-1, 1, 2, 1, 2, 1, 2, 1])], [("y", "INT32", [-1, 1, 2, 1, 2, 1, 2, 1])]),
    "fixed": ([("x", "FP32", [2, 3])], [("y", "FP32", [2, 3])]),
    "external": ([("x", "FP32", [-1, 256])], [("y", "FP32", [-1, 256])]),
    "optional": ([("x", "FP32", [-1, 2]), ("scale", "FP32", [2])], [("y", "FP32", [-1, 2])]),
    "two": (
        [("a", "FP32", [-1, 2]), ("b", "FP32", [-1, 2])],
        [("total", "FP32", [-1, 2]), ("product", "FP32", [-1, 2])],
    ),
    "pick": ([("i", "INT64", [-1])], [("y", "FP32", [-1, 3])]),
    **{f"same_{name}": ([("x", name, [-1, 3])], [("y", name, [-1, 3])]) for name in DTYPES},
}


def versioned(folder):
    """Two versions of one name: the second doubles what the first leaves alone."""
    models.identity(folder / "steps" / "1", "model", "FP32", ["N"])
    node = onnx.helper.make_node("Add", ["x", "x"], ["y"])
    ends = [[models.value(name, "FP32", ["N"])] for name in ("x", "y")]
    models.write(folder / "steps" / "2" / "model.onnx", [node], *ends)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    makers = [models.ident, models.tiny, models.scalar, models.rank8, models.fixed, models.external, models.optional]
    for make in [*makers, models.two, models.pick, models.nonfinite, versioned]:
        make(folder)
    for name in DTYPES:
        models.same(folder, name)
    with serving(folder) as process:
        yield process


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=f"http://{server.http}", timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture
def infer(client):
    def post(model, **request):
        answer = client.post(path_of(model), json=request)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"
        return answer.json()

    return post


def tensor(name, array, data=None, **more):
    data = to_json(array) if data is None else data
    return {"name": name, "shape": list(array.shape), "datatype": datatype_of(array), "data": data, **more}


def outputs(answer):
    return {output["name"]: from_json(output) for output in answer["outputs"]}


def refused(answer, status, label):
    assert (answer.status_code, answer.headers["servekit-refusal"]) == (status, label)
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["error"]
    return body["error"]


def test_the_server_tells_name_version_and_what_it_implements(client):
    about = client.get("/v2").json()
    assert about["name"] == "servekit"
    assert about["version"] == tomllib.loads(MANIFEST.read_text())["project"]["version"]
    assert "binary_tensor_data" in about["extensions"]
    assert NOT_SERVED.isdisjoint(about["extensions"])


def test_all_models_are_listed(client):
    assert sorted(client.get("/v2/models").json()["models"]) == sorted([*SHAPES, "nonfinite", "steps"])


@pytest.mark.parametrize("model", SHAPES)
def test_a_model_tells_its_contract(client, model):
    about = client.get(f"/v2/models/{model}").json()
    inputs, outputs = (
        [dict(zip(("name", "datatype", "shape"), end, strict=True)) for end in ends] for ends in SHAPES[model]
    )
    assert about == {
        "name": model,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": inputs,
        "outputs": outputs,
    }
    assert client.get(f"/v2/models/{model}/versions/1").json() == about


def test_health_is_told_in_the_status_and_in_the_body(client):
    for path, body in (
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/ident/ready", {"name": "ident", "ready": True}),
        ("/v2/models/ident/versions/1/ready", {"name": "ident", "ready": True}),
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.json()) == (200, body), path


@pytest.mark.parametrize("path", ["/", "/healthz", "/livez", "/readyz"])
def test_probes_find_what_they_expect(client, path):
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", PLAIN_PATHS)
def test_head_is_get_without_the_body(client, path):
    get, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))
    assert head.headers["content-type"] == get.headers["content-type"]


def test_head_of_what_does_not_exist_has_no_body_either(client):
    answer = client.head("/v2/models/nope")
    assert (answer.status_code, answer.content) == (404, b"")
    assert client.get("/v2/health/live").status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/v2", "/v2/health/live", "/v2/models", "/v2/models/ident", "/v2/models/ident/ready"])
def test_a_wrong_verb_is_told_the_right_ones(client, method, path):
    answer = client.request(method, path)
    text = refused(answer, 405, "method")
    assert "Method Not Allowed" in text
    assert sorted(verb.strip() for verb in answer.headers["allow"].split(",")) == ["GET", "HEAD"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_inference_is_posted(client, method):
    answer = client.request(method, path_of("ident"))
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "path", ["/v3", "/v2/", "/v2/model", "/v2/models/", "/v2/models/ident/", "/v1/models", "/metrics"]
)
def test_what_is_not_routed_is_not_found(client, method, path):
    assert "Not Found" in refused(client.request(method, path), 404, "route")


@pytest.mark.parametrize(
    ("path", "status", "label"),
    [
        ("/v2//models/ident", 404, "route"),
        ("/v2/./models/ident", 404, "route"),
        ("/v2\\models\\ident", 404, "route"),
        ("/v2/models/%2e%2e", 404, "model"),
        ("/v2/models/%252e", 404, "model"),
        ("/v2/models/ident;x", 404, "model"),
        ("/v2/models/%c0%ae", 400, "field"),
    ],
)
def test_a_path_is_decoded_once_and_matched_as_it_is(server, path, status, label):
    found, headers, _ = server.request("GET", path)
    assert (found, headers["servekit-refusal"]) == (status, label)


def test_a_name_may_be_percent_encoded_and_a_query_is_ignored(client):
    assert client.get("/v2/models/%69dent?x=/y").json()["name"] == "ident"


@pytest.mark.parametrize(
    "path", ["/v2/repository/index", "/v2/repository/models/ident/load", "/v2/logging", "/v2/trace/setting"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_data_ports_cannot_manage(client, method, path):
    refused(client.request(method, path), 404, "management")


def test_the_highest_version_is_served(infer, client):
    request = {"inputs": [tensor("x", np.array([1.5], np.float32))]}
    answer = infer("steps", **request)
    assert (answer["model_version"], answer["outputs"][0]["data"]) == ("2", [3.0])
    named = client.post("/v2/models/steps/versions/2/infer", json=request).json()
    assert named == answer
    assert client.get("/v2/models/steps").json()["versions"] == ["2"]


@pytest.mark.parametrize("suffix", ["", "/ready", "/infer"])
def test_a_version_that_is_not_served_is_not_found(client, suffix):
    method, body = ("POST", G) if suffix == "/infer" else ("GET", None)
    answer = client.request(method, f"/v2/models/steps/versions/1{suffix}", content=body, headers=JSON)
    assert "unknown model: 'steps' version 1 is not found" in refused(answer, 404, "model")


@pytest.mark.parametrize("suffix", ["", "/ready", "/infer"])
def test_an_unknown_model_is_not_found(client, suffix):
    method, body = ("POST", G) if suffix == "/infer" else ("GET", None)
    answer = client.request(method, f"/v2/models/nope{suffix}", content=body, headers=JSON)
    assert "unknown model: 'nope' is not found" in refused(answer, 404, "model")


@pytest.mark.parametrize("named", ["one", "-1", "1.0"])
def test_a_version_is_a_whole_number(client, named):
    refused(client.get(f"/v2/models/ident/versions/{named}"), 400, "field")


@pytest.mark.parametrize("datatype", DTYPES)
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_every_datatype_comes_back_bit_for_bit(infer, datatype, nested):
    array = SAMPLES[datatype]
    flat = to_json(array)
    answer = infer(f"same_{datatype}", inputs=[tensor("x", array, [flat[:3], flat[3:]] if nested else flat)])
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("y", datatype, [2, 3])
    assert len(output["data"]) == array.size, "data is flat"
    assert same_bits(from_json(output), array)


@pytest.mark.parametrize("datatype", [name for name in DTYPES if "INT" in name])
def test_integers_are_exact_and_stay_integers(infer, datatype):
    (output,) = infer(f"same_{datatype}", inputs=[tensor("x", SAMPLES[datatype])])["outputs"]
    assert output["data"] == SAMPLES[datatype].ravel().tolist()
    assert {type(value) for value in output["data"]} == {int}


@pytest.mark.parametrize("datatype", FLOATS)
def test_what_is_not_finite_travels_as_strings(infer, datatype):
    data = ["NaN", "Infinity", "-Infinity"]
    answer = infer(f"same_{datatype}", inputs=[tensor("x", np.zeros((1, 3), DTYPES[datatype]), data)])
    assert answer["outputs"][0]["data"] == data


def test_floats_are_printed_as_short_as_they_read_back(client):
    request = {"inputs": [tensor("x", np.array([[0.1, 1e-7, 16777216.0]], np.float32), [0.1, 1e-7, 16777216.0])]}
    text = client.post(path_of("same_FP32"), json=request).text
    data = text.partition('"data":[')[2].partition("]")[0].split(",")
    assert data[0] == "0.1"
    assert len(data[1]) <= len("0.0000001")
    assert [np.float32(number) for number in data] == [np.float32(0.1), np.float32(1e-7), np.float32(16777216)]


def test_bytes_that_are_not_utf8_travel_as_base64_and_say_so(infer):
    array = texts([b"\xff\x00", b"plain", b"\xc3"])
    coded = [base64.b64encode(element).decode() for element in array.ravel()]
    answer = infer("same_BYTES", inputs=[tensor("x", array, coded, parameters={"content_type": "base64"})])
    (output,) = answer["outputs"]
    assert output["parameters"]["content_type"] == "base64"
    assert output["data"] == coded


def test_an_answer_has_its_members_in_triton_s_order(infer):
    answer = infer("ident", id="7", inputs=[tensor("x", G_VALUES)])
    assert list(answer) == ["id", "model_name", "model_version", "outputs"]
    assert list(answer["outputs"][0]) == ["name", "datatype", "shape", "data"]
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", "ident", "1")


@pytest.mark.parametrize("name", ["7", "", "größe \U0001f600", 'quote " backslash \\ slash / newline \n', "x" * 1024])
def test_an_id_is_echoed(infer, name):
    assert infer("ident", id=name, inputs=[tensor("x", G_VALUES)])["id"] == name


def test_without_an_id_there_is_none(client):
    answer = client.post(path_of("ident"), content=G, headers=JSON).json()
    assert "id" not in answer
    assert answer["outputs"][0]["data"] == [1.5, -2.0, 3.25]


def test_an_id_stands_in_front_of_an_error(client):
    answer = client.post(path_of("ident"), json={"id": "7", "inputs": []})
    assert refused(answer, 400, "tensor_name").startswith("[request id: 7] ")


@pytest.mark.parametrize("wanted", [["total"], ["product"], ["product", "total"], []])
def test_the_outputs_that_are_asked_for_are_answered(infer, wanted):
    a, b = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)
    request = {"inputs": [tensor("b", b), tensor("a", a)]}
    if wanted:
        request["outputs"] = [{"name": name} for name in wanted]
    answer = infer("two", **request)
    expected = {"total": a + b, "product": a * b}
    found = outputs(answer)
    assert list(found) == (wanted or ["total", "product"])
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def test_what_nobody_knows_is_ignored(infer):
    strange = {"mood": "good", "depth": 3, "pi": 3.5, "yes": True, "sequence_id": 5}
    answer = infer(
        "ident",
        parameters=strange,
        inputs=[tensor("x", G_VALUES, parameters=strange, strange={"nested": [None, {}]})],
        outputs=[{"name": "y", "parameters": strange}],
        more=[1, {"deep": None}],
    )
    assert outputs(answer)["y"].tolist() == G_VALUES.tolist()


def test_the_members_of_an_input_come_in_any_order(client):
    members = list(tensor("x", G_VALUES).items())
    for order in itertools.permutations(members):
        answer = client.post(path_of("ident"), json={"outputs": [{"name": "y"}], "inputs": [dict(order)], "id": "p"})
        assert answer.status_code == 200, (order, answer.text)
        assert answer.json()["outputs"][0]["data"] == [1.5, -2.0, 3.25]


def test_space_between_tokens_means_nothing(client):
    body = json.dumps(json.loads(G), indent=3).replace(",", " \t\r\n,").encode()
    assert client.post(path_of("ident"), content=b"\n " + body + b"\r\n", headers=JSON).status_code == 200


def test_a_scalar_has_no_axes(infer):
    answer = infer("scalar", inputs=[tensor("x", np.array(2.5, np.float32))])
    assert (answer["outputs"][0]["shape"], answer["outputs"][0]["data"]) == ([], [5.0])


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_eight_axes_are_served(infer, nested):
    array = np.arange(24, dtype=np.int32).reshape(3, 1, 2, 1, 2, 1, 2, 1)
    answer = infer("rank8", inputs=[tensor("x", array, array.tolist() if nested else None)])
    assert same_bits(outputs(answer)["y"], array)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_an_empty_tensor_is_a_tensor(infer, shape, nested):
    array = np.zeros(shape, np.float32)
    answer = infer("ident", inputs=[tensor("x", array, array.tolist() if nested else None)])
    assert (answer["outputs"][0]["shape"], answer["outputs"][0]["data"]) == (list(shape), [])


def test_no_rows_of_strings_are_no_strings(infer):
    assert infer("same_BYTES", inputs=[tensor("x", np.empty((0, 3), np.object_))])["outputs"][0]["data"] == []


def test_an_input_with_a_default_may_be_left_out_or_given(infer):
    x, scale = np.array([[1, 2], [3, 4]], np.float32), np.array([2, -1], np.float32)
    assert outputs(infer("optional", inputs=[tensor("x", x)]))["y"].tolist() == [[1, 20], [3, 40]]
    given = infer("optional", inputs=[tensor("x", x), tensor("scale", scale)])
    assert outputs(given)["y"].tolist() == [[2, -2], [6, -4]]
    assert outputs(infer("optional", inputs=[tensor("x", x)]))["y"].tolist() == [[1, 20], [3, 40]]


def test_a_batch_that_is_baked_in_takes_exactly_that(infer, client):
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    assert outputs(infer("fixed", inputs=[tensor("x", x)]))["y"].tolist() == (-x).tolist()
    refused(client.post(path_of("fixed"), json={"inputs": [tensor("x", x[:1])]}), 400, "shape")


def test_weights_in_a_file_of_their_own_are_found(infer):
    x = np.linspace(-1, 1, 512, dtype=np.float32).reshape(2, 256)
    expected = x + np.arange(256, dtype=np.float32)
    assert same_bits(outputs(infer("external", inputs=[tensor("x", x)]))["y"], expected)


@pytest.mark.parametrize(
    "data", [[[1.5, -2.0], [3.25]], [[1.5], [-2.0], [3.25]], [[[1.5, -2.0, 3.25]]], [[1.5, -2.0, 3.25], []]]
)
def test_nesting_has_to_agree_with_the_shape(client, data):
    answer = client.post(path_of("ident"), json={"inputs": [tensor("x", G_VALUES, data)]})
    refused(answer, 400, "shape")


def test_a_quoted_name_comes_back_cut_to_what_one_may_see(client):
    name = "n" * 200
    text = refused(client.get(f"/v2/models/{quote(name)}"), 404, "model")
    assert "n" * 65 not in text
    assert "n" * 40 in text
