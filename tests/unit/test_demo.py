"""The bundled demo model is what its script trains."""

import numpy as np
import onnx
import onnxruntime
import pytest

from servekit.demo import MODEL_PATH, train

ACCURACY_MIN = 0.97
BYTES_MAX = 1_000_000


@pytest.fixture(scope="module")
def data() -> train.Digits:
    return train.digits()


@pytest.fixture(scope="module")
def trained(data) -> onnx.ModelProto:
    return train.exported(train.train(data))


def answers(model, images):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["digit", "probabilities"], {"image": images})


def contract(model: onnx.ModelProto):
    return [str(value) for value in (*model.graph.input, *model.graph.output)]


def test_the_demo_model_reads_digits_it_has_not_seen(data):
    read, probabilities = answers(MODEL_PATH, data.held_out_images)
    assert np.mean(read == data.held_out_digits) >= ACCURACY_MIN
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(probabilities.argmax(axis=1), read)


def test_the_demo_model_is_small():
    assert MODEL_PATH.stat().st_size < BYTES_MAX


def test_the_script_trains_the_demo_model_again(data, trained):
    """Not bit for bit: another version of a library may add numbers in another order."""
    read, _ = answers(trained.SerializeToString(), data.held_out_images)
    kept, _ = answers(MODEL_PATH, data.held_out_images)
    assert contract(trained) == contract(onnx.load(MODEL_PATH))
    assert np.mean(read == data.held_out_digits) >= ACCURACY_MIN
    assert np.mean(read == kept) >= ACCURACY_MIN


def test_a_row_of_the_demo_model_is_answered_alike_alone_and_in_a_batch(data):
    _, together = answers(MODEL_PATH, data.held_out_images[:16])
    alone = [answers(MODEL_PATH, data.held_out_images[row : row + 1])[1][0] for row in range(16)]
    assert np.allclose(together, alone, atol=1e-6)
