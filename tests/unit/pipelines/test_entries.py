"""Steps with `each`: an entry of a row is a row to them."""

import json
from types import SimpleNamespace

import pytest

from servekit.kernels import Kernel
from servekit.pipelines import recipe
from servekit.pipelines.plan import Entries
from tests.unit.pipelines import samples
from tests.unit.pipelines.samples import model, plan, ports, refused, tensor

INPUTS = "inputs: {crops: 'float32[20, 4]', found: int64}\n"
EACH = INPUTS + "model: {each: found}\n"
OPENED = model("own", [tensor("x", "FP32", -1, "n")], [tensor("y", "FP32", -1, "m")])
BOTH = model("own", [tensor(name, "FP32", -1, 4) for name in ("first", "second")], [tensor("y", "FP32", -1, 3)])
DEEP = tensor("y", "FP32", *[-1] * 8)


def test_a_model_sees_entries_and_gives_as_many():
    found = plan(EACH + "after: [{use: scores.softmax, each: true}]", samples.SCORER)
    scorer, softmax = found.batch
    assert (scorer.each, softmax.each) == (Entries(20, 1), Entries(20))
    assert ports(found, scorer.outputs.values()) == ["y float32 [20, 3]"]
    assert ports(found, softmax.outputs) == ["probabilities float32 [20, 3]"]
    assert found.contract()["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 20, 3]}]


def test_a_name_means_the_count_that_had_it_last():
    text = """
inputs: {crops: 'float32[20, 4]', scores: 'float32[9]', found: int64}
model: {from: crops, each: found}
after:
  - {use: scores.argmax, from: scores, as: found}
  - {use: scores.softmax, from: y, each: found}
"""
    scorer, argmax, softmax = plan(text, samples.SCORER).batch
    assert (scorer.each.count, (softmax.each.count,)) == (2, argmax.outputs)


def test_a_count_is_there_as_long_as_it_is_read():
    found = plan(recipe("detect_and_classify").decode(), samples.DETECTOR, samples.CROP_CLASSIFIER)
    (count,) = {call.each.count for call in found.batch if call.each}
    assert (found.values[count].name, found.values[count].place) == ("count", "batch")
    of_rows = plan(EACH, samples.SCORER)
    assert of_rows.gathered == (0, 1)


def test_a_plan_says_what_its_entries_are(monkeypatch):
    monkeypatch.setattr(Kernel, "compiled", lambda kernel: SimpleNamespace(address=4096))
    text = INPUTS + "before: [{use: numbers.clip, each: true}]\nmodel: {each: found}"
    clip, scorer = json.loads(plan(text, samples.SCORER).as_json())["batch"]
    assert clip["each"] == {"axis": 20, "count": None}
    assert clip["kernel"]["inputs"] == [{"name": "values", "dtype": "float32", "shape": ["rows", "columns"]}]
    assert (scorer["each"], scorer["inputs"]) == ({"axis": 20, "count": 1}, [{"name": "x", "value": 2}])
    opened = "inputs: {x: 'float32[parts, length]'}\nmodel: {each: true, shapes: {y: [7]}}"
    assert json.loads(plan(opened, OPENED).as_json())["batch"][0]["each"] == {"axis": "parts", "count": None}


def test_steps_that_see_entries_are_shown():
    shown = plan(EACH + "after: [{use: scores.softmax, each: true}]", samples.SCORER).shown()
    assert shown == [
        "model model (own), each of found: crops float32 [20, 4] → y float32 [20, 3]",
        "batch after step 1 (scores.softmax), each: y float32 [20, 3] → probabilities float32 [20, 3]",
    ]


@pytest.mark.parametrize(
    ("text", "contract", "said"),
    [
        (
            samples.IMAGE_STEPS.replace("decode_image", "decode_image\n    each: true"),
            samples.CLASSIFIER,
            "before step 1 (decode_image): each found, a stage sees a row whole; leave each out, or use a kernel or",
        ),
        (
            "inputs: {x: bytes}\nmodel: {each: true}",
            samples.SCORER,
            "model (own): each found, and input 'x' is 'x' bytes [], expected an axis that counts entries; leave",
        ),
        (
            "inputs: {first: 'float32[2, 4]', second: 'float32[3, 4]'}\nmodel: {each: true}",
            BOTH,
            "input 'second' is 'second' float32 [3, 4], expected the first axis 2 of 'first' float32 [2, 4]; change",
        ),
        (
            "inputs: {first: 'float32[n, 4]', second: 'float32[m, 4]'}\nmodel: {each: true}",
            BOTH,
            "expected the first axis n of 'first' float32 [n, 4]; sizes with two names may differ, so give them one",
        ),
        (
            "inputs: {first: 'float32[n, 4]', second: 'float32[4, 4]'}\nmodel: {each: true}",
            BOTH,
            "'second' float32 [4, 4], expected the first axis n of 'first' float32 [n, 4]; sizes with two names",
        ),
        (
            "inputs: {a: 'float32[4]'}\nmodel: {each: true}",
            model("own", [tensor("x", "FP32", -1, 4, optional=True)], [tensor("y", "FP32", -1, 3)]),
            "model (own): each found, and it takes nothing that has entries; name a value in from",
        ),
        (EACH.replace("each: found", "each: fuond"), samples.SCORER, "model (own): each: 'fuond' is no value; did you"),
        (
            EACH.replace("int64", "float32"),
            samples.SCORER,
            "model (own): each names 'found' float32 [1], expected a whole number a row, such as int64 [1]; name",
        ),
        (EACH.replace("int64", "'int64[2]'"), samples.SCORER, "each names 'found' int64 [2], expected a whole number"),
        (EACH.replace("int64", "'int64[1, 1]'"), samples.SCORER, "each names 'found' int64 [1, 1], expected a whole"),
        (EACH.replace("int64", "bool"), samples.SCORER, "each names 'found' bool [1], expected a whole number a row"),
        (EACH.replace("int64", "float16"), samples.SCORER, "each names 'found' float16 [1], expected a whole number"),
        (EACH.replace("int64", "string"), samples.SCORER, "each names 'found' string [], expected a whole number"),
        (
            EACH.replace("[20, 4]", "[20, 5]"),
            samples.SCORER,
            "model (own), each entry: input 'x' is 'crops' float32 [5], expected float32 [4]; change the step",
        ),
        (
            EACH + "after: [{use: vectors.mean_pool, each: true, from: [y, y]}]",
            samples.SCORER,
            "after step 1 (vectors.mean_pool), each entry: kernel 'mean_pool': input 'tokens' is float32 [rows, 3]",
        ),
        (
            EACH + "after: [{use: scores.top_k, each: true, with: {count: -3}}]",
            samples.SCORER,
            "after step 1 (scores.top_k), each entry: output 'values' would be float32 [rows, -3], sizes from 0",
        ),
        (
            "inputs: {x: 'float32[parts, n]'}\nmodel: {each: true}",
            OPENED,
            "output 'y' is float32 [m], and a row without entries leaves 'm' open; write its size under shapes",
        ),
        (
            "inputs: {x: 'float32[parts, m]'}\nmodel: {each: true}",
            OPENED,
            "output 'y' is float32 [m], and a row without entries leaves 'm' open; write its size under shapes",
        ),
        (
            "inputs: {x: 'float32[parts, n]', z: 'float32[wide]'}\nmodel: {each: true, shapes: {y: [wide]}}",
            OPENED,
            "output 'y' is float32 [wide], and a row without entries leaves 'wide' open; write its size under shapes",
        ),
        (
            "inputs: {x: 'float32[parts, n]'}\nmodel: {each: true, shapes: {y: [1, 1, 1, 1, 1, 1, 1]}}",
            model("own", [tensor("x", "FP32", -1, "n")], [DEEP]),
            "output 'y' would be float32 [parts, 1, 1, 1, 1, 1, 1, 1], up to 7 axes of a row are allowed; leave each",
        ),
        (
            INPUTS.replace(", found: int64", ""),
            samples.SCORER,
            "'crops' float32 [20, 4], expected float32 [4]; if its first axis counts entries, write each: true; else",
        ),
        (
            "inputs: {x: 'float32[4]'}\nafter: [{use: scores.softmax}, {use: vectors.mean_pool, from: [y, y]}]",
            samples.SCORER,
            "expected float32 [rows, 3, width]; change the step, or what it takes by from",
        ),
        (
            EACH + "after: [{use: scores.softmax}]",
            samples.SCORER,
            "'scores' is float32 [rows, 20, 3], expected float32 [rows, 20]; if its first axis counts entries, write",
        ),
        (
            EACH.replace("[20, 4]", "[2, 20, 4]"),
            samples.SCORER,
            "each entry: input 'x' is 'crops' float32 [20, 4], expected float32 [4]; change the step, or what it",
        ),
    ],
)  # fmt: skip
def test_entries_that_do_not_fit_are_told_with_what_was_found_and_expected(text, contract, said):
    assert said in refused(text, contract)


def test_an_output_may_have_an_axis_that_each_entry_has():
    said = plan("inputs: {x: 'float32[parts, n]'}\nmodel: {each: true, shapes: {y: [n]}}", OPENED)
    same = model("own", [tensor("x", "FP32", -1, "n")], [tensor("y", "FP32", -1, "n")])
    for found in (said, plan("inputs: {x: 'float32[parts, n]'}\nmodel: {each: true}", same)):
        assert ports(found, found.outputs.values()) == ["y float32 [parts, n]"]


def test_texts_that_have_an_axis_have_entries():
    contract = model("own", [tensor("x", "FP32", -1, 4)], [tensor("words", "BYTES", -1, 6)])
    reader = model("reader", [tensor("text", "BYTES", -1)], [tensor("y", "FP32", -1, 3)])
    found = plan("inputs: {x: 'float32[4]'}\nafter: [{model: reader, each: true}]", contract, reader)
    assert ports(found, found.outputs.values()) == ["y float32 [6, 3]"]


def test_steps_with_each_count_as_any():
    text = EACH + "after: [{}]".format(", ".join(["{use: scores.softmax, each: true}"] * 3))
    assert len(plan(text, samples.SCORER, stages_max=4).batch) == 4
    assert "has 4 steps with its model, at most 3" in refused(text, samples.SCORER, stages_max=3)
