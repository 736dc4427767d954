import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from servekit.kernels import Kernel
from servekit.pipelines import PipelineError, recipe
from servekit.pipelines.buffers import Use, slots
from servekit.pipelines.plan import Value
from tests.unit.pipelines import samples
from tests.unit.pipelines.samples import plan


def values(*places, shape=(4,)):
    return [Value(number, f"v{number}", "float32", shape, place, "") for number, place in enumerate(places)]


def test_a_lane_needs_two_buffers_for_a_chain_of_any_length():
    calls = [Use((number,), (number + 1,)) for number in range(8)]
    assert slots(values("row", *["batch"] * 8), calls, [8]) == {number: number % 2 for number in range(9)}


def test_what_clients_get_is_not_written_over():
    calls = [Use((0,), (1,)), Use((1,), (2,)), Use((2,), (3,))]
    found = slots(values("row", *["batch"] * 3), calls, [1, 3])
    assert found[1] not in {found[2], found[3]}


def test_what_nobody_reads_is_in_nobodys_way_for_long():
    found = slots(values("row", "batch", "batch", "batch"), [Use((0,), (1, 2)), Use((1,), (3,))], [3])
    assert len({found[0], found[1], found[2]}) == 3
    assert found[3] in {found[0], found[2]}


def test_memory_of_the_same_size_is_used_first():
    mixed = [*values("row", shape=(9,)), *values("row", "row", "batch", "batch")[1:]]
    found = slots(mixed, [Use((0, 1), (2,)), Use((2,), (3,))], [3])
    assert found[3] == found[1]


def test_a_row_that_goes_to_its_caller_as_it_came_needs_no_place_in_the_batch():
    found = plan(samples.IMAGE_STEPS + "outputs: [logits, placement]")
    assert found.outputs["placement"] not in found.slots


@pytest.mark.parametrize(
    ("name", "contracts"),
    [
        ("detect_and_classify", (samples.DETECTOR, samples.CROP_CLASSIFIER)),
        ("image_classification", (samples.CLASSIFIER,)),
        ("object_detection", (samples.DETECTOR,)),
        ("tabular_classification", (samples.TABLE,)),
        ("text_embedding", (samples.ENCODER,)),
    ],
)
def test_no_two_values_that_are_needed_at_once_share_a_buffer(name, contracts):
    text = recipe(name).decode()
    found = plan(text, *contracts)
    needed_from, needed_to = {}, {}
    for time, call in enumerate(found.batch, 1):
        taken, given = (
            list(numbers.values()) if isinstance(numbers, dict) else list(numbers)
            for numbers in (call.inputs, call.outputs)
        )
        if call.each and call.each.count is not None:
            taken.append(call.each.count)
        for number in (*taken, *given):
            needed_from.setdefault(number, time if number in given else 0)
            needed_to[number] = time
    needed_to.update(dict.fromkeys(set(found.outputs.values()) & set(found.slots), len(found.batch) + 1))
    assert set(needed_to) == set(found.slots)
    for one in found.slots:
        for other in found.slots:
            is_together = needed_from[one] <= needed_to[other] and needed_from[other] <= needed_to[one]
            assert one == other or not is_together or found.slots[one] != found.slots[other]


def test_options_without_end_cross_as_texts(monkeypatch):
    monkeypatch.setattr(Kernel, "compiled", lambda kernel: SimpleNamespace(address=4096))
    call = plan("after: [{use: numbers.clip}]", samples.SCORER).batch[1]
    wide = replace(call, kernel=call.kernel.bind(low=-math.inf, high=math.nan))
    assert wide.described()["kernel"]["options"] == {"low": "-Infinity", "high": "NaN"}


def test_a_plan_crosses_as_json(monkeypatch):
    monkeypatch.setattr(Kernel, "compiled", lambda kernel: SimpleNamespace(address=4096))
    found = plan(samples.IMAGE_STEPS + "raw: true")
    crossed = json.loads(found.as_json())
    assert (crossed["version"], crossed["name"], crossed["raw"], crossed["slots"]) == (2, "own", True, 2)
    assert crossed["inputs"] == [{"name": "image", "value": 0}]
    assert crossed["outputs"] == [{"name": "logits", "value": 5}]
    assert crossed["values"][2] == {
        "name": "image",
        "dtype": "uint8",
        "shape": [224, 224, 3],
        "place": "row",
        "slot": 0,
    }
    assert crossed["stages"][1] == {
        "step": "before step 2 (resize)",
        "kind": "resize",
        "options": {"width": 224, "height": 224},
        "inputs": [1],
        "outputs": [2, 3],
    }
    normalise, run = crossed["batch"]
    assert (normalise["kernel"]["address"], normalise["inputs"], normalise["outputs"]) == (4096, [2], [4])
    assert run == {
        "step": "model (own)",
        "model": "own",
        "inputs": [{"name": "pixels", "value": 4}],
        "outputs": [{"name": "logits", "value": 5}],
        "each": None,
    }
    assert normalise["each"] is None


def test_a_kernel_that_mixes_rows_ends_the_load(tmp_path):
    (tmp_path / "kernels.py").write_text(
        """
from servekit import kernel

VALUES = ("float32", ("rows", "width"))

@kernel(inputs={"values": VALUES}, outputs={"result": VALUES})
def ranked(values, result):
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            result[row, column] = values[row, column] - values[0, column]
"""
    )
    written = 'after: [{use: "kernels.py:ranked"}]'
    with pytest.raises(PipelineError, match=r"after step 1 .*row 1 of 'result' is another alone than among 5 rows"):
        plan(written, samples.SCORER, folder=tmp_path, allow_code=True).compile()
