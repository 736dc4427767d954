import numpy as np
import pytest

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
