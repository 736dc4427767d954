"""One real request, or more, for every label of the catalogue, in each protocol in which it can be said."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.serve import models
from tests.serve.limit_cases import Group, body, message, placed, row, spin_message, tensor
from tests.serve.raw_frames import GRPC_FIELDS, INFER_PATH, Peer, Reply, prefixed
from tests.serve.raw_http import get, head, infer, post
from tests.serve.stubs import stub_module

PATH = "/v2/models/ident/infer"
G = b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","data":[1.5,-2.0,3.25]}]}'
FLOATS = ("x", "FP32", [1, 3], bytes(12))
GOOD = message("ident", FLOATS)
ENDLESS = body(tensor("n", "INT64", [1], [10**12]))


def broken(folder: Path) -> Path:
    """A file that is no model."""
    path = folder / "broken.onnx"
    path.write_bytes(b"\xff" * 64)
    return path


def flag(folder: Path) -> Path:
    """x BOOL [-1,3] -> y = x."""
    return models.same(folder, "BOOL")


GROUP = Group(
    limits={
        "in_flight_bytes_max": 2 * 2**20,
        "model_queue_requests_max": 1,
        "run_ms_max": 1_500,
        "header_read_ms_max": 200,
        "body_grace_ms_max": 200,
        "request_rows_max": 16,
        "arena_bytes_max": 16 * 2**20,
    },
    models=(models.ident, models.two, models.pick, models.grow, models.spin, flag, broken),
    environment=placed(ident="pool", spin="pool"),
)


@dataclass(frozen=True)
class Http:
    """Bytes of a request, and words that its answer's text must hold. The connection is tried again afterwards."""

    label: str
    request: bytes
    words: str
    fields: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Rpc:
    """A call, and words that its answer's text must hold."""

    label: str
    call: Callable[[Peer], Reply]
    words: str


def said(text: bytes) -> Callable[[Peer], Reply]:
    """A whole call of ModelInfer."""
    return lambda caller: caller.call(text)


def with_fields(*fields: tuple[str, str], path: str = INFER_PATH) -> Callable[[Peer], Reply]:
    """A good call with these fields."""
    return lambda caller: caller.call(GOOD, *fields, path=path)


def framed(framed_body: bytes, *fields: tuple[str, str]) -> Callable[[Peer], Reply]:
    """A call whose body is given with its prefix."""

    def call(caller: Peer) -> Reply:
        number, frames = caller.opened(INFER_PATH, framed_body, *GRPC_FIELDS, *fields)
        caller.send(*frames)
        return caller.answered(number)

    return call


def slow_message(caller: Peer) -> Reply:
    """The head and a part of the message."""
    number, frames = caller.called(GOOD)
    caller.send(frames[0])
    return caller.answered(number)


def parameters(**values: int) -> dict[str, object]:
    parameter = stub_module("open_inference_pb2").InferParameter
    return {name: parameter(int64_param=value) for name, value in values.items()}


def both_contents() -> bytes:
    request = stub_module("open_inference_pb2").ModelInferRequest.FromString(GOOD)
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3])
    return bytes(request.SerializeToString())


def length_field(value: object) -> str:
    return f"Inference-Header-Content-Length: {value}"


def behind(text: bytes, data: bytes) -> bytes:
    """A request with tensors behind its JSON."""
    return infer("ident", text + data, length_field(len(text)))


def announced(size: int, shape: Sequence[int] = (1, 3)) -> bytes:
    described = {"name": "x", "shape": list(shape), "datatype": "FP32", "parameters": {"binary_data_size": size}}
    return json.dumps({"inputs": [described]}).encode()


def only(model: str, *inputs: dict[str, object], **fields: object) -> bytes:
    return infer(model, body(*inputs, **fields))


X = row(1.5, -2.0, 3.25)
A = tensor("a", "FP32", [1, 2], [1, 2])
LARGE = 2**40
RANK = [1] * 17
DRAFTED = "unexpected shape for input 'x' for model 'ident'. Expected [-1,-1], got [3]"

HTTP: list[Http] = [
    Http("framing", head(f"POST {PATH} HTTP/1.1", "Host: x", "Content-Length: 1", "Transfer-Encoding: chunked"), ""),
    Http("framing", b"GET /v2 HTTP/1.1\r\nHost : x\r\n\r\n", ""),
    Http("uri", get("/" + "u" * 9216), "at most 8192 are allowed"),
    Http("headers", get("/v2", *(f"f{n}: v" for n in range(100))), "101 header fields, at most 100 are allowed"),
    Http("headers", get("/v2", "f: " + "v" * 17408), "at most 16384 are allowed"),
    Http("route", get("/v3/models"), "no route GET /v3/models: Not Found"),
    Http("method", get("/v2", method="DELETE"), "Method Not Allowed", [("allow", "GET, HEAD")]),
    Http("method", get(PATH), "Method Not Allowed", [("allow", "POST")]),
    Http("http_version", head("GET /v2 HTTP/3.0", "Host: x"), "1.0, 1.1 and 2 are allowed"),
    Http("media_type", infer("ident", G, "Content-Type: multipart/form-data"), "multipart/form-data found"),
    Http(
        "encoding",
        infer("ident", G, "Content-Encoding: br"),
        "Unsupported compression type",
        [("accept-encoding", "gzip, deflate")],
    ),
    Http(
        "body",
        head(f"POST {PATH} HTTP/1.1", "Host: x", f"Content-Length: {LARGE}"),
        "exceeds the maximum allowed input size",
    ),
    Http("read_timeout", b"GET /v2 HTTP/1.1\r\nHo", ""),
    Http("read_timeout", infer("ident", G)[:-70], "10 of 80"),
    Http("json", infer("ident", b'{"inputs":]'), "failed to parse the request JSON buffer"),
    Http("json", infer("ident", b'{"inputs":NaN}', length_field(14)), "failed to parse the request JSON buffer"),
    Http("json_depth", infer("ident", b"[" * 33), "at most 32 are allowed"),
    Http("field", infer("ident", G.replace(b"[1,3]", b"[1.5]")), "Unable to parse 'shape'"),
    Http("field", infer("ident", b"[]"), ""),
    Http("field", infer("ident", G, "x-request-timeout-ms: soon"), "x-request-timeout-ms 'soon' found"),
    Http("envelope", only("ident", X, parameters={f"p{n}": n for n in range(65)}), "at most 64 are allowed"),
    Http("duplicate", infer("ident", b'{"inputs":[],"inputs":[]}'), "key 'inputs' found twice"),
    Http(
        "reserved",
        only("ident", X, parameters={"triton_a": 1}),
        "parameter keys starting with 'triton_' are reserved for Triton usage",
    ),
    Http(
        "binary_header",
        infer("ident", G, length_field(99999999999)),
        "inference header size should be in range (0, 80), got: 99999999999",
    ),
    Http(
        "binary_header",
        infer("ident", announced(12)),
        "must specify valid 'Infer-Header-Content-Length' in request header",
    ),
    Http(
        "binary_length",
        behind(announced(12), bytes(11)),
        "unexpected size for input 'x', expecting 1 additional bytes for model 'ident'",
    ),
    Http("binary_length", behind(announced(12), bytes(13)), "unexpected additional input data for model 'ident'"),
    Http("model", only("nope", X), "unknown model: 'nope' is not found"),
    Http("model", get("/v2/models/ident/versions/9"), "version 9 is not found"),
    Http("model_failed", only("broken", X), "model 'broken'"),
    Http("tensor_name", only("ident", {**X, "name": "z"}), "unexpected inference input 'z' for model 'ident'"),
    Http("tensor_name", only("two", A), "expected 2 inputs but got 1 inputs for model 'two'"),
    Http("tensor_name", only("ident", X, outputs=[{"name": "z"}]), "unexpected inference output 'z' for model 'ident'"),
    Http(
        "datatype",
        only("ident", {**X, "datatype": "FP64"}),
        "inference input 'x' data-type is 'FP64', but model 'ident' expects 'FP32'",
    ),
    Http("shape", only("ident", {**X, "shape": [3]}), DRAFTED),
    Http("tensor_size", only("ident", {**X, "shape": RANK}), "rank 17, at most 16 are allowed"),
    Http(
        "rows",
        only("ident", tensor("x", "FP32", [17, 1], range(17))),
        "inference request batch-size must be <= 16 for 'ident'",
    ),
    Http(
        "byte_size",
        behind(announced(11), bytes(11)),
        "input byte size mismatch for input 'x' for model 'ident'. Expected 12, got 11",
    ),
    Http("value", infer("ident", G.replace(b"-2.0", b"1e999")), "input 'x' value 1"),
    Http("row", only("pick", tensor("i", "INT64", [1], [99])), "model 'pick' fails on this request alone"),
    Http("run_memory", only("grow", tensor("n", "INT64", [1, 2], [100_000, 100_000])), "raise arena_bytes_max"),
    Http("response", only("grow", tensor("n", "INT64", [1, 2], [600, 600])), "at most 1048576 are allowed"),
    Http("lane_lost", infer("spin", ENDLESS), "the lane that ran this batch of 'spin' ended"),
    Http(
        "deadline",
        infer("spin", ENDLESS, "x-request-timeout-ms: 50"),
        "the deadline allows 50 ms: Request timeout expired",
    ),
    Http(
        "management",
        post("/v2/repository/models/ident/load", b""),
        "explicit model load / unload is not allowed",
    ),
]

RPC: list[Rpc] = [
    Rpc("framing", framed(prefixed(GOOD)[:-3]), ""),
    Rpc("framing", framed(prefixed(GOOD, compressed=1)), ""),
    Rpc("headers", with_fields(*((f"f{n}", "v") for n in range(100))), "header fields, at most 100 are allowed"),
    Rpc("route", with_fields(path="/inference.GRPCInferenceService/Nope"), "Not Found"),
    Rpc("encoding", framed(prefixed(GOOD, compressed=1), ("grpc-encoding", "br")), "Unsupported compression type"),
    Rpc("body", framed(b"\0" + (2**32 - 1).to_bytes(4, "big")), "exceeds the maximum allowed input size"),
    Rpc("read_timeout", slow_message, ""),
    Rpc("field", with_fields(("grpc-timeout", "1x")), "grpc-timeout '1x' found"),
    Rpc(
        "envelope",
        lambda caller: caller.call(message("ident", FLOATS, parameters=parameters(**{f"p{n}": n for n in range(65)}))),
        "at most 64 are allowed",
    ),
    Rpc("duplicate", said(message("ident", FLOATS, FLOATS)), "input 'x' found twice"),
    Rpc(
        "reserved",
        lambda caller: caller.call(message("ident", FLOATS, parameters=parameters(triton_a=1))),
        "parameter keys starting with 'triton_' are reserved for Triton usage",
    ),
    Rpc("protobuf", said(GOOD + b"\x02\x00"), "numbers from 1 are allowed"),
    Rpc(
        "contents",
        lambda caller: caller.call(both_contents()),
        "contents field must not be specified when using raw_input_contents for 'x' for model 'ident'",
    ),
    Rpc("model", said(message("nope", FLOATS)), "unknown model: 'nope' is not found"),
    Rpc("model", said(message("ident", FLOATS, model_version="9")), "version 9 is not found"),
    Rpc("model_failed", said(message("broken", FLOATS)), "model 'broken'"),
    Rpc(
        "tensor_name",
        said(message("ident", ("z", *FLOATS[1:]))),
        "unexpected inference input 'z' for model 'ident'",
    ),
    Rpc(
        "datatype",
        said(message("ident", ("x", "FP64", [1, 3], bytes(24)))),
        "inference input 'x' data-type is 'FP64', but model 'ident' expects 'FP32'",
    ),
    Rpc("shape", said(message("ident", ("x", "FP32", [3], bytes(12)))), DRAFTED),
    Rpc("tensor_size", said(message("ident", ("x", "FP32", RANK, bytes(4)))), "rank 17, at most 16 are allowed"),
    Rpc(
        "rows",
        said(message("ident", ("x", "FP32", [17, 1], bytes(68)))),
        "inference request batch-size must be <= 16 for 'ident'",
    ),
    Rpc(
        "byte_size",
        said(message("ident", ("x", "FP32", [1, 3], bytes(11)))),
        "input byte size mismatch for input 'x' for model 'ident'. Expected 12, got 11",
    ),
    Rpc("value", said(message("same_BOOL", ("x", "BOOL", [1, 3], b"\0\1\2"))), "BOOL allows 0 and 1"),
    Rpc(
        "row",
        said(message("pick", ("i", "INT64", [1], (99).to_bytes(8, "little")))),
        "model 'pick' fails on this request alone",
    ),
    Rpc(
        "run_memory",
        said(message("grow", ("n", "INT64", [1, 2], (10**5).to_bytes(8, "little") * 2))),
        "arena_bytes_max",
    ),
    Rpc(
        "response",
        said(message("grow", ("n", "INT64", [1, 2], (600).to_bytes(8, "little") * 2))),
        "at most 1048576 are allowed",
    ),
    Rpc("lane_lost", said(spin_message(10**12)), "the lane that ran this batch of 'spin' ended"),
    Rpc(
        "deadline",
        lambda caller: caller.call(spin_message(10**12), ("grpc-timeout", "50m")),
        "the deadline allows 50 ms: Request timeout expired",
    ),
    Rpc(
        "management",
        with_fields(path="/inference.GRPCInferenceService/RepositoryModelLoad"),
        "explicit model load / unload is not allowed",
    ),
]

ARGUED = {
    "overloaded": "nobody is refused on an estimate yet: requests wait in the order in which they came",
    "loading": "the ports listen when the first models are ready or failed, and nothing loads models later yet",
    "load_time": "a load is not a request; the limit's own test meets it in the log",
    "abandoned": "only a defect drops a request",
    "internal": "only a defect makes one",
}
"""Labels that no request can meet, and why."""
SPECIAL = frozenset({"queue_full", "memory", "draining", "cancelled", "model_path", "model_file", "load_refused"})
"""Labels that take more than one request, or a load; each has a test of its own."""
