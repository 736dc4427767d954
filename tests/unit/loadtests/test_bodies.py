"""What the bench sends is what it says it sends: each body, read by others' parsers, gives onnxruntime's answer."""

import json

import numpy as np
import onnxruntime
import pytest
from tritonclient.grpc import service_pb2

from loadtests import bodies, models


@pytest.fixture(scope="module", params=["tiny", "mlp"])
def model(request, tmp_path_factory):
    return models.write(tmp_path_factory.mktemp("models"), request.param)


def input_of(body):
    """The row in the body, and the shape that goes with it."""
    if body.encoding == "grpc":
        request = service_pb2.ModelInferRequest.FromString(body.message)
        return np.frombuffer(request.raw_input_contents[0], "<f4").reshape(tuple(request.inputs[0].shape))
    json_bytes = int(body.headers.get("Inference-Header-Content-Length", len(body.content)))
    described = json.loads(body.content[:json_bytes])["inputs"][0]
    tensor = np.frombuffer(body.content[json_bytes:], "<f4") if body.encoding == "binary" else described["data"]
    return np.asarray(tensor, np.float32).reshape(described["shape"])


@pytest.mark.parametrize("encoding", bodies.ENCODINGS)
def test_a_body_holds_the_row_whose_answer_is_expected(model, encoding):
    body = bodies.bodies(model)[encoding]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    assert body.accepts(session.run(["y"], {"x": input_of(body)})[0])


def test_a_grpc_body_is_one_frame(model):
    body = bodies.bodies(model)["grpc"]
    assert bodies.FRAME_HEAD.unpack_from(body.content) == (0, len(body.message))


def test_a_wrong_answer_is_not_accepted(model):
    body = bodies.bodies(model)["json"]
    assert not body.accepts(body.expected + np.float32(0.01))
    assert not body.accepts(body.expected[0])


def test_answers_are_read_in_every_encoding(model):
    body = bodies.bodies(model)["json"]
    shape, values = list(body.expected.shape), body.expected.ravel().tolist()
    plain = json.dumps({"outputs": [{"name": "y", "shape": shape, "data": values}]}).encode()
    head = json.dumps({"outputs": [{"name": "y", "shape": shape}]}).encode()
    response = service_pb2.ModelInferResponse(raw_output_contents=[body.expected.tobytes()])
    response.outputs.add(name="y", datatype="FP32", shape=shape)
    assert body.accepts(bodies.http_answer(plain, None))
    assert body.accepts(bodies.http_answer(head + body.expected.tobytes(), len(head)))
    assert body.accepts(bodies.grpc_answer(response.SerializeToString()))
