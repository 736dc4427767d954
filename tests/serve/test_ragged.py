"""Requests of different lengths at once: each is answered as if it were alone, in its own shape."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from onnx import helper

from tests.serve import models
from tests.serve.alive import unharmed
from tests.serve.process import serving
from tests.serve.raw_frames import peer
from tests.serve.transports import TRANSPORTS, Asked, RefusedError, framed_arrays, grpc_request

TABLE_ROWS, WIDTH, PLACES = 64, 16, 32
CALLERS, REQUESTS_EACH = 12, 15


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs, [output], **attributes)


def drawn(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def text(folder):
    """ids, mask INT64 [-1,-1] -> mean FP32 [-1,WIDTH] of what the mask shows, seen FP32 [-1,-1,WIDTH] by attention."""
    nodes = [
        node("Gather", ["table", "ids"], "e"),
        node("Cast", ["mask"], "m", to=models.KINDS["FP32"]),
        node("Unsqueeze", ["m", "axis_1"], "row"),
        node("Sub", ["one", "row"], "hidden"),
        node("Mul", ["hidden", "far"], "bias"),
        node("Transpose", ["e"], "keys", perm=[0, 2, 1]),
        node("MatMul", ["e", "keys"], "raw"),
        node("Add", ["raw", "bias"], "scores"),
        node("Softmax", ["scores"], "shares", axis=-1),
        node("MatMul", ["shares", "e"], "seen"),
        node("Unsqueeze", ["m", "axis_2"], "column"),
        node("Mul", ["seen", "column"], "kept"),
        node("ReduceSum", ["kept", "axis_1"], "sum", keepdims=0),
        node("ReduceSum", ["m", "axis_1"], "count", keepdims=1),
        node("Div", ["sum", "count"], "mean"),
    ]
    constants = {
        "table": drawn(TABLE_ROWS, WIDTH),
        "axis_1": np.array([1]),
        "axis_2": np.array([2]),
        "one": np.array(1, np.float32),
        "far": np.array(-1e4, np.float32),
    }
    inputs = [models.value(name, "INT64", ["N", "T"]) for name in ("ids", "mask")]
    outputs = [models.value("mean", "FP32", ["N", WIDTH]), models.value("seen", "FP32", ["N", "T", WIDTH])]
    return models.write(folder / "text.onnx", nodes, inputs, outputs, constants)


def greatest(folder):
    """x FP32 [-1,-1,3] -> y FP32 [-1,3], the greatest of each column: padding with zeros would be seen."""
    nodes = [node("ReduceMax", ["x"], "y", axes=[1], keepdims=0)]
    ends = [models.value("x", "FP32", ["N", "T", 3])], [models.value("y", "FP32", ["N", 3])]
    return models.write(folder / "greatest.onnx", nodes, *ends)


def places(folder):
    """ids INT64 [-1,-1] -> y FP32 [-1,-1,WIDTH], each id's row plus its place's; there are PLACES places."""
    nodes = [
        node("Gather", ["table", "ids"], "e"),
        node("Shape", ["ids"], "shape"),
        node("Gather", ["shape", "one"], "length"),
        node("Range", ["zero", "length", "one"], "numbers"),
        node("Gather", ["places", "numbers"], "p"),
        node("Add", ["e", "p"], "y"),
    ]
    constants = {"table": drawn(TABLE_ROWS, WIDTH), "places": drawn(PLACES, WIDTH)}
    constants |= {"zero": np.array(0), "one": np.array(1)}
    ends = [models.value("ids", "INT64", ["N", "T"])], [models.value("y", "FP32", ["N", "T", WIDTH])]
    return models.write(folder / "places.onnx", nodes, *ends, constants)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for make in (text, greatest, places, models.ident, models.tiny):
        make(folder)
    with serving(folder) as process:
        yield process


def text_request(random):
    shape = int(random.integers(1, 4)), int(random.lognormal(2.5, 0.8)) + 1
    mask = (random.random(shape) < 0.8).astype(np.int64)
    mask[:, 0] = 1
    # Now and then a caller hides all of a row, which must not see padding either.
    mask[0] *= random.random() < 0.9
    return Asked("text", {"ids": random.integers(0, TABLE_ROWS, shape), "mask": mask})


def greatest_request(random):
    shape = int(random.integers(1, 4)), int(random.integers(1, 20)), 3
    return Asked("greatest", {"x": -random.random(shape).astype(np.float32)})


def places_request(random):
    return Asked(
        "places",
        {"ids": random.integers(0, TABLE_ROWS, (int(random.integers(1, 4)), PLACES - int(random.integers(0, PLACES))))},
    )


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("transport", ["json", "binary", "grpc"])
@pytest.mark.parametrize("request_of", [text_request, greatest_request, places_request])
def test_each_of_many_lengths_is_answered_as_alone(server, transport, request_of):
    random = np.random.default_rng(7)
    requests = [[request_of(random) for _ in range(REQUESTS_EACH)] for _ in range(CALLERS)]
    with TRANSPORTS[transport](server) as infer:
        expected = [[infer(asked) for asked in asked_by_one] for asked_by_one in requests]
    start = Barrier(CALLERS)

    def call(asked_by_one):
        with TRANSPORTS[transport](server) as infer:
            start.wait(60)
            return [infer(asked) for asked in asked_by_one]

    with unharmed(server), ThreadPoolExecutor(CALLERS) as pool:
        for found, alone in zip(pool.map(call, requests), expected, strict=True):
            for answer, own in zip(found, alone, strict=True):
                assert_same(answer, own)


def test_requests_that_all_differ_in_length_share_runs(server):
    random = np.random.default_rng(3)
    inputs = [random.integers(0, TABLE_ROWS, (1, length)) for length in range(1, 121)]
    asked = [Asked("text", {"ids": ids, "mask": np.ones_like(ids)}) for ids in inputs]
    with TRANSPORTS["grpc"](server) as infer:
        expected = [infer(one) for one in asked]
    runs = server.metric("nv_inference_exec_count", model="text")
    with unharmed(server), peer(server) as caller:
        # In one write, so that one look of the server finds many of them, however busy the machine is.
        calls = [caller.called(grpc_request(one).SerializeToString()) for one in asked]
        caller.send(*(frame for _, frames in calls for frame in frames))
        for (number, _), alone in zip(calls, expected, strict=True):
            assert_same(framed_arrays(caller.answered(number).body), alone)
    assert server.metric("nv_inference_exec_count", model="text") - runs < len(asked)


@pytest.mark.parametrize("transport", ["binary", "grpc"])
def test_one_caller_s_wrong_lengths_are_no_other_s_fault(server, transport):
    ids = np.ones((1, 5), np.int64)
    wrong = Asked("text", {"ids": ids, "mask": np.ones((1, 4), np.int64)})
    right = Asked("text", {"ids": ids, "mask": ids})
    too_long = Asked("places", {"ids": np.ones((1, PLACES + 1), np.int64)})
    with TRANSPORTS[transport](server) as infer:
        alone = infer(right)
    start = Barrier(CALLERS)

    def call(number):
        with TRANSPORTS[transport](server) as infer:
            start.wait(60)
            asked = (right, wrong, too_long)[number % 3]
            for _ in range(REQUESTS_EACH):
                if asked is right:
                    assert_same(infer(asked), alone)
                else:
                    with pytest.raises(RefusedError) as refused:
                        infer(asked)
                    assert refused.value.label == "row"

    refused = CALLERS * 2 // 3 * REQUESTS_EACH
    with unharmed(server, row=refused), ThreadPoolExecutor(CALLERS) as pool:
        assert list(pool.map(call, range(CALLERS))) == [None] * CALLERS


def test_no_length_at_all_is_the_model_s_to_judge(server):
    with TRANSPORTS["binary"](server) as infer:
        answer = infer(Asked("places", {"ids": np.ones((2, 0), np.int64)}))
    assert answer["y"].shape == (2, 0, WIDTH)


def test_check_tells_which_lengths_are_mixed_and_why(tmp_path):
    expected = {
        text: ["1 to ", "of axis 'T' are mixed", "'mask' hides it by zeros"],
        places: [f"1 to {PLACES} of axis 'T' are mixed", "longer ones share runs by exact length: the model fails"],
        greatest: ["exact lengths only: padding a row", "changes output 'y'"],
        models.tiny: [],
    }
    for make, words in expected.items():
        command = [sys.executable, "-m", "servekit", "check", "--json", str(make(tmp_path))]
        ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
        (model,) = json.loads(ended.stdout)["models"]
        decided = dict(model["decisions"]).get("lengths")
        assert (decided is None) == (not words)
        assert all(word in decided for word in words), decided
