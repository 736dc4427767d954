import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servekit.pipelines import recipe
from servekit.pipelines.reference import Refused, reference_run
from tests.unit.pipelines import samples
from tests.unit.pipelines.samples import model, plan, tensor

WORDS = {"a": 1, "cat": 2, "sat": 3}


def tokenize(text, length_max):
    try:
        ids = np.array([WORDS[word] for word in text.split()][:length_max], np.int64)
    except KeyError as error:
        raise ValueError(f"unknown word {error}") from None
    return ids, np.ones_like(ids), np.zeros_like(ids)


def encode(name, inputs):
    """A model of one vector a token."""
    assert name == "own"
    states = np.repeat(inputs["input_ids"][:, :, None] + 1.0, 384, 2).astype(np.float32)
    states[:, :, 0] = 0
    return {"last_hidden_state": states}


EMBEDDING = plan(recipe("text_embedding").decode(), samples.ENCODER)
STAGES = {"tokenize": tokenize}


def test_each_row_gets_what_it_gets_alone():
    rows = [{"text": text} for text in ("a cat sat", "a", "cat sat")]
    together = reference_run(EMBEDDING, rows, encode, STAGES)
    for row, answer in zip(rows, together, strict=True):
        alone = reference_run(EMBEDDING, [row], encode, STAGES)[0]
        np.testing.assert_allclose(answer["embedding"], alone["embedding"], rtol=1e-6)
        assert np.linalg.norm(answer["embedding"]) == pytest.approx(1)


def test_a_row_that_a_stage_refuses_does_not_harm_its_neighbours():
    answers = reference_run(EMBEDDING, [{"text": "a dog"}, {"text": "a"}], encode, STAGES)
    assert answers[0] == Refused("before step 1 (tokenize)", "unknown word 'dog'")
    assert answers[1]["embedding"].shape == (384,)


def test_without_a_row_that_is_left_no_model_runs():
    def never(name, inputs):
        raise AssertionError(name)

    assert all(isinstance(answer, Refused) for answer in reference_run(EMBEDDING, [{"text": "dog"}], never, STAGES))
    assert reference_run(EMBEDDING, [], never, STAGES) == []


def test_a_row_that_a_kernel_refuses_is_not_seen_by_the_steps_after_it():
    contract = model("own", [tensor("hot", "FP32", -1, 2)], [tensor("y", "FP32", -1, 2)])
    found = plan("inputs: {kind: int64}\nbefore: [{use: numbers.one_hot}]", contract)
    seen = []

    def run(name, inputs):
        seen.append(inputs["hot"].tolist())
        return {"y": inputs["hot"]}

    answers = reference_run(found, [{"kind": np.array([kind])} for kind in (1, 7, 0)], run)
    assert answers[1] == Refused("before step 1 (numbers.one_hot)", "the category is not one that the model knows")
    assert seen == [[[0, 1], [1, 0]]]
    assert [answers[place]["y"].tolist() for place in (0, 2)] == [[0, 1], [1, 0]]


def test_rows_of_the_same_sizes_share_a_run():
    sizes = []

    def run(name, inputs):
        sizes.append(inputs["input_ids"].shape)
        return encode(name, inputs)

    reference_run(EMBEDDING, [{"text": text} for text in ("a", "a cat", "sat")], run, STAGES)
    assert sizes == [(2, 1), (1, 2)]


def test_answers_are_as_long_as_their_own_rows():
    found = plan(
        "before: [{use: tokenize, with: {length_max: 8}}]\n"
        "inputs: {text: string}\noutputs: [last_hidden_state, input_ids]",
        samples.ENCODER,
    )
    answers = reference_run(found, [{"text": "a"}, {"text": "a cat sat"}], encode, STAGES)
    assert [answer["last_hidden_state"].shape for answer in answers] == [(1, 384), (3, 384)]
    assert [answer["input_ids"].tolist() for answer in answers] == [[1], [1, 2, 3]]


def test_images_are_classified_as_by_hand():
    found = plan(recipe("image_classification").decode(), samples.CLASSIFIER)
    image = np.random.default_rng(7).integers(0, 256, (224, 224, 3), np.uint8)
    stages = {
        "decode_image": lambda data: (image,),
        "resize": lambda picture, **options: (picture, np.array([0, 0, 1, 1], np.float32)),
    }

    def run(name, inputs):
        return {"logits": np.pad(inputs["pixels"].mean((2, 3)), ((0, 0), (0, 997)))}

    answer = reference_run(found, [{"image": b"any"}], run, stages)[0]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    logits = np.pad(((image / 255 - mean) / std).mean((0, 1)), (0, 997))
    expected = np.exp(logits) / np.exp(logits).sum()
    assert answer["classes"].tolist() == np.argsort(-expected, kind="stable")[:5].tolist()
    np.testing.assert_allclose(answer["probabilities"], np.sort(expected)[::-1][:5], rtol=1e-4)


def test_boxes_are_in_the_pixels_of_the_image_that_was_sent():
    found = plan(recipe("object_detection").decode(), samples.DETECTOR)
    # 320 × 480 in 640 × 640, as resize places it.
    placement = np.array([106, 0, 427 / 320, 640 / 480], np.float32)
    sent = np.array([[20, 30, 120, 230], [200, 100, 310, 470]], np.float32)
    corners = sent * placement[[2, 3, 2, 3]] + placement[[0, 1, 0, 1]]
    centres = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], 1)
    stages = {
        "decode_image": lambda data: (np.zeros((480, 320, 3), np.uint8),),
        "resize": lambda picture, **options: (np.zeros((640, 640, 3), np.uint8), placement),
    }

    def run(name, inputs):
        predictions = np.zeros((1, 84, 8400), np.float32)
        for anchor, (kind, score, which) in enumerate([(3, 0.6, 0), (3, 0.9, 0), (5, 0.8, 1), (7, 0.1, 1)]):
            predictions[0, :4, anchor] = centres[which] + anchor % 2
            predictions[0, 4 + kind, anchor] = score
        return {"output0": predictions}

    answer = reference_run(found, [{"image": b"any"}], run, stages)[0]
    assert (answer["count"].tolist(), answer["classes"][:3].tolist()) == ([2], [3, 5, -1])
    np.testing.assert_allclose(answer["scores"][:3], [0.9, 0.8, 0])
    np.testing.assert_allclose(answer["boxes"][1], sent[1], atol=1e-3)
    # Moved by a pixel, and grown by one, in the model's picture.
    np.testing.assert_allclose(answer["boxes"][0], sent[0] + np.array([0.5, 0.5, 1.5, 1.5]) * 0.75, atol=2e-3)
    assert not answer["boxes"][2:].any()


def test_a_table_becomes_one_matrix():
    found = plan(recipe("tabular_classification").decode(), samples.TABLE)
    seen = []

    def lookup(text, categories, unknown=None):
        if text not in categories and unknown is None:
            raise ValueError(f"'{text}' is no category")
        return (np.array([categories.index(text) if text in categories else unknown], np.int64),)

    def run(name, inputs):
        seen.append(inputs["features"])
        scores = inputs["features"][:, 3:5]
        return {"label": np.zeros(len(scores), np.int64), "probabilities": scores}

    rows = [
        {"numbers": np.array(numbers, np.float32), "city": city, "plan": paying}
        for numbers, city, paying in [
            ([38.6, np.nan, 60.2], "lima", "company"),
            ([52.0, 3.5, 89.0], "atlantis", "free"),
            ([0, 0, 0], "oslo", "gift"),
        ]
    ]
    answers = reference_run(found, rows, run, {"lookup": lookup})
    assert answers[2] == Refused("before step 4 (lookup)", "'gift' is no category")
    expected = [[0, -0.1 / 1.4, 0, 0, 1, 0, 0, 0, 1], [1, 1, 1, 0, 0, 0, 1, 0, 0]]
    assert seen[0].dtype == np.float32
    np.testing.assert_allclose(seen[0], expected, atol=1e-5)
    assert [answer["class"].item() for answer in answers[:2]] == [1, 0]


def test_texts_reach_a_model_as_they_were_sent():
    contract = model("own", [tensor("x", "BYTES", -1)], [tensor("y", "BYTES", -1)])
    answers = reference_run(
        plan("inputs: {x: bytes}", contract), [{"x": b"a\0"}, {"x": b""}], lambda _, inputs: {"y": inputs["x"]}
    )
    assert [answer["y"] for answer in answers] == [b"a\0", b""]


# Entries of a row that are rows to a step ----------------------------------------------------------------------------

PARTS = model("own", [tensor("x", "FP32", -1, 2)], [tensor("y", "FP32", -1, 3), tensor("word", "BYTES", -1)])
COUNTED = plan("inputs: {parts: 'float32[4, 2]', found: int64}\nmodel: {each: found, from: parts}", PARTS)


def parts_of(counts, dtype=np.int64):
    """Rows of four entries, all of them different."""
    numbers = np.arange(8 * len(counts), dtype=np.float32).reshape(-1, 4, 2)
    return [{"parts": row, "found": np.array([count], dtype)} for row, count in zip(numbers, counts, strict=True)]


def joined(name, inputs):
    """Sums of each of its rows, and a word that is never empty."""
    words = np.array([f"of {row[0]:.0f}".encode() for row in inputs["x"]], object)
    return {"y": inputs["x"].sum(1)[:, None] + np.arange(1, 4), "word": words}


def test_the_entries_of_all_rows_run_together_and_the_others_not_at_all():
    seen = []

    def run(name, inputs):
        seen.append(inputs["x"].tolist())
        return joined(name, inputs)

    answers = reference_run(COUNTED, parts_of([2, 0, -3, 9]), run)
    assert seen == [[[0, 1], [2, 3], [24, 25], [26, 27], [28, 29], [30, 31]]]
    assert answers[0]["y"].tolist() == [[2, 3, 4], [6, 7, 8], [0, 0, 0], [0, 0, 0]]
    assert answers[0]["word"].tolist() == [b"of 0", b"of 2", b"", b""]
    assert not answers[1]["y"].any()
    assert not answers[2]["y"].any()
    assert answers[3]["y"][:, 0].tolist() == [50, 54, 58, 62]


@pytest.mark.parametrize(
    ("dtype", "count", "meant"),
    [
        ("int64", -(2**63), 0),
        ("int64", 2**63 - 1, 4),
        ("uint64", 2**64 - 1, 4),
        ("int8", -1, 0),
        ("uint8", 255, 4),
        ("int32", 3, 3),
    ],
)
def test_a_count_is_taken_for_none_to_all(dtype, count, meant):
    for shape in ("", "[]", "[1]"):
        written = f"inputs: {{parts: 'float32[4, 2]', found: '{dtype}{shape}'}}\nmodel: {{each: found, from: parts}}"
        rows = parts_of([count], dtype)
        if shape == "[]":
            rows[0]["found"] = rows[0]["found"].reshape(())
        answer = reference_run(plan(written, PARTS), rows, joined)[0]
        assert [bool(word) for word in answer["word"]] == [True] * meant + [False] * (4 - meant)


def test_no_model_runs_without_entries_and_the_row_keeps_its_shape():
    def never(name, inputs):
        raise AssertionError(name)

    answers = reference_run(COUNTED, parts_of([0, -1]), never)
    assert [(answer["y"].shape, answer["y"].dtype, answer["word"].shape) for answer in answers] == [
        ((4, 3), np.float32, (4,))
    ] * 2
    opened = plan(
        "inputs: {x: 'float32[parts, n]'}\nmodel: {each: true, shapes: {y: [n]}}\n"
        "after: [{use: scores.softmax, each: true}]",
        model("own", [tensor("x", "FP32", -1, "n")], [tensor("y", "FP32", -1, "m")]),
    )
    rows = [{"x": np.zeros((0, 5), np.float32)}, {"x": np.zeros((2, 5), np.float32)}]
    answers = reference_run(opened, rows, lambda _, inputs: {"y": inputs["x"] + 1})
    assert [answer["probabilities"].shape for answer in answers] == [(0, 5), (2, 5)]
    np.testing.assert_allclose(answers[1]["probabilities"], 0.2)


def test_a_kernel_that_refuses_an_entry_refuses_its_row():
    hot = model("own", [tensor("hot", "FP32", -1, 2)], [tensor("y", "FP32", -1, 2)])
    found = plan(
        "inputs: {kinds: 'int64[3, 1]', found: int64}\nbefore: [{use: numbers.one_hot, each: found}]\n"
        "model: {each: found}",
        hot,
    )
    rows = [([0, 1, 7], 2), ([1, 7, 7], 3), ([1, 1, 0], 3), ([7, 0, 0], 0)]
    rows = [{"kinds": np.array(kinds)[:, None], "found": np.array([count])} for kinds, count in rows]
    answers = reference_run(found, rows, lambda _, inputs: {"y": inputs["hot"] * 2})
    assert answers[1] == Refused("before step 1 (numbers.one_hot)", "the category is not one that the model knows")
    assert answers[0]["y"].tolist() == [[2, 0], [0, 2], [0, 0]]
    assert answers[2]["y"].tolist() == [[0, 2], [0, 2], [2, 0]]
    assert not answers[3]["y"].any()


@settings(deadline=None)
@given(st.lists(st.integers(-2, 6), min_size=1, max_size=5))
def test_an_entry_gets_what_it_gets_as_a_row(counts):
    rows = parts_of(counts)
    alone = plan("inputs: {x: 'float32[2]'}", PARTS)
    for row, answer in zip(rows, reference_run(COUNTED, rows, joined), strict=True):
        meant = min(max(row["found"][0], 0), 4)
        expected = reference_run(alone, [{"x": part} for part in row["parts"][:meant]], joined)
        assert answer["y"][:meant].tolist() == [one["y"].tolist() for one in expected]
        assert answer["word"][:meant].tolist() == [one["word"] for one in expected]
        assert not answer["y"][meant:].any()


def test_what_is_in_each_box_is_told_by_the_other_model():
    found = plan(recipe("detect_and_classify").decode(), samples.DETECTOR, samples.CROP_CLASSIFIER)
    picture = np.zeros((480, 320, 3), np.uint8)
    sent = np.array([[20, 30, 120, 230], [200, 100, 310, 470]], np.float32)
    picture[30:230, 20:120], picture[100:470, 200:310] = (255, 0, 0), (0, 0, 255)
    placement = np.array([0, 0, 2, 4 / 3], np.float32)
    corners = sent * placement[[2, 3, 2, 3]]
    stages = {
        "decode_image": lambda data: (picture if data == b"two" else np.zeros_like(picture),),
        "resize": lambda image, **options: (np.full((640, 640, 3), image.max(), np.uint8), placement),
    }
    seen = []

    def run(name, inputs):
        if name == "classifier":
            seen.append(len(inputs["pixels"]))
            # The three first classes are the colours.
            return {"logits": np.pad(inputs["pixels"].mean((2, 3)), ((0, 0), (0, 7)), constant_values=-9)}
        predictions = np.zeros((len(inputs["images"]), 84, 8400), np.float32)
        predictions[:, :2, :2] = ((corners[:, :2] + corners[:, 2:]) / 2).T
        predictions[:, 2:4, :2] = (corners[:, 2:] - corners[:, :2]).T
        predictions[:, 7, :2] = np.array([0.9, 0.8]) * inputs["images"].max((1, 2, 3))[:, None]
        return {"output0": predictions}

    two, none = reference_run(found, [{"image": b"two"}, {"image": b"none"}], run, stages)
    assert seen == [2]
    assert (two["count"].tolist(), two["classes"][:2].tolist()) == ([2], [0, 2])
    np.testing.assert_allclose(two["boxes"][:2], sent, atol=1e-3)
    assert (two["probabilities"][:2] > 0.9).all()
    assert (none["count"].tolist(), none["probabilities"].any(), none["boxes"].any()) == ([0], False, False)
