"""Pipelines through every protocol: the recipes with real inputs, against what Python works out."""

import base64
import io
import json
import select
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from servekit.pipelines.reference import Refused
from tests.serve import pipelines
from tests.serve.alive import waited
from tests.serve.held import Interpreter
from tests.serve.pipelines import column
from tests.serve.process import serving
from tests.serve.transports import TRANSPORTS, Asked, RefusedError, infer_once

PROTOCOLS = ["json", "binary", "httpx-http2", "grpc", "triton-http", "triton-grpc"]
CHINA, FLOWER = ((pipelines.IMAGES / name).read_bytes() for name in ("china.jpg", "flower.jpg"))
TEXTS = ["the cat sat on the mat.", "Unhappy dogs?", "", "it was a café, and the dog ran " * 20]
# Pictures are decoded and resized by other libraries here than there: levels of 255 differ by one or two.
LEVELS = 0.02
# A scrape takes a hundredth of this where Python runs.
HELD_SECONDS = 0.5


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pipelines")
    for make in (pipelines.classifier, pipelines.encoder, pipelines.table, pipelines.detector, pipelines.finite):
        make(folder)
    pipelines.chain(folder)
    pipelines.coded(folder)
    broken = pipelines.finite(folder / "more")
    (broken / "model.yaml").write_text("after: [{use: scores.softmx}]")
    broken.rename(folder / "broken")
    return folder


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory):
    return Interpreter(tmp_path_factory.mktemp("held"))


@pytest.fixture(scope="module")
def server(root, interpreter):
    arguments = ["--allow-code", "--server-timing", "always"]
    with serving(root, arguments=arguments, environment=interpreter.environment) as process:
        yield process


@pytest.fixture(scope="module")
def png(tmp_path_factory):
    """A part of a photograph, kept without loss."""
    path = tmp_path_factory.mktemp("images") / "part.png"
    with Image.open(pipelines.IMAGES / "flower.jpg") as image:
        image.crop((40, 30, 360, 300)).save(path)
    return path.read_bytes()


def json_answer(server, model, **inputs):
    """JSON as people write it: pictures in base64, texts as they are."""
    tensors = []
    for name, (datatype, values) in inputs.items():
        array = np.asarray(values)
        tensors.append({"name": name, "datatype": datatype, "shape": array.shape, "data": array.ravel().tolist()})
    status, answer = server.infer(model, {"inputs": tensors})
    if status != 200:
        raise RefusedError(status, "", answer["error"])
    return {output["name"]: np.reshape(output["data"], output["shape"]) for output in answer["outputs"]}


def same(found, rows, **tolerance):
    """Whether each row was answered as it has to be."""
    assert not [row for row in rows if isinstance(row, Refused)]
    assert set(found) == set(rows[0])
    for name in found:
        expected = np.stack([row[name] for row in rows])
        np.testing.assert_allclose(found[name], expected, **tolerance, err_msg=name)


# What is served ------------------------------------------------------------------------------------------------------


def test_metadata_shows_the_pipelines_contract_and_the_raw_name_the_models_own(server):
    shown = {}
    for model in ("photos", "photos.raw", "texts"):
        described = json.loads(server.request("GET", f"/v2/models/{model}")[2])
        shown[model] = [
            [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in described[way]]
            for way in ("inputs", "outputs")
        ]
    assert shown == {
        "photos": [[("image", "BYTES", [-1])], [("probabilities", "FP32", [-1, 5]), ("classes", "INT64", [-1, 5])]],
        "photos.raw": [[("pixels", "FP32", [-1, 3, 224, 224])], [("logits", "FP32", [-1, 10])]],
        "texts": [[("text", "BYTES", [-1])], [("embedding", "FP32", [-1, 384])]],
    }


def test_a_broken_pipeline_fails_its_model_alone(server):
    assert sorted(server.ready["models"]) == [
        "boxes",
        "chain",
        "coded",
        "finite",
        "finite.raw",
        "photos",
        "photos.raw",
        "texts",
        "wines",
    ]
    told = server.event("model_failed")
    assert (told["model"], told["label"]) == ("broken", "model_file")
    assert "did you mean 'scores.softmax'?" in told["reason"]
    status, headers, _ = server.request("POST", "/v2/models/broken/infer", b"{}")
    assert (status, headers["servekit-refusal"]) == (503, "model_failed")


# Recipes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS[1:])
def test_images_are_classified(server, root, png, protocol):
    images = [CHINA, png, FLOWER]
    found = infer_once(protocol, server, Asked("photos", {"image": column(images)}))
    same(found, pipelines.expected(root / "photos", [{"image": image} for image in images]), atol=LEVELS)


def test_images_are_classified_from_base64(server, root, png):
    images = [FLOWER, png]
    texts = [base64.b64encode(image).decode() for image in images]
    found = json_answer(server, "photos", image=("BYTES", texts))
    same(found, pipelines.expected(root / "photos", [{"image": image} for image in images]), atol=LEVELS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_texts_become_vectors(server, root, protocol):
    with TRANSPORTS[protocol](server) as infer:
        found = [infer(Asked("texts", {"text": column([text])}))["embedding"][0] for text in TEXTS]
    rows = pipelines.expected(root / "texts", [{"text": text} for text in TEXTS])
    same({"embedding": np.stack(found)}, rows, atol=1e-5)


def test_texts_of_one_request_are_answered_together(server, root):
    found = infer_once("grpc", server, Asked("texts", {"text": column(TEXTS)}))
    same(found, pipelines.expected(root / "texts", [{"text": text} for text in TEXTS]), atol=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_rows_with_categories_are_classified(server, root, protocol):
    numbers, cities, plans, kinds = pipelines.wines()
    inputs = {"numbers": numbers.copy(), "city": column(cities), "plan": column(plans)}
    inputs["numbers"][5, 1] = np.nan
    if protocol == "json":
        inputs["numbers"] = inputs["numbers"][6:]
        inputs |= {name: inputs[name][6:] for name in ("city", "plan")}
    found = infer_once(protocol, server, Asked("wines", inputs))
    rows = [
        {"numbers": one, "city": city.decode(), "plan": plan.decode()}
        for one, city, plan in zip(*inputs.values(), strict=True)
    ]
    same(found, pipelines.expected(root / "wines", rows), atol=1e-5)
    assert (found["class"] == kinds[-len(rows) :]).mean() > 0.9


@pytest.fixture(scope="module")
def objects(root):
    """A picture that only has to get its bars, as PNG: every library sees the same pixels. What is in it."""
    stream = io.BytesIO()
    with Image.open(pipelines.IMAGES / "china.jpg") as image:
        assert image.width == 640
        image.save(stream, "png")
    (row,) = pipelines.expected(root / "boxes", [{"image": stream.getvalue()}])
    return stream.getvalue(), row


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_are_found(server, objects, protocol):
    picture, row = objects
    assert row["count"][0] > 3
    sent = base64.b64encode(picture) if protocol == "json" else picture
    found = infer_once(protocol, server, Asked("boxes", {"image": column([sent])}))
    same(found, [row], rtol=1e-3, atol=1e-3)


def test_objects_are_found_in_pictures_of_any_size(server):
    found = infer_once("triton-http", server, Asked("boxes", {"image": column([FLOWER, CHINA])}))
    assert found["boxes"].shape == (2, 100, 4)
    assert found["count"].min() > 0


def test_a_pipeline_runs_another_model_by_its_file(server, root):
    pixels = np.random.default_rng(4).standard_normal((2, 3, 224, 224)).astype(np.float32)
    found = infer_once("binary", server, Asked("chain", {"pixels": pixels}))
    raw = infer_once("grpc", server, Asked("photos.raw", {"pixels": pixels}))
    np.testing.assert_array_equal(found["y"], -raw["logits"])
    session = onnxruntime.InferenceSession(root / "photos" / "model.onnx")
    np.testing.assert_allclose(raw["logits"], session.run(None, {"pixels": pixels})[0], rtol=1e-4, atol=1e-4)


def test_a_pipeline_is_written_in_python(server):
    found = infer_once("grpc", server, Asked("coded", {"value": np.array([[0, 0, np.log(2) / 2]], np.float32)}))
    np.testing.assert_allclose(found["probabilities"], [[0.25, 0.25, 0.5]], rtol=1e-5)
    with pytest.raises(RefusedError, match="the value is not a finite number"):
        infer_once("binary", server, asked("coded", {"value": np.full(3, np.inf, np.float32)}))


# Bad input -----------------------------------------------------------------------------------------------------------


def huge_png():
    """A header that promises 100,000 × 100,000 pixels, and little behind it."""
    small = bytearray(png_of(1, 1))
    small[16:24] = (100_000).to_bytes(4) * 2
    return bytes(small)


def png_of(width, height):
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "png")
    return stream.getvalue()


BAD = {
    "no bytes": ("photos", {"image": b""}),
    "a truncated JPEG": ("photos", {"image": CHINA[: len(CHINA) // 3]}),
    "a huge PNG": ("photos", {"image": huge_png()}),
    "no image": ("photos", {"image": b"<svg></svg>"}),
    "invalid UTF-8": ("texts", {"text": b"the \xff cat"}),
    "a text too long": ("texts", {"text": b"a " * 2**19 + b"a"}),
    "an unknown category": ("wines", {"numbers": np.ones(3, np.float32), "city": b"lima", "plan": b"none"}),
    "a number that is none": ("finite", {"value": np.array([1, np.nan, 2], np.float32)}),
}
GOOD = {
    "photos": {"image": FLOWER},
    "texts": {"text": b"the cat"},
    "wines": {"numbers": np.ones(3, np.float32), "city": b"lima", "plan": b"team"},
    "finite": {"value": np.array([1, 2, 3], np.float32)},
}


def asked(model, row):
    inputs = {name: column([value]) if isinstance(value, bytes) else value[None] for name, value in row.items()}
    return Asked(model, inputs)


@pytest.mark.parametrize("protocol", ["binary", "grpc"])
@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_refused_alone(server, protocol, bad):
    model, row = BAD[bad]
    good = asked(model, GOOD[model])
    with ThreadPoolExecutor(5) as callers:
        neighbours = [callers.submit(infer_once, protocol, server, good) for _ in range(4)]
        with pytest.raises(RefusedError) as caught:
            infer_once(protocol, server, asked(model, row))
        answers = [neighbour.result() for neighbour in neighbours]
    assert caught.value.status in (400, "INVALID_ARGUMENT")
    assert caught.value.label in ("value", "row"), caught.value
    assert model in caught.value.text
    for answer in answers:
        for name, output in answer.items():
            np.testing.assert_array_equal(output, answers[0][name])


def test_bad_base64_is_refused_alone(server):
    with pytest.raises(RefusedError) as caught:
        json_answer(server, "photos", image=("BYTES", ["no base64!"]))
    assert caught.value.status == 400


def test_a_category_that_may_be_unknown_is_none_of_them(server, root):
    row = {"numbers": np.ones(3, np.float32), "city": "kyiv", "plan": "team"}
    found = infer_once("grpc", server, asked("wines", {**row, "city": b"kyiv", "plan": b"team"}))
    same(found, pipelines.expected(root / "wines", [row]), atol=1e-5)


def test_no_request_waits_for_the_interpreter(server, interpreter):
    def is_held():
        with server.connect(address=server.management) as connection:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert select.select([connection], [], [], HELD_SECONDS) == ([], [], [])

    with interpreter.held():
        waited(is_held)
        for model, row in GOOD.items():
            assert infer_once("binary", server, asked(model, row))
        with pytest.raises(RefusedError):
            infer_once("grpc", server, asked(*BAD["a number that is none"]))
        is_held()
    waited(server.metrics)


# What is told --------------------------------------------------------------------------------------------------------


def test_each_step_is_measured(server):
    infer_once("binary", server, asked("photos", GOOD["photos"]))
    stages = {
        sample.partition('stage="')[2].partition('"')[0]: value
        for sample, value in server.metrics().items()
        if sample.startswith("servekit_stage_duration_seconds_count") and 'model="photos"' in sample
    }
    assert set(stages) == {"decode_image", "resize", "normalise", "photos", "softmax", "top_k"}
    assert all(stages.values()), stages


def test_an_answer_says_what_its_steps_took(server):
    body = json.dumps({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["the cat"]}]}).encode()
    status, headers, _ = server.request("POST", "/v2/models/texts/infer", body)
    assert status == 200
    assert [part.partition(";")[0] for part in headers["server-timing"].split(", ")][-5:-1] == [
        "tokenize",
        "texts",
        "mean_pool",
        "l2_normalise",
    ]
