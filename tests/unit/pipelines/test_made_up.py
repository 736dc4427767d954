"""Rows that pipelines are tried with."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from servekit.pipelines import made_up
from tests.unit.pipelines import samples
from tests.unit.pipelines.samples import tensor


def made(plan, folder=".", given=()):
    """Contents of the row by input, and what it was."""
    row = made_up.row(plan, folder, given)
    return {one["name"]: (one["shape"], base64.b64decode(one["base64"])) for one in row.tensors}, row.told


def only(steps, folder="."):
    """The one text of a row."""
    rows, told = made(samples.plan(steps, texts_to_numbers()), folder)
    ((shape, raw),) = rows.values()
    assert shape == [1]
    assert int.from_bytes(raw[:4], "little") == len(raw) - 4
    return raw[4:], told


def texts_to_numbers():
    return samples.model("own", [tensor("category", "INT64", -1, 1)], [tensor("y", "FP32", -1, 3)])


def test_a_picture_can_be_decoded_and_is_the_same_each_time():
    content = made_up.picture()
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", (640, 480))
        assert np.asarray(image).std(axis=(0, 1)).min() > 40
    assert content == made_up.picture()


@pytest.mark.parametrize(
    ("before", "told", "decode"),
    [
        ("{use: decode_image}", "a made-up PNG of 640 × 480, ", lambda content: content),
        ("{use: base64}, {use: decode_image}", " KiB, in base64", base64.b64decode),
        (
            "{use: base64, with: {alphabet: url}}, {use: decode_image}",
            " KiB, in base64",
            base64.urlsafe_b64decode,
        ),
    ],
)
def test_a_stage_that_decodes_pictures_gets_one(before, told, decode):
    sent = "string" if "base64" in before else "bytes"
    size = "{use: resize, with: {width: 224, height: 224}}, {use: image.normalise}"
    rows, said = made(samples.plan(f"inputs: {{image: {sent}}}\nbefore: [{before}, {size}]"))
    (_, raw) = rows["image"]
    assert decode(raw[4:]) == made_up.picture()
    assert told in said


def test_a_lookup_gets_one_of_its_categories(folder):
    listed = only("inputs: {city: string}\nbefore: [{use: lookup, with: {categories: [lima, oslo]}}]")
    assert listed == (b"lima", "city: the category 'lima'")
    path = folder("cities.txt", "\ufeffoslo\r\nlima\r\n")
    steps = "inputs: {city: string}\nbefore: [{use: lookup, with: {file: cities.txt}}]"
    assert only(steps, path)[0] == b"oslo"
    (path / "cities.txt").unlink()
    assert only(steps, path)[0] == made_up.SENTENCE.encode()


def test_a_tokenizer_gets_a_sentence():
    steps = "inputs: {text: string}\nbefore: [{use: tokenize}]\nmodel: {shapes: {last_hidden_state: [length, 384]}}"
    rows, told = made(samples.plan(steps, samples.ENCODER))
    assert rows["text"][1][4:].decode() == made_up.SENTENCE
    assert told == "text: a made-up sentence of 41 words"


def test_numbers_have_the_inputs_type_and_shape():
    model = samples.model(
        "own",
        [
            tensor("picture", "UINT8", -1, "height", "width", 3),
            tensor("ids", "INT64", -1, "sequence"),
            tensor("weights", "FP16", -1, "sequence"),
            tensor("means", "BF16", -1, 2),
        ],
        [tensor("y", "FP32", -1, 3)],
    )
    rows, told = made(samples.plan("after: [{use: scores.softmax}]", model))
    assert {name: (shape, len(raw)) for name, (shape, raw) in rows.items()} == {
        "picture": ([1, 480, 640, 3], 480 * 640 * 3),
        "ids": ([1, 32], 32 * 8),
        "weights": ([1, 32], 32 * 2),
        "means": ([1, 2], 4),
    }
    assert set(np.frombuffer(rows["ids"][1], "<i8")) == {0, 1}
    assert all(0 <= weight <= 1 for weight in np.frombuffer(rows["weights"][1], "<f2"))
    assert all(0 <= mean <= 1 for mean in (np.frombuffer(rows["means"][1], "<u2").astype("<u4") << 16).view("<f4"))
    assert told.endswith("means: made-up bfloat16 [2]")


def test_a_count_of_entries_is_all_of_them():
    steps = "inputs: {x: 'float32[20, 4]', found: int64}\nmodel: {from: {x: x}, each: found}"
    rows, told = made(samples.plan(steps, samples.SCORER))
    assert rows["found"] == ([1, 1], (20).to_bytes(8, "little"))
    assert told == "x: made-up float32 [20, 4]; found: all entries"


def sample(name, datatype, shape, raw):
    return {"name": name, "datatype": datatype, "shape": shape, "base64": base64.b64encode(raw).decode()}


def test_samples_of_the_pipelines_own_inputs_are_preferred():
    plan = samples.plan("after: [{use: scores.softmax}]", samples.SCORER)
    numbers = np.arange(8, dtype="<f4")
    rows, told = made(plan, given=[sample("x", "FP32", [2, 4], numbers.tobytes())])
    assert rows == {"x": ([1, 4], numbers[:4].tobytes())}
    assert told == "the first row of its samples"


def test_the_first_row_of_texts_is_as_long_as_they_are():
    plan = samples.plan(
        "inputs: {category: string}\nbefore: [{use: lookup, with: {categories: [a]}}]", texts_to_numbers()
    )
    texts = b"\3\0\0\0abc\0\0\0\0"
    assert made(plan, given=[sample("category", "BYTES", [2], texts)])[0] == {"category": ([1], texts[:7])}


@pytest.mark.parametrize(
    ("name", "datatype", "shape"),
    [
        ("z", "FP32", [2, 4]),
        ("x", "FP64", [1, 4]),
        ("x", "FP32", [2, 2, 2]),
        ("x", "FP32", [4, 2]),
        ("x", "FP32", [0, 4]),
    ],
)
def test_samples_of_the_model_alone_are_none_of_the_pipeline(name, datatype, shape):
    plan = samples.plan("after: [{use: scores.softmax}]", samples.SCORER)
    _, told = made(plan, given=[sample(name, datatype, shape, bytes(32))])
    assert told == "x: made-up float32 [4]"
