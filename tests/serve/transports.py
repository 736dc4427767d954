"""One inference said in every protocol: arrays in, arrays out, or the refusal that came instead.

Plain requests over a socket, and the clients that people use. Each transport is a context manager, so that a test can
keep its connection over many inferences.
"""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
import numpy as np
import tritonclient.grpc
import tritonclient.http
from google.protobuf.message import Message

from tests.serve.process import ServerProcess
from tests.serve.stubs import stub_module
from tests.serve.tensors import datatype_of, from_json, from_raw, to_json, to_raw

# A proxy that the machine has for the outside world is not asked for its own address.
os.environ.setdefault("no_grpc_proxy", "127.0.0.1")

BYTES_MAX = 256 * 2**20
CHANNEL_OPTIONS = [("grpc.max_receive_message_length", BYTES_MAX), ("grpc.max_send_message_length", BYTES_MAX)]
LENGTH_FIELD = "Inference-Header-Content-Length"
TIMEOUT_S = 60.0

Tensors = Mapping[str, np.ndarray]


@dataclass
class RefusedError(Exception):
    """An answer that is not a result: HTTP status or gRPC code name, label, text."""

    status: int | str
    label: str
    text: str


@dataclass
class Asked:
    """One inference as a test says it."""

    model: str
    inputs: Tensors
    outputs: Sequence[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


_PIECE_BYTES = 2**18
Infer = Callable[[Asked], dict[str, np.ndarray]]
Transport = Callable[[ServerProcess], AbstractContextManager[Infer]]


def json_body(asked: Asked) -> bytes:
    """The request as JSON alone."""
    inputs = [
        {"name": name, "shape": list(array.shape), "datatype": datatype_of(array), "data": to_json(array)}
        for name, array in asked.inputs.items()
    ]
    return json.dumps(_envelope(asked, inputs)).encode()


def binary_body(asked: Asked) -> tuple[bytes, dict[str, str]]:
    """The request with all tensors behind the JSON, and the field that says where they begin."""
    raw = [to_raw(array) for array in asked.inputs.values()]
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": datatype_of(array),
            "parameters": {"binary_data_size": len(data)},
        }
        for (name, array), data in zip(asked.inputs.items(), raw, strict=True)
    ]
    envelope = _envelope(asked, inputs)
    envelope["parameters"] = {"binary_data_output": True, **asked.parameters}
    head = json.dumps(envelope).encode()
    return b"".join([head, *raw]), {"Content-Type": "application/octet-stream", LENGTH_FIELD: str(len(head))}


def grpc_request(asked: Asked, *, typed: bool = False) -> Message:
    """The request as a message, with raw or typed contents."""
    messages = stub_module("open_inference_pb2")
    request = messages.ModelInferRequest(model_name=asked.model)
    for name, array in asked.inputs.items():
        tensor = request.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        if typed:
            _contents(tensor.contents, datatype_of(array)).extend(array.ravel().tolist())
        else:
            request.raw_input_contents.append(to_raw(array))
    for name in asked.outputs:
        request.outputs.add(name=name)
    return request


def inference_stub(channel: grpc.Channel) -> Any:
    """The generated stub of the inference service."""
    return stub_module("open_inference_pb2_grpc").GRPCInferenceServiceStub(channel)


def framed_arrays(body: bytes) -> dict[str, np.ndarray]:
    """Outputs of a gRPC answer as it came, with its length in front."""
    return message_arrays(stub_module("open_inference_pb2").ModelInferResponse.FromString(body[5:]))


def message_arrays(answer: Any) -> dict[str, np.ndarray]:
    """Outputs of a gRPC answer."""
    return {
        tensor.name: from_raw(raw, tensor.datatype, tensor.shape)
        for tensor, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)
    }


def body_arrays(body: bytes, json_bytes: int | None) -> dict[str, np.ndarray]:
    """Outputs of an HTTP answer, some of which may stand behind the JSON; every byte is used."""
    head = json.loads(body[:json_bytes])
    at = len(body) if json_bytes is None else json_bytes
    arrays = {}
    for output in head["outputs"]:
        if "data" in output:
            arrays[output["name"]] = from_json(output)
            continue
        size = output["parameters"]["binary_data_size"]
        arrays[output["name"]] = from_raw(body[at : at + size], output["datatype"], output["shape"])
        at += size
    assert at == len(body), (at, len(body))
    return arrays


def http_arrays(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, np.ndarray]:
    """Outputs of an HTTP answer, or its refusal; names of headers in lower case."""
    if status != 200:
        raise RefusedError(status, headers.get("servekit-refusal", ""), json.loads(body)["error"])
    length = headers.get(LENGTH_FIELD.lower())
    return body_arrays(body, None if length is None else int(length))


def rpc_refused(error: Any) -> RefusedError:
    """What a call that failed says."""
    labels = [value for key, value in error.trailing_metadata() or () if key == "servekit-refusal"]
    return RefusedError(error.code().name, labels[0] if labels else "", error.details() or "")


def path_of(model: str) -> str:
    """Where a model's inferences go."""
    return f"/v2/models/{model}/infer"


def _envelope(asked: Asked, inputs: list[dict[str, Any]]) -> dict[str, Any]:
    envelope: dict[str, Any] = {"inputs": inputs}
    if asked.outputs:
        envelope["outputs"] = [{"name": name} for name in asked.outputs]
    if asked.parameters:
        envelope["parameters"] = dict(asked.parameters)
    return envelope


def _contents(contents: Any, datatype: str) -> Any:
    names = {"BOOL": "bool", "INT64": "int64", "UINT64": "uint64", "FP32": "fp32", "FP64": "fp64", "BYTES": "bytes"}
    kind = names.get(datatype) or ("uint" if datatype.startswith("UINT") else "int")
    return getattr(contents, f"{kind}_contents")


@contextmanager
def _json(server: ServerProcess) -> Iterator[Infer]:
    with _connection(server) as send:
        yield lambda asked: send(asked, json_body(asked), {"Content-Type": "application/json"})


@contextmanager
def _binary(server: ServerProcess) -> Iterator[Infer]:
    with _connection(server) as send:
        yield lambda asked: send(asked, *binary_body(asked))


@contextmanager
def _connection(server: ServerProcess) -> Iterator[Callable[..., dict[str, np.ndarray]]]:
    connection = http.client.HTTPConnection(server.http, timeout=TIMEOUT_S)

    def send(asked: Asked, body: bytes, headers: dict[str, str]) -> dict[str, np.ndarray]:
        connection.request("POST", path_of(asked.model), body, headers)
        answer = connection.getresponse()
        return http_arrays(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    try:
        yield send
    finally:
        connection.close()


@contextmanager
def _httpx(server: ServerProcess) -> Iterator[Infer]:
    with httpx.Client(base_url=f"http://{server.http}", timeout=TIMEOUT_S, trust_env=False) as client:

        def infer(asked: Asked) -> dict[str, np.ndarray]:
            headers = {"Content-Type": "application/json"}
            answer = client.post(path_of(asked.model), content=json_body(asked), headers=headers)
            return http_arrays(answer.status_code, answer.headers, answer.content)

        yield infer


@contextmanager
def _httpx_http2(server: ServerProcess) -> Iterator[Infer]:
    base = f"http://{server.http}"
    with httpx.Client(base_url=base, http1=False, http2=True, timeout=TIMEOUT_S, trust_env=False) as client:

        def infer(asked: Asked) -> dict[str, np.ndarray]:
            body, headers = binary_body(asked)
            # In pieces, for the client copies the rest of a piece with every frame.
            pieces = (body[at : at + _PIECE_BYTES] for at in range(0, len(body), _PIECE_BYTES))
            headers["Content-Length"] = str(len(body))
            answer = client.post(path_of(asked.model), content=pieces, headers=headers)
            return http_arrays(answer.status_code, answer.headers, answer.content)

        yield infer


@contextmanager
def _grpc(server: ServerProcess, *, typed: bool = False) -> Iterator[Infer]:
    with grpc.insecure_channel(server.grpc, CHANNEL_OPTIONS) as channel:
        stub = inference_stub(channel)

        def infer(asked: Asked) -> dict[str, np.ndarray]:
            try:
                return message_arrays(stub.ModelInfer(grpc_request(asked, typed=typed), timeout=TIMEOUT_S))
            except grpc.RpcError as error:
                raise rpc_refused(error) from None

        yield infer


@contextmanager
def _triton_http(server: ServerProcess) -> Iterator[Infer]:
    with tritonclient.http.InferenceServerClient(server.http, network_timeout=TIMEOUT_S) as client:
        yield _triton(client, tritonclient.http)


@contextmanager
def _triton_grpc(server: ServerProcess) -> Iterator[Infer]:
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        yield _triton(client, tritonclient.grpc)


def _triton(client: Any, library: Any) -> Infer:
    def infer(asked: Asked) -> dict[str, np.ndarray]:
        inputs = []
        for name, array in asked.inputs.items():
            tensor = library.InferInput(name, list(array.shape), datatype_of(array))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        outputs = [library.InferRequestedOutput(name) for name in asked.outputs] or None
        result = client.infer(asked.model, inputs, outputs=outputs)
        answer = result.get_response()
        listed = answer["outputs"] if isinstance(answer, dict) else answer.outputs
        names = [output["name"] if isinstance(output, dict) else output.name for output in listed]
        return {name: result.as_numpy(name) for name in names}

    return infer


TRANSPORTS: dict[str, Transport] = {
    "json": _json,
    "binary": _binary,
    "httpx": _httpx,
    "httpx-http2": _httpx_http2,
    "grpc": _grpc,
    "grpc-typed": lambda server: _grpc(server, typed=True),
    "triton-http": _triton_http,
    "triton-grpc": _triton_grpc,
}


def infer_once(transport: str, server: ServerProcess, asked: Asked) -> dict[str, np.ndarray]:
    """One inference on a connection of its own."""
    with TRANSPORTS[transport](server) as infer:
        return infer(asked)
