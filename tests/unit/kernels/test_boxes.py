import numpy as np
import pytest

from servekit.kernels import boxes

DICE = np.random.default_rng(6)


def some_boxes(rows, count):
    corners = DICE.random((rows, count, 2, 2)).astype(np.float32) * 100
    return np.sort(corners, axis=2).reshape(rows, count, 4)


def naive_iou(first, second):
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    area = np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2])
    return shared / (area - shared) if shared else 0.0


def naive_nms(found, scores, kinds, score_min, overlap_max):
    """Sorted first, unlike the kernel's."""
    kept = []
    for candidate in np.argsort(-scores, kind="stable"):
        rivals = [one for one in kept if kinds[one] == kinds[candidate]]
        if scores[candidate] >= score_min and all(
            naive_iou(found[one], found[candidate]) <= overlap_max for one in rivals
        ):
            kept.append(candidate)
    return kept


def naive_soft(found, scores, score_min, softness):
    scores, kept = scores.astype(np.float64), []
    while scores.max() >= score_min:
        best = int(scores.argmax())
        kept.append((best, scores[best]))
        scores[best] = -1
        for other in range(len(scores)):
            scores[other] *= np.exp(-(naive_iou(found[best], found[other]) ** 2) / softness)
    return kept


def test_iou_is_the_formula():
    first, second = some_boxes(2, 5), some_boxes(2, 6)
    ours = boxes.iou.run_compiled(first=first, second=second).outputs["overlaps"]
    theirs = [[[naive_iou(one, other) for other in second[row]] for one in first[row]] for row in range(2)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_boxes_that_touch_or_are_empty_do_not_overlap():
    corners = np.array([[[0, 0, 1, 1], [1, 0, 2, 1], [0, 0, 0, 0], [3, 3, 2, 2]]], np.float32)
    ours = boxes.iou.run_compiled(first=corners, second=corners).outputs["overlaps"]
    assert ours[0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_corners_and_centres_are_each_other_s_inverse():
    corners = some_boxes(3, 8)
    centres = boxes.centres_of_corners.run_compiled(boxes=corners).outputs["centres"]
    assert centres[0, 0, 2] == corners[0, 0, 2] - corners[0, 0, 0]
    back = boxes.corners_of_centres.run_compiled(boxes=centres).outputs["corners"]
    np.testing.assert_allclose(back, corners, atol=1e-4)


def test_best_class_is_the_highest_number():
    scores = DICE.random((2, 9, 4)).astype(np.float32)
    scores[0, 0] = np.nan
    ours = boxes.best_class.run_compiled(scores=scores).outputs
    assert (ours["best"][0, 0], ours["kinds"][0, 0]) == (-np.inf, -1)
    assert ours["kinds"][1].tolist() == scores[1].argmax(axis=1).tolist()
    assert ours["best"][1].tolist() == scores[1].max(axis=1).tolist()


def test_nms_keeps_what_the_sorted_one_keeps():
    found, scores, kinds = some_boxes(3, 60), DICE.random((3, 60)).astype(np.float32), DICE.integers(0, 3, (3, 60))
    ran = boxes.nms.run_compiled(boxes=found, scores=scores, kinds=kinds)
    for row in range(3):
        expected = naive_nms(found[row], scores[row], kinds[row], 0.25, 0.45)
        count = int(ran.outputs["kept"][row, 0])
        assert ran.outputs["kept_scores"][row, :count].tolist() == scores[row, expected].tolist()
        assert ran.outputs["kept_boxes"][row, :count].tolist() == found[row, expected].tolist()
        assert ran.outputs["kept_kinds"][row, :count].tolist() == kinds[row, expected].tolist()
        assert not ran.outputs["kept_boxes"][row, count:].any()
        assert (ran.outputs["kept_kinds"][row, count:] == -1).all()


def test_soft_nms_shrinks_scores_and_may_look_past_classes():
    found, scores = some_boxes(1, 30), DICE.random((1, 30)).astype(np.float32)
    bound = boxes.nms.bind(softness=0.5, by_class=False)
    ran = bound.run_compiled(boxes=found, scores=scores, kinds=DICE.integers(0, 9, (1, 30)))
    expected = naive_soft(found[0], scores[0], 0.25, 0.5)
    count = int(ran.outputs["kept"][0, 0])
    assert count == len(expected)
    np.testing.assert_allclose(ran.outputs["kept_scores"][0, :count], [score for _, score in expected], rtol=1e-5)
    np.testing.assert_array_equal(ran.outputs["kept_boxes"][0, :count], found[0, [place for place, _ in expected]])


def test_a_box_without_a_number_for_a_score_is_never_kept():
    scores = np.array([[np.nan, 0.9, np.nan]], np.float32)
    ran = boxes.nms.run_compiled(boxes=some_boxes(1, 3), scores=scores, kinds=np.zeros((1, 3), np.int64))
    assert ran.outputs["kept"].tolist() == [[1]]


def test_un_letterbox_undoes_resize_and_bars():
    # 480 × 320 in 640 × 640: scaled by 4/3, with bars of 106 and 107 left and right.
    placement = np.array([[106, 0, 427 / 320, 640 / 480]], np.float32)
    original = np.array([[[0, 0, 320, 480], [10, 10, 30, 30], [-4, -6, 330, 500]]], np.float32)
    scaled = original * placement[:, None, [2, 3, 2, 3]] + placement[:, None, [0, 1, 0, 1]]
    ours = boxes.un_letterbox.run_compiled(boxes=scaled, placement=placement).outputs["original"]
    np.testing.assert_allclose(ours, original, atol=1e-3)


def test_un_letterbox_looks_at_each_row_s_own_picture():
    given = some_boxes(3, 2)
    placement = np.array([[0, 0, 1, 1], [5, 7, 2, 4], [-3, 0, 0.5, 1]], np.float32)
    ours = boxes.un_letterbox.run_compiled(boxes=given, placement=placement).outputs["original"]
    expected = (given - placement[:, None, [0, 1, 0, 1]]) / placement[:, None, [2, 3, 2, 3]]
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("anchors", [0, 1, 15, 16, 17, 40])
def test_predictions_are_split_into_boxes_and_scores(anchors):
    predictions = DICE.random((2, 7, anchors)).astype(np.float32)
    ours = boxes.split_predictions.run_compiled(predictions=predictions).outputs
    np.testing.assert_array_equal(ours["boxes"], predictions[:, :4].transpose(0, 2, 1))
    np.testing.assert_array_equal(ours["scores"], predictions[:, 4:].transpose(0, 2, 1))


def test_predictions_without_the_sides_of_a_box_are_refused():
    ran = boxes.split_predictions.run_compiled(predictions=np.zeros((2, 3, 5), np.float32))
    assert ran.faults.tolist() == [1, 1]
    none = boxes.split_predictions.run_compiled(predictions=np.zeros((1, 4, 5), np.float32))
    assert (none.faults.tolist(), none.outputs["scores"].shape) == ([0], (1, 5, 0))
