import pytest

from servekit.errors import ConfigError
from servekit.pipelines import parsed, read
from servekit.pipelines.schema import Sent
from tests.unit.pipelines.samples import unreadable


def test_everything_that_is_left_out_has_a_meaning():
    pipeline = read(b"", "model.yaml")
    assert (pipeline.inputs, pipeline.before, pipeline.after, pipeline.outputs) == ({}, (), (), {})
    assert (pipeline.model.name, pipeline.raw) == (None, False)


def test_a_step_is_read_from_words_that_python_keeps_to_itself():
    step = read(b"before: [{use: resize, with: {width: 4}, from: image, as: {image: small}}]", "model.yaml").before[0]
    assert (step.options, step.taken, step.given) == ({"width": 4}, ("image",), {"image": "small"})


def test_a_model_is_named_by_a_word_or_a_table():
    for text in (b"model: detector", b"model: {name: detector}"):
        assert read(text, "model.yaml").model.name == "detector"


def test_each_is_a_word_or_the_name_of_a_count():
    step = "{use: a.b}", "{use: a.b, each: false}", "{use: a.b, each: true}", "{model: b, each: found}"
    steps = read(f"after: [{', '.join(step)}]\nmodel: {{each: found}}".encode(), "model.yaml")
    assert [one.each for one in (*steps.after, steps.model)] == [False, False, True, "found", "found"]


def test_outputs_are_a_list_or_a_table():
    assert read(b"outputs: [classes]", "model.yaml").outputs == {"classes": "classes"}
    assert read(b"outputs: {best: classes}", "model.yaml").outputs == {"best": "classes"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("bytes", Sent("bytes", ())),
        ("string", Sent("string", ())),
        ("float32", Sent("float32", (1,))),
        ("'float32[]'", Sent("float32", ())),
        ("'uint8 [height, width, 3]'", Sent("uint8", ("height", "width", 3))),
    ],
)
def test_what_clients_send_is_a_type_with_a_shape(written, meant):
    assert read(f"inputs: {{x: {written}}}".encode(), "model.yaml").inputs == {"x": meant}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("befor: []", "unknown key 'befor'; did you mean 'before'?"),
        ("before: [{us: resize}]", "unknown key 'before[0].us'; did you mean 'use'?"),
        ("before: [{use: resize, width: 4}]", "unknown key 'before[0].width'; did you mean 'with'?"),
        ("after: [{use: a, options: {}}]", "unknown key 'after[0].options'"),
        ("model: {nam: x}", "unknown key 'model.nam'; did you mean 'name'?"),
        ("inputs: {image: byts}", "inputs: 'image' is 'byts', 'byts' is no type; did you mean 'bytes'?"),
        ("inputs: {image: 'bytes[3]'}", "bytes has no shape"),
        ("inputs: {x: 'float32[rows, 3]'}", "'rows' found, it stands for the batch"),
        ("inputs: {x: 'float32[1, 1, 1, 1, 1, 1, 1, 1]'}", "8 axes of a row found, up to 7 are allowed"),
        ("inputs: {x: 'float32[-1]'}", "axis '-1' found, a size or a name is allowed"),
        ("inputs: {x: 3}", "a type such as bytes, string, float32"),
        ("inputs: [image]", "a table of names and types is allowed"),
        ("before: [{}]", "before[0]: neither use nor model found"),
        ("before: [{use: a, model: b}]", "before[0]: both use and model found"),
        ("before: [{model: b, with: {a: 1}}]", "a model has no options"),
        ("before: [{use: a, shapes: {a: [1]}}]", "shapes found, a stage or kernel says its own"),
        ("before: [{use: true}]", "before[0].use: found True, a name of 1 to 256 bytes is allowed"),
        ("before: [resize]", "before[0]: found 'resize', a table of keys is allowed"),
        ("before: {use: resize}", "a list of steps is allowed"),
        ("before: [{use: a, with: {mean: .nan}}]", "before[0].with: 'mean' is nan, a finite number, a text"),
        ("before: [{use: a, with: {day: 2024-01-01}}]", "a finite number, a text, true, false or a list is allowed"),
        ("before: [{use: a, with: [1]}]", "a table of options is allowed"),
        ("after: [{use: a.b, each: 3}]", "after[0].each: found 3, true, false or the name of a value that counts"),
        ("after: [{use: a.b, each: ''}]", "after[0].each: found '', a name of 1 to 256 bytes is allowed"),
        ("after: [{use: a.b, each: [found]}]", "true, false or the name of a value that counts entries is allowed"),
        ("model: {each: null}", "model.each: found None, true, false or the name of a value that counts entries"),
        ("after: [{use: a.b, eahc: true}]", "unknown key 'after[0].eahc'; did you mean 'each'?"),
        ("outputs: [a, a]", "'a' stands twice"),
        ("raw: maybe", "found 'maybe', true or false is allowed"),
        ("inputs: {a: bytes, a: bytes}", "key 'a' stands twice"),
        ("- a", "a table of sections is allowed"),
    ],
)
def test_a_slip_is_told_with_its_place_and_what_is_allowed(text, said):
    assert said in unreadable(text)
    assert unreadable(text).startswith("model.yaml")


def test_every_fault_has_a_line():
    assert len(unreadable("befor: []\nraw: maybe\nbefore: [{}]").splitlines()) == 3


def test_a_file_has_a_limit():
    assert "make it smaller" in unreadable("#" * (2**20 + 1))


def test_the_same_keys_are_read_out_of_a_table_of_the_configuration():
    assert parsed({"before": [{"use": "decode_image"}], "raw": True}, "models[0]").raw
    with pytest.raises(ConfigError, match=r"models\[0\]: unknown key 'path'"):
        parsed({"path": "m"}, "models[0]")
