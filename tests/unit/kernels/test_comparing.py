import numpy as np
import pytest

from servekit.kernels import audio, boxes, compare, comparing, image, kernel, numbers, scores, vectors
from servekit.kernels.contract import Kernel
from tests.unit.kernels.samples import ROW, ROW_RESULT, VALUES, bounded, doubled, explosive_batch, summed

RESULT = {"result": VALUES["values"]}
# Sizes with which each case is quick in plain Python.
OPTIONS = {
    "centre_crop": {"crop_height": 20, "crop_width": 11},
    "letterbox": {"box_height": 64, "box_width": 48, "fill": 7},
    "log_mel": {"window": 12, "hop": 5, "points": 16, "bands": 4},
    "one_hot": {"categories": 5},
    "ordinal": {"categories": (1.0, 2.0, 7.0)},
    "bucketise": {"edges": (-1.0, 0.0, 0.5, 3.0)},
}
SIZES = {
    "centre_crop": {"height": 22, "width": 12},
    "frames": {"samples": 900},
    "log_mel": {"samples": 30},
    "nms": {"candidates": 12},
}
BUILT_IN = [
    found
    for module in (audio, boxes, image, numbers, scores, vectors)
    for found in vars(module).values()
    if isinstance(found, Kernel)
]


@pytest.mark.parametrize("one", BUILT_IN, ids=lambda one: one.name)
def test_every_built_in_kernel_is_compiled_as_it_is_written(one):
    assert compare(one.bind(**OPTIONS.get(one.name, {})), SIZES.get(one.name)) == []


@pytest.mark.parametrize("one", [doubled, bounded, summed], ids=lambda one: one.name)
def test_kernels_of_users_agree_too(one):
    assert compare(one) == []


@kernel(inputs=VALUES, outputs=RESULT)
def forgetful(values, result):
    for column in range(1, values.shape[1]):
        for row in range(values.shape[0]):
            result[row, column] = values[row, column]


@kernel(inputs={"places": ("int64", (1,)), **ROW}, outputs=ROW_RESULT, per="row")
def trusting(places, values, result):
    result[:] = values[places[0]]


@kernel(inputs={"places": ("int32", ("rows",))}, outputs={"result": ("int64", ("rows",))})
def overflowing(places, result):
    for row in range(len(places)):
        result[row] = (places[row] + 1) * 2**62


def test_an_output_that_is_not_filled_is_found():
    found = compare(forgetful)
    assert {difference.rows for difference in found} == {"seeded", "nan", "infinite", "strided"}
    assert found[0].text.startswith("'result' row 0: ")


def test_a_row_that_reads_outside_is_told_and_not_run():
    found = compare(trusting)
    assert found[0].text.endswith("refuse such rows with a text of their own")
    assert {difference.rows for difference in found} <= {"seeded", "nan", "infinite", "strided"}


def test_a_kernel_that_raises_in_python_is_told():
    (first, *_) = compare(explosive_batch, {"rows": 100})
    assert "RuntimeError: nobody meant this" in first.text


@kernel(inputs=VALUES, outputs=RESULT)
def centred(values, result):
    for column in range(values.shape[1]):
        total = 0.0
        for row in range(values.shape[0]):
            total += values[row, column]
        for row in range(values.shape[0]):
            result[row, column] = values[row, column] - total / values.shape[0]


def test_a_kernel_that_mixes_rows_is_told():
    assert compare(centred) == [("alone", "row 0 of 'result' is another alone than among 5 rows")]
    assert comparing.mixture(doubled) is None


def test_what_cannot_be_tried_is_not_taken_for_a_mixture():
    assert comparing.mixture(explosive_batch) is None


def test_the_same_seed_gives_the_same_rows():
    assert compare(forgetful, seed=5) == compare(forgetful, seed=5)
    assert compare(forgetful, {"columns": 0}) == []
    with np.errstate(all="ignore"):
        assert compare(overflowing) == compare(overflowing)
