"""Bad tensors and bad JSON: each case is answered as the catalogue says, in every protocol that can say it.

The groups T1 to T10 are those of the list of bad input; after each case the server is looked at from all sides.
"""

import http.client
import json
import struct
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from tests.serve import models
from tests.serve.alive import MIB, G, Standing, alive, goes_on, resident_bytes, tiny_session, unharmed
from tests.serve.process import serving
from tests.serve.stubs import stub_module
from tests.serve.tensors import same_bits
from tests.serve.transports import (
    CHANNEL_OPTIONS,
    LENGTH_FIELD,
    Asked,
    grpc_request,
    infer_once,
    inference_stub,
    json_body,
    message_arrays,
    path_of,
    rpc_refused,
)

SECONDS = 60.0
BATCH_ROWS_MAX = 64
REPEATS = 10
REPEAT_GROWTH_BYTES_MAX = 8 * MIB
JSON = {"Content-Type": "application/json"}
HALVES = ("FP16", "BF16")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for make in (models.ident, models.tiny, models.nonfinite, models.grow):
        make(folder)
    for name in ("BYTES", "BOOL", "FP16", "BF16", "FP32", "UINT64", "INT32", "UINT8"):
        models.same(folder, name)
    with serving(folder) as process:
        yield process


def post(server, model, body, headers=JSON, *, path=None):
    """One request; its connection is used once more behind the answer, or found closed."""
    connection = http.client.HTTPConnection(server.http, timeout=SECONDS)
    try:
        connection.request("POST", path or path_of(model), body, headers)
        answer = connection.getresponse()
        found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        goes_on(connection, closed=answer.will_close)
        return found
    finally:
        connection.close()


def refused(server, status, label, model, body, headers=JSON, **more):
    """The case is refused with this label, once, and nobody is harmed; the text of the refusal."""
    with unharmed(server, **{label: 1}):
        found, fields, answer = post(server, model, body, headers, **more)
        assert (found, fields["servekit-refusal"]) == (status, label), answer
    return json.loads(answer)["error"]


def rpc_refusal(server, request, label):
    """As `refused`, over gRPC."""
    with unharmed(server, **{label: 1}), grpc.insecure_channel(server.grpc, CHANNEL_OPTIONS) as channel:
        with pytest.raises(grpc.RpcError) as told:
            inference_stub(channel).ModelInfer(request, timeout=SECONDS)
        refusal = rpc_refused(told.value)
        assert (refusal.status, refusal.label) == ("INVALID_ARGUMENT", label), refusal
    return refusal.text


def answered(server, model, body, headers=JSON):
    """The case is answered, and nobody is harmed; the first output."""
    with unharmed(server):
        status, _, answer = post(server, model, body, headers)
        assert status == 200, answer
    return json.loads(answer)["outputs"][0]


def one(datatype, shape, data):
    """A body of one input, whose values and sizes are JSON text."""
    return f'{{"inputs":[{{"name":"x","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}'.encode()


def binary(datatype, shape, size, raw):
    """A body of one input with this size in its parameters and these bytes behind the JSON."""
    about = {"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [about]}).encode()
    return head + raw, {LENGTH_FIELD: str(len(head))}


def raw_message(model, datatype, shape, raw):
    messages = stub_module("open_inference_pb2")
    request = messages.ModelInferRequest(model_name=model, raw_input_contents=[raw])
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    return request


MANY = b"[" * 250_000


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":' + MANY,
        b'{"strange":' + MANY,
        b'{"parameters":{"strange":' + MANY,
        b'{"inputs":[{"name":"x","parameters":{"strange":' + MANY,
    ],
    ids=["data", "unknown-field", "parameter", "parameter-of-input"],
)
def test_t1_brackets_without_end_are_counted_not_followed(server, body):
    assert "at most 32 are allowed" in refused(server, 400, "json_depth", "ident", body)


def test_t1_what_the_data_ports_do_not_serve_is_not_even_read(server):
    refused(server, 404, "management", "ident", MANY, path="/v2/repository/index")


@pytest.mark.parametrize("opening", ["[", '{"k":'], ids=["arrays", "objects"])
def test_t1_as_many_open_brackets_as_are_allowed(server, opening):
    closing = "]" if opening == "[" else "}"

    def body(depth):
        inner = opening * (depth - 1) + "1" + closing * (depth - 1)
        return G[:-1] + f',"strange":{inner}}}'.encode()

    assert answered(server, "ident", body(32))["data"] == [1.5, -2.0, 3.25]
    refused(server, 400, "json_depth", "ident", body(33))


FAR = 1152921504606846978
SHAPES = {
    "product-past-64-bits": ([16, FAR], "tensor_size"),
    "product-that-wraps-to-8": ([4, FAR], "tensor_size"),
    "product-that-wraps-to-0": ([4294967296, 4294967296], "tensor_size"),
    "17-axes": ([1] * 17, "tensor_size"),
    "a-million-axes": ([1] * 10**6, "tensor_size"),
    "negative": ([-5], "shape"),
    "no-axes": ([], "shape"),
}


@pytest.mark.parametrize(("shape", "label"), SHAPES.values(), ids=SHAPES)
def test_t2_a_shape_is_checked_before_anything_is_reserved(server, shape, label):
    refused(server, 400, label, "ident", one("FP32", json.dumps(shape), "[1.0]"))
    refused(server, 400, label, "ident", *binary("FP32", shape, 4, bytes(4)))
    rpc_refusal(server, raw_message("ident", "FP32", shape, bytes(4)), label)


@pytest.mark.parametrize(
    ("shape", "label"), [("[9223372036854775808]", "tensor_size"), ("[1.5]", "field"), ('["1"]', "field")]
)
def test_t2_a_shape_that_only_json_can_say(server, shape, label):
    refused(server, 400, label, "ident", one("FP32", shape, "[1.0]"))


@pytest.mark.parametrize(
    ("size", "sent", "label"), [(12, 11, "binary_length"), (12, 13, "binary_length"), (11, 11, "byte_size")]
)
def test_t3_bytes_have_to_be_as_many_as_announced_and_as_needed(server, size, sent, label):
    refused(server, 400, label, "ident", *binary("FP32", [1, 3], size, bytes(sent)))


@pytest.mark.parametrize("sent", [11, 13])
def test_t3_raw_contents_have_to_be_as_many_as_needed(server, sent):
    text = rpc_refusal(server, raw_message("ident", "FP32", [1, 3], bytes(sent)), "byte_size")
    assert f"input byte size mismatch for input 'x' for model 'ident'. Expected 12, got {sent}" in text


@pytest.mark.parametrize(
    "raw",
    [
        b"\xff\xff\xff\xff" + b"abcd",
        struct.pack("<I", 2) + b"ab" + struct.pack("<I", 9) + b"cd",
        struct.pack("<I", 0) * 2,
        struct.pack("<I", 0) * 4,
        struct.pack("<I", 0) * 3 + b"\0",
    ],
    ids=["length-of-4-gib", "second-runs-past-the-end", "one-too-few", "one-too-many", "torn-length"],
)
def test_t3_elements_have_to_end_where_the_bytes_do(server, raw):
    refused(server, 400, "byte_size", "same_BYTES", *binary("BYTES", [1, 3], len(raw), raw))
    rpc_refusal(server, raw_message("same_BYTES", "BYTES", [1, 3], raw), "byte_size")


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("FP32", "1e999"),
        ("UINT64", "18446744073709551616"),
        ("INT32", "3.7"),
        ("UINT8", "256"),
        ("FP32", "true"),
        ("FP32", "null"),
        ("FP32", "1" * 400),
        ("UINT8", "-1"),
        ("INT32", '"1"'),
        ("BOOL", "2"),
        ("BYTES", "1"),
        ("FP16", "65520"),
        ("FP32", '"nan"'),
    ],
)
def test_t4_a_value_that_its_datatype_cannot_hold_is_named(server, datatype, value):
    good = {"BOOL": "true", "BYTES": '"a"'}.get(datatype, "1")
    text = refused(server, 400, "value", f"same_{datatype}", one(datatype, "[1,3]", f"[{good},{value},{good}]"))
    assert "'x'" in text
    assert "value 1 is" in text


def test_t4_the_smallest_numbers_are_rounded_not_refused(server):
    (minus, tiny, one_) = answered(server, "ident", one("FP32", "[1,3]", "[-0,1e-400,1]"))["data"]
    assert struct.pack("<3f", minus, tiny, one_) == struct.pack("<3f", -0.0, 0.0, 1.0)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_t5_bare_words_are_not_json(server, literal):
    refused(server, 400, "json", "ident", one("FP32", "[1,3]", f"[1,{literal},2]"))


def test_t5_what_is_not_finite_leaves_as_strings_or_bits(server):
    zeros = np.zeros((2, 3), np.float32)
    body = json_body(Asked("nonfinite", {"x": zeros}))
    assert answered(server, "nonfinite", body)["data"] == ["NaN", "Infinity", "-Infinity"] * 2
    with unharmed(server):
        for transport in ("binary", "grpc", "triton-http", "triton-grpc"):
            found = infer_once(transport, server, Asked("nonfinite", {"x": zeros}))["y"]
            assert np.isnan(found[:, 0]).all(), transport
            assert found[:, 1:].tolist() == [[np.inf, -np.inf]] * 2, transport


def test_t5_the_bits_are_those_that_the_model_gave(server):
    with unharmed(server):
        found = infer_once("binary", server, Asked("nonfinite", {"x": np.zeros((1, 3), np.float32)}))["y"]
        again = infer_once("grpc", server, Asked("nonfinite", {"x": np.zeros((1, 3), np.float32)}))["y"]
    assert same_bits(found, again)
    assert found.view(np.uint32).ravel().tolist() == [0x7FC00000, 0x7F800000, 0xFF800000]


@pytest.mark.parametrize(
    ("body", "label"),
    [
        (one("BYTES", "[1,3]", r'["\ud800","",""]'), "json"),
        (one("BYTES", "[1,3]", '["","",""]').replace(b'""', b'"\xff"', 1), "json"),
        (b"\xef\xbb\xbf" + one("BYTES", "[1,3]", '["","",""]'), "json"),
        (b'{"' + b"k" * 10**6 + b'":1,' + one("BYTES", "[1,3]", '["","",""]')[1:], "envelope"),
        (b'{"inputs":[],' + one("BYTES", "[1,3]", '["","",""]')[1:], "duplicate"),
    ],
    ids=["half-a-pair", "not-utf8", "byte-order-mark", "long-key", "key-twice"],
)
def test_t6_text_that_is_no_good_json_is_refused(server, body, label):
    refused(server, 400, label, "same_BYTES", body)


def test_t6_a_zero_byte_is_a_byte(server):
    output = answered(server, "same_BYTES", one("BYTES", "[1,3]", r'["a\u0000b","\ud83d\ude00",""]'))
    assert output["data"] == ["a\0b", "\U0001f600", ""]


@pytest.mark.parametrize("transport", ["json", "binary", "grpc", "grpc-typed"])
@pytest.mark.parametrize("rows", [BATCH_ROWS_MAX + 1, 65_536])
def test_t7_more_rows_than_a_batch_are_split_and_answered_as_one(server, transport, rows):
    array = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)
    with unharmed(server):
        runs = server.metric("nv_inference_exec_count", model="tiny")
        found = infer_once(transport, server, Asked("tiny", {"x": array}))["y"]
        runs = server.metric("nv_inference_exec_count", model="tiny") - runs
        np.testing.assert_allclose(found, tiny_session().run(None, {"x": array})[0], rtol=0, atol=1e-6)
    assert runs >= -(-rows // BATCH_ROWS_MAX)


@pytest.mark.parametrize("rows", [65_537, 10**6])
def test_t7_too_many_rows_are_refused(server, rows):
    text = f"inference request batch-size must be <= 65536 for 'tiny', {rows} found"
    data = "[" + "1," * (4 * rows - 1) + "1]"
    assert text in refused(server, 400, "rows", "tiny", one("FP32", f"[{rows},4]", data))
    assert text in refused(server, 400, "rows", "tiny", *binary("FP32", [rows, 4], 16 * rows, bytes(16 * rows)))
    assert text in rpc_refusal(server, raw_message("tiny", "FP32", [rows, 4], bytes(16 * rows)), "rows")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_t8_what_curl_says_of_json_is_believed(server, kind):
    assert answered(server, "ident", G, {"Content-Type": kind})["data"] == [1.5, -2.0, 3.25]


def test_t8_forms_with_parts_are_not_read(server):
    refused(server, 415, "media_type", "ident", G, {"Content-Type": "multipart/form-data; boundary=x"})


@pytest.mark.parametrize(("body", "label"), [(b"", "json"), (b"null", "field"), (b"[]", "field"), (b'"x"', "field")])
def test_t8_a_request_is_an_object(server, body, label):
    refused(server, 400, label, "ident", body)


@pytest.mark.parametrize("datatype", HALVES)
def test_t9_half_floats_have_two_bytes_each(server, datatype):
    refused(server, 400, "byte_size", f"same_{datatype}", *binary(datatype, [1, 3], 5, bytes(5)))
    rpc_refusal(server, raw_message(f"same_{datatype}", datatype, [1, 3], bytes(5)), "byte_size")


def test_t9_a_boolean_is_zero_or_one(server):
    refused(server, 400, "value", "same_BOOL", *binary("BOOL", [1, 3], 3, b"\0\1\2"))
    rpc_refusal(server, raw_message("same_BOOL", "BOOL", [1, 3], b"\0\1\2"), "value")


@pytest.mark.parametrize("transport", ["binary", "grpc"])
def test_t9_the_smallest_float_keeps_its_bits(server, transport):
    array = np.array([[1, 0x80000001, 0x007FFFFF]], np.uint32).view(np.float32)
    with unharmed(server):
        assert same_bits(infer_once(transport, server, Asked("same_FP32", {"x": array}))["y"], array)


@pytest.mark.parametrize("transport", ["json", "grpc"])
def test_t10_a_run_without_memory_harms_no_other(server, transport):
    huge, small = ({"n": np.array([shape], np.int64)} for shape in ([100_000, 100_000], [2, 2]))
    beside = [np.array([[1, n + 1]], np.int64) for n in range(63)]
    with unharmed(server, run_memory=1):
        if transport == "grpc":
            answers, refusal = _beside_by_grpc(server, huge, beside)
        else:
            answers, refusal = _beside_by_json(server, huge, beside)
        assert (refusal.status, refusal.label) in ((413, "run_memory"), ("RESOURCE_EXHAUSTED", "run_memory"))
        for shape, found in zip(beside, answers, strict=True):
            assert same_bits(found["y"], np.ones(shape.ravel().tolist(), np.float32))
        assert server.request("GET", "/v2/models/grow/ready")[0] == 200
        assert infer_once(transport, server, Asked("grow", small))["y"].tolist() == [[1, 1], [1, 1]]


def _beside_by_grpc(server, huge, beside):
    with grpc.insecure_channel(server.grpc, CHANNEL_OPTIONS) as channel:
        stub = inference_stub(channel)
        inputs = [{"n": shape} for shape in beside]
        inputs.insert(31, huge)
        calls = [stub.ModelInfer.future(grpc_request(Asked("grow", each)), timeout=SECONDS) for each in inputs]
        refusal = rpc_refused(calls.pop(31).exception())
        return [message_arrays(call.result()) for call in calls], refusal


def _beside_by_json(server, huge, beside):
    with ThreadPoolExecutor(len(beside) + 1) as pool:
        calls = [pool.submit(infer_once, "json", server, Asked("grow", {"n": shape})) for shape in beside]
        refusal = pool.submit(infer_once, "json", server, Asked("grow", huge)).exception()
        return [call.result() for call in calls], refusal


# Again and again


@pytest.mark.parametrize(
    ("model", "body", "label"),
    [
        ("ident", b'{"strange":' + MANY, "json_depth"),
        ("ident", one("FP32", json.dumps([1] * 10**6), "[1.0]"), "tensor_size"),
        ("ident", one("FP32", "[1,3]", "[1,NaN,2]"), "json"),
        ("grow", json_body(Asked("grow", {"n": np.array([[100_000, 100_000]], np.int64)})), "run_memory"),
    ],
    ids=["depth", "axes", "literal", "memory"],
)
def test_repeated_mistakes_do_not_add_up(server, model, body, label):
    post(server, model, body)
    alive(server)
    before, first = Standing.of(server), resident_bytes(server)
    for _ in range(REPEATS):
        post(server, model, body)
    alive(server, before, {label: REPEATS})
    assert resident_bytes(server) <= first + REPEAT_GROWTH_BYTES_MAX
