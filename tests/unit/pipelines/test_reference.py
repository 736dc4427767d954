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


def test_texts_reach_a_model_as_they_were_sent():
    contract = model("own", [tensor("x", "BYTES", -1)], [tensor("y", "BYTES", -1)])
    answers = reference_run(
        plan("inputs: {x: bytes}", contract), [{"x": b"a\0"}, {"x": b""}], lambda _, inputs: {"y": inputs["x"]}
    )
    assert [answer["y"] for answer in answers] == [b"a\0", b""]
