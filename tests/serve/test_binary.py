"""The binary tensor extension, by hand and by Triton's own client."""

import gzip
import http.client
import json
import zlib

import numpy as np
import pytest
import tritonclient.http

from tests.serve import models
from tests.serve.alive import G_VALUES, G, goes_on
from tests.serve.process import serving
from tests.serve.tensors import DTYPES, SAMPLES, datatype_of, from_json, same_bits, texts, to_json, to_raw
from tests.serve.transports import LENGTH_FIELD, Asked, binary_body, body_arrays, http_arrays, path_of

ROWS = np.array([[1.5, -2.0, 3.25], [0.0, 1e30, -7.0]], np.float32)
A, B = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for make in (models.ident, models.tiny, models.two, models.fixed, models.scalar, models.optional):
        make(folder)
    for name in DTYPES:
        models.same(folder, name)
    models.identity(folder, "words", "BYTES", ["N"])
    models.identity(folder, "cube", "FP32", ["N", "A", "B"])
    with serving(folder) as process:
        yield process


@pytest.fixture(scope="module")
def triton(server):
    with tritonclient.http.InferenceServerClient(server.http, concurrency=2, network_timeout=60) as client:
        yield client


@pytest.fixture
def send(server):
    def post(model, body, json_bytes=None, **headers):
        fields = {} if json_bytes is None else {LENGTH_FIELD: str(json_bytes)}
        fields |= {key.replace("_", "-"): value for key, value in headers.items()}
        return server.request("POST", path_of(model), body, fields)

    return post


def mixed(tensors, binary, **more):
    """A body whose tensors named in `binary` stand behind the JSON, and the length of that."""
    inputs, raw = [], b""
    for name, array in tensors.items():
        about = {"name": name, "shape": list(array.shape), "datatype": datatype_of(array)}
        if name in binary:
            data = to_raw(array)
            inputs.append(about | {"parameters": {"binary_data_size": len(data)}})
            raw += data
        else:
            inputs.append(about | {"data": to_json(array)})
    head = json.dumps({"inputs": inputs, **more}).encode()
    return head + raw, len(head)


def refused(answer, status, label):
    found, headers, body = answer
    assert (found, headers["servekit-refusal"]) == (status, label), body
    return json.loads(body)["error"]


# Bytes in, bytes out


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_travels_as_its_bytes(send, datatype):
    body, headers = binary_body(Asked(f"same_{datatype}", {"x": SAMPLES[datatype]}))
    status, answered, answer = send(f"same_{datatype}", body, headers[LENGTH_FIELD])
    assert status == 200, answer
    assert answered["content-type"] == "application/octet-stream"
    json_bytes = int(answered[LENGTH_FIELD.lower()])
    (output,) = json.loads(answer[:json_bytes])["outputs"]
    assert output == {
        "name": "y",
        "datatype": datatype,
        "shape": [2, 3],
        "parameters": {"binary_data_size": len(to_raw(SAMPLES[datatype]))},
    }
    assert answer[json_bytes:] == to_raw(SAMPLES[datatype])


@pytest.mark.parametrize("bits", [0x00000001, 0x7FC00001, 0xFFC12345, 0x80000000, 0x7F800000])
def test_no_bit_of_a_float_is_lost(send, bits):
    array = np.full((1, 3), bits, np.uint32).view(np.float32)
    body, headers = binary_body(Asked("ident", {"x": array}))
    found = http_arrays(*send("ident", body, headers[LENGTH_FIELD]))
    assert same_bits(found["y"], array)


@pytest.mark.parametrize("wanted", [(), ("a",), ("b",), ("a", "b")], ids=lambda names: "".join(names) or "none")
def test_json_and_binary_inputs_mix(send, wanted):
    body, json_bytes = mixed({"a": A, "b": B}, wanted)
    found = http_arrays(*send("two", body, json_bytes if wanted else None))
    np.testing.assert_array_equal(found["total"], A + B)
    np.testing.assert_array_equal(found["product"], A * B)


def test_binary_tensors_follow_in_the_order_of_the_json_not_of_the_model(send):
    body, json_bytes = mixed({"b": B, "a": np.zeros((1, 2), np.float32)}, ("a", "b"))
    assert http_arrays(*send("two", body, json_bytes))["total"].tolist() == B.tolist()


@pytest.mark.parametrize("every", [None, False, True])
@pytest.mark.parametrize("total", [None, False, True])
@pytest.mark.parametrize("product", [None, False, True])
def test_an_output_is_binary_where_it_or_else_the_request_says_so(send, every, total, product):
    outputs = [
        {"name": name} | ({} if binary is None else {"parameters": {"binary_data": binary}})
        for name, binary in (("total", total), ("product", product))
    ]
    more = {} if every is None else {"parameters": {"binary_data_output": every}}
    body, _ = mixed({"a": A, "b": B}, (), outputs=outputs, **more)
    status, headers, answer = send("two", body)
    assert status == 200, answer
    length = headers.get(LENGTH_FIELD.lower())
    expected = {
        "total": bool(every) if total is None else total,
        "product": bool(every) if product is None else product,
    }
    head = json.loads(answer[: None if length is None else int(length)])
    assert {output["name"]: "data" not in output for output in head["outputs"]} == expected
    assert (length is not None) == any(expected.values()), "the field is there if any output is binary"
    kind = "application/octet-stream" if any(expected.values()) else "application/json"
    assert headers["content-type"] == kind
    found = body_arrays(answer, None if length is None else int(length))
    np.testing.assert_array_equal(found["product"], A * B)
    np.testing.assert_array_equal(found["total"], A + B)


def test_binary_outputs_without_a_list_of_outputs(send):
    body, _ = mixed({"a": A, "b": B}, (), parameters={"binary_data_output": True})
    status, headers, answer = send("two", body)
    assert status == 200
    head = json.loads(answer[: int(headers[LENGTH_FIELD.lower()])])
    assert ["data" in output for output in head["outputs"]] == [False, False]


def test_json_alone_may_say_its_length(send):
    status, headers, answer = send("ident", G, len(G))
    assert status == 200
    assert LENGTH_FIELD.lower() not in headers
    assert json.loads(answer)["outputs"][0]["data"] == G_VALUES.ravel().tolist()


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BOOL"])
def test_the_size_may_be_left_out_where_the_shape_says_it(send, datatype):
    array = SAMPLES[datatype]
    about = {"name": "x", "shape": [2, 3], "datatype": datatype}
    head = json.dumps({"inputs": [about]}).encode()
    found = http_arrays(*send(f"same_{datatype}", head + to_raw(array), len(head)))
    assert same_bits(found["y"], array)


def test_empty_tensors_have_no_bytes(send):
    for shape in ((0, 3), (2, 0)):
        body, headers = binary_body(Asked("ident", {"x": np.zeros(shape, np.float32)}))
        assert http_arrays(*send("ident", body, headers[LENGTH_FIELD]))["y"].shape == shape


def test_a_scalar_and_a_default_travel_in_binary_too(send):
    body, headers = binary_body(Asked("scalar", {"x": np.array(2.5, np.float32)}))
    assert http_arrays(*send("scalar", body, headers[LENGTH_FIELD]))["y"] == np.float32(5)
    given = {"x": A, "scale": np.array([5, 7], np.float32)}
    body, headers = binary_body(Asked("optional", given))
    assert http_arrays(*send("optional", body, headers[LENGTH_FIELD]))["y"].tolist() == [[5, 14]]


def test_a_default_is_overridden_for_more_rows_than_a_batch_holds(send):
    x, scale = np.arange(400, dtype=np.float32).reshape(200, 2), np.array([5, 7], np.float32)
    for given, expected in (({"x": x, "scale": scale}, x * scale), ({"x": x}, x * np.array([1, 10], np.float32))):
        body, headers = binary_body(Asked("optional", given))
        assert same_bits(http_arrays(*send("optional", body, headers[LENGTH_FIELD]))["y"], expected)


# Length 0: the whole body is the tensor


@pytest.mark.parametrize(
    ("model", "array"),
    [
        ("ident", ROWS[:1]),
        ("ident", np.zeros((1, 0), np.float32)),
        ("tiny", np.array([[1, 2, 3, 4]], np.float32)),
        ("fixed", ROWS),
        ("same_INT64", SAMPLES["INT64"][:1]),
    ],
    ids=["open-axis", "empty", "one-row", "fixed", "integers"],
)
def test_a_body_may_be_the_bare_tensor(send, model, array):
    status, headers, answer = send(model, to_raw(array), 0)
    assert status == 200, answer
    json_bytes = int(headers[LENGTH_FIELD.lower()])
    assert 0 < json_bytes <= len(answer)
    (found,) = body_arrays(answer, json_bytes).values()
    if model == "tiny":
        body, fields = binary_body(Asked("tiny", {"x": array}))
        array = http_arrays(*send("tiny", body, fields[LENGTH_FIELD]))["y"]
    elif model == "fixed":
        array = -array
    assert same_bits(found, array)


@pytest.mark.parametrize(
    "text", [b"", b"plain", b"\xff\x00\xfe", b"x" * 70_000], ids=["empty", "plain", "binary", "long"]
)
def test_a_bare_text_is_one_element_without_its_length(send, text):
    found = http_arrays(*send("words", text, 0))["y"]
    assert found.shape == (1,)
    assert found[0] == text


@pytest.mark.parametrize(
    ("model", "size", "label"),
    [
        ("two", 16, "binary_header"),
        ("cube", 8, "binary_header"),
        ("fixed", 20, "byte_size"),
        ("ident", 13, "byte_size"),
        ("tiny", 12, "byte_size"),
    ],
    ids=["two-inputs", "two-open-axes", "short", "torn", "short-row"],
)
def test_a_bare_tensor_that_cannot_be_one_is_refused(send, model, size, label):
    refused(send(model, bytes(size), 0), 400, label)


# What the field may not say


@pytest.mark.parametrize("value", ["99999999999", "-1", "81", "abc", "", "1.0", "+80", "0x50", "80 80", "80,80"])
def test_a_length_out_of_range_or_no_number_is_refused(server, value):
    connection = http.client.HTTPConnection(server.http, timeout=30)
    connection.request("POST", path_of("ident"), G, {LENGTH_FIELD: value})
    answer = connection.getresponse()
    body = answer.read()
    assert (answer.status, answer.getheader("servekit-refusal")) == (400, "binary_header"), body
    goes_on(connection, closed=answer.will_close)
    connection.close()


def test_a_length_that_is_given_twice_is_refused(server):
    with server.connect() as wire:
        head = f"POST {path_of('ident')} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(G)}\r\n"
        wire.sendall(head.encode() + f"{LENGTH_FIELD}: 80\r\n".encode() * 2 + b"\r\n" + G)
        answer = http.client.HTTPResponse(wire)
        answer.begin()
        refusal = json.loads(answer.read())["error"]
        assert (answer.status, answer.getheader("servekit-refusal")) == (400, "binary_header"), refusal
        answer.close()


def test_binary_data_without_the_field_says_what_is_missing(send):
    head = json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}]}
    ).encode()
    text = refused(send("ident", head), 400, "binary_header")
    assert "must specify valid 'Infer-Header-Content-Length' in request header" in text


@pytest.mark.parametrize(
    ("size", "sent", "label"),
    [(12, 11, "binary_length"), (12, 13, "binary_length"), (11, 11, "byte_size"), (12, 0, "binary_length")],
)
def test_bytes_and_their_size_have_to_agree(send, size, sent, label):
    about = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [about]}).encode()
    refused(send("ident", head + bytes(sent), len(head)), 400, label)


# Compression


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
@pytest.mark.parametrize("model", ["ident", "same_BYTES"])
def test_the_field_counts_json_before_compression(send, coding, compress, model):
    array = ROWS if model == "ident" else SAMPLES["BYTES"]
    body, headers = binary_body(Asked(model, {"x": array}))
    found = http_arrays(*send(model, compress(body), headers[LENGTH_FIELD], Content_Encoding=coding))
    assert same_bits(found["y"], array)


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_plain_json_may_be_compressed(send, coding, compress):
    status, _, answer = send("ident", compress(G), Content_Encoding=coding)
    assert status == 200, answer
    assert same_bits(from_json(json.loads(answer)["outputs"][0]), G_VALUES)


def test_another_coding_is_refused_and_told_which_there_are(send):
    answer = send("ident", G, Content_Encoding="br")
    assert "Unsupported compression type" in refused(answer, 415, "encoding")
    assert answer[1]["accept-encoding"] == "gzip, deflate"


# Triton's client


@pytest.mark.parametrize("datatype", DTYPES)
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_triton_s_client_sends_and_reads_every_datatype(triton, datatype, binary):
    array = SAMPLES[datatype]
    tensor = tritonclient.http.InferInput("x", list(array.shape), datatype)
    # The client itself sends these two in binary only.
    tensor.set_data_from_numpy(array, binary_data=binary or datatype in ("FP16", "BF16"))
    for outputs in (
        None,
        [tritonclient.http.InferRequestedOutput("y", binary_data=binary or datatype in ("FP16", "BF16"))],
    ):
        result = triton.infer(f"same_{datatype}", [tensor], outputs=outputs, request_id="seven")
        found = result.as_numpy("y")
        if datatype == "BYTES" and found.dtype != np.object_:
            found = found.astype(np.object_)
        if datatype == "BYTES":
            found = texts(*[[e if isinstance(e, bytes) else e.encode() for e in row] for row in found])
        assert same_bits(found, array)
        assert result.get_response()["id"] == "seven"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_triton_s_client_may_compress(triton, coding):
    array = np.zeros((64, 1000), np.float32)
    array[:, ::7] = 1.5
    tensor = tritonclient.http.InferInput("x", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    result = triton.infer(
        "ident", [tensor], request_compression_algorithm=coding, response_compression_algorithm=coding
    )
    assert same_bits(result.as_numpy("y"), array)


def test_triton_s_client_asks_for_metadata_and_health(triton):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("ident")
    assert triton.is_model_ready("ident", "1")
    assert not triton.is_model_ready("nope")
    assert triton.get_server_metadata()["name"] == "servekit"
    assert triton.get_model_metadata("two")["inputs"][0] == {"name": "a", "datatype": "FP32", "shape": [-1, 2]}


def test_triton_s_client_reads_our_errors(triton):
    tensor = tritonclient.http.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(G_VALUES)
    with pytest.raises(tritonclient.http.InferenceServerException, match="unknown model: 'nope' is not found") as told:
        triton.infer("nope", [tensor])
    assert told.value.status() == "404"


def test_triton_s_client_runs_several_at_once(triton):
    tensor = tritonclient.http.InferInput("x", list(ROWS.shape), "FP32")
    tensor.set_data_from_numpy(ROWS)
    waiting = [triton.async_infer("ident", [tensor]) for _ in range(32)]
    assert all(same_bits(answer.get_result().as_numpy("y"), ROWS) for answer in waiting)
