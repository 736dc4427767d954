"""Real models, texts and pictures that packages ship, against what those packages and their kind work out."""

import base64
from pathlib import Path

import numpy as np
import pytest
import skimage
from safetensors.numpy import load_file
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
# Both decode to the same pixels, but for a level here and there, and resize with bilinear filters of their own.
PROBABILITIES = 0.02


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    for name, workload in WORKLOADS.items():
        workload.write(folder / name)
    return folder


@pytest.fixture(scope="module")
def server(root):
    with serving(root) as process:
        yield process


@pytest.mark.parametrize("protocol", ["json", "triton-http", "triton-grpc"])
def test_texts_become_the_vectors_that_the_package_computes(server, protocol):
    weights, tokenizer = embedding_files()
    package = WordLlamaInference(load_file(weights)["embedding.weight"], Tokenizer.from_file(str(tokenizer)))
    expected = package.embed(TEXTS, norm=True)
    for text, vector in zip(TEXTS, expected, strict=True):
        found = infer_once(protocol, server, Asked("text", {"text": column([text])}))
        np.testing.assert_allclose(found["embedding"], [vector], atol=1e-6)
    together = infer_once(protocol, server, Asked("text", {"text": column(TEXTS)}))
    np.testing.assert_allclose(together["embedding"], expected, atol=1e-6)


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
