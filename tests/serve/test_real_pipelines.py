"""Real models, texts and pictures that packages ship, against what those packages and their kind work out."""

import base64
from pathlib import Path

import numpy as np
import pytest
import skimage
from safetensors.numpy import load_file
from sklearn import datasets
from sklearn.linear_model import LogisticRegression
from tokenizers import Tokenizer
from wordllama.inference import WordLlamaInference

from loadtests.twins import service
from loadtests.twins.workload import WORKLOADS, embedding_files
from tests.serve.pipelines import IMAGES, column
from tests.serve.process import serving
from tests.serve.transports import Asked, infer_once

TEXTS = [
    "The quick brown fox jumps over the lazy dog.",
    "servekit answers HTTP and gRPC from one process",
    "Größe, naïveté, 東京 and 🚀 in one line",
    "a",
    "   spaces   everywhere   ",
    "word " * 400,
]
PICTURES = [
    IMAGES / "china.jpg",
    IMAGES / "flower.jpg",
    Path(skimage.data_dir) / "chelsea.png",
    Path(skimage.data_dir) / "coffee.png",
    Path(skimage.data_dir) / "rocket.jpg",
]
TOPICS = """
inputs: {text: string}
before:
  - use: tokenize
    with: {file: tokenizer.json, special_tokens: false}
  - model: text.raw
    from: input_ids
  - use: vectors.mean_pool
    from: [last_hidden_state, attention_mask]
  - use: vectors.l2_normalise
"""
# Both decode to the same pixels, but for a level here and there, and resize with bilinear filters of their own.
PROBABILITIES = 0.02


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    for name, workload in WORKLOADS.items():
        workload.write(folder / name)
    return folder


@pytest.fixture(scope="module")
def package():
    """The embedding as its own package computes it."""
    weights, tokenizer = embedding_files()
    return WordLlamaInference(load_file(weights)["embedding.weight"], Tokenizer.from_file(str(tokenizer)))


@pytest.fixture(scope="module")
def described():
    """What scikit-learn says of three of its datasets, line by line, and of which of them each line is."""
    loads = (datasets.load_iris, datasets.load_breast_cancer, datasets.load_diabetes)
    lines = [[line.strip() for line in load().DESCR.splitlines() if len(line.split()) > 3] for load in loads]
    return [line for some in lines for line in some], [topic for topic, some in enumerate(lines) for _ in some]


@pytest.fixture(scope="module")
def topics(root, package, described):
    """A classifier of such lines by their vectors, served behind the model that makes the vectors."""
    from skl2onnx import to_onnx

    lines, topics = described
    vectors = package.embed(lines[::2], norm=True)
    estimator = LogisticRegression(C=10, max_iter=1000).fit(vectors, topics[::2])
    folder = root / "topics"
    folder.mkdir()
    model = to_onnx(estimator, vectors[:1], options={"zipmap": False}, target_opset=17)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / "model.yaml").write_text(TOPICS)
    (folder / "tokenizer.json").write_bytes(embedding_files()[1].read_bytes())
    with (root / "text" / "model.yaml").open("a") as file:
        file.write("raw: true\n")
    return estimator


@pytest.fixture(scope="module")
def server(root, topics):
    del topics
    with serving(root) as process:
        yield process


@pytest.mark.parametrize("protocol", ["json", "triton-http", "triton-grpc"])
def test_texts_become_the_vectors_that_the_package_computes(server, package, protocol):
    expected = package.embed(TEXTS, norm=True)
    for text, vector in zip(TEXTS, expected, strict=True):
        found = infer_once(protocol, server, Asked("text", {"text": column([text])}))
        np.testing.assert_allclose(found["embedding"], [vector], atol=1e-6)
    together = infer_once(protocol, server, Asked("text", {"text": column(TEXTS)}))
    np.testing.assert_allclose(together["embedding"], expected, atol=1e-6)


@pytest.mark.parametrize("protocol", ["json", "triton-http", "triton-grpc"])
def test_texts_are_classified_by_their_vectors(server, package, topics, described, protocol):
    lines, known = described[0][1::2], described[1][1::2]
    vectors = package.embed(lines, norm=True)
    found = infer_once(protocol, server, Asked("topics", {"text": column(lines)}))
    np.testing.assert_allclose(found["probabilities"], topics.predict_proba(vectors), atol=1e-5)
    np.testing.assert_array_equal(found["label"], topics.predict(vectors))
    assert (found["label"] == known).mean() > 0.7
    for line, expected in zip(lines[:5], found["probabilities"], strict=False):
        alone = infer_once(protocol, server, Asked("topics", {"text": column([line])}))
        np.testing.assert_allclose(alone["probabilities"], [expected], atol=1e-6)


@pytest.mark.parametrize("protocol", ["triton-http", "triton-grpc"])
def test_pictures_are_seen_as_pillow_and_numpy_see_them(server, root, protocol):
    pictures = [path.read_bytes() for path in PICTURES]
    expected = service.pictures(root / "pictures")(pictures)
    found = infer_once(protocol, server, Asked("pictures", {"image": column(pictures)}))
    np.testing.assert_allclose(found["probabilities"], expected, atol=PROBABILITIES)
    in_base64 = [base64.b64encode(picture).decode() for picture in pictures]
    request = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [len(pictures)], "data": in_base64}]}
    status, answer = server.infer("pictures", request)
    assert status == 200
    again = np.reshape(answer["outputs"][0]["data"], answer["outputs"][0]["shape"])
    np.testing.assert_allclose(again, found["probabilities"], rtol=1e-6)
