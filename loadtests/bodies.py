"""One single-row request for each model in each encoding, and the answer that onnxruntime gives to it."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from loadtests.models import WIDTHS

Encoding = Literal["json", "binary", "grpc"]
ENCODINGS: tuple[Encoding, ...] = ("json", "binary", "grpc")
GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
FRAME_HEAD = struct.Struct(">BI")
SEED = 7
# Relative, and absolute as a share of the largest value.
TOLERANCES = (1e-4, 1e-5)

Row = NDArray[np.float32]


@dataclass(frozen=True)
class Body:
    """A request as it goes over the wire, and what belongs in the answer."""

    model: str
    encoding: Encoding
    content: bytes
    """For gRPC the message in its frame."""
    expected: Row

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that go with the content."""
        if self.encoding == "grpc":
            return {"content-type": "application/grpc", "te": "trailers"}
        if self.encoding == "json":
            return {"Content-Type": "application/json"}
        json_bytes = str(json_end(self.content))
        return {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": json_bytes}

    @property
    def message(self) -> bytes:
        """The gRPC message without its frame."""
        return self.content[FRAME_HEAD.size :]

    def accepts(self, answer: Row) -> bool:
        """True if the answer agrees with onnxruntime."""
        relative, absolute = TOLERANCES
        scale = absolute * float(np.abs(self.expected).max())
        return answer.shape == self.expected.shape and np.allclose(answer, self.expected, relative, scale)


def row_of(model: str) -> Row:
    """The row that is sent to the model, [1, width]."""
    return np.random.default_rng(SEED).random((1, WIDTHS[model][0]), np.float32)


def bodies(path: Path) -> dict[Encoding, Body]:
    """The requests for a model file that `models.write` wrote."""
    model, row = path.stem, row_of(path.stem)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = session.run(["y"], {"x": row})[0]
    encoded = {"json": json_request(row), "binary": binary_request(row), "grpc": grpc_request(model, row)}
    return {encoding: Body(model, encoding, encoded[encoding], expected) for encoding in ENCODINGS}


# Requests ------------------------------------------------------------------------------------------------------------


def described(row: Row, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON holds
    """The input as JSON describes it."""
    return {"name": "x", "shape": list(row.shape), "datatype": "FP32", **more}


def json_request(row: Row) -> bytes:
    """Each number is the shortest decimal that reads back as the same float32."""
    numbers = [float(str(number)) for number in row.ravel()]
    return json.dumps({"inputs": [described(row, data=numbers)]}, separators=(",", ":")).encode()


def binary_request(row: Row) -> bytes:
    """The binary tensor extension: JSON, then the bytes of the tensor; the answer is asked for in the same form."""
    given = described(row, parameters={"binary_data_size": row.nbytes})
    wanted = {"name": "y", "parameters": {"binary_data": True}}
    return json.dumps({"inputs": [given], "outputs": [wanted]}, separators=(",", ":")).encode() + row.tobytes()


def grpc_request(model: str, row: Row) -> bytes:
    """ModelInferRequest with raw contents, in a frame."""
    request = service_pb2.ModelInferRequest(model_name=model, raw_input_contents=[row.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=row.shape)
    message: bytes = request.SerializeToString()
    return FRAME_HEAD.pack(0, len(message)) + message


# Answers -------------------------------------------------------------------------------------------------------------


def json_end(content: bytes) -> int:
    """Where the JSON part of a binary body ends."""
    _, end = json.JSONDecoder().raw_decode(content.decode("latin-1"))
    return end


def http_answer(content: bytes, json_bytes: int | None) -> Row:
    """The output y; `json_bytes` is the answer's Inference-Header-Content-Length, None where all of it is JSON."""
    output = json.loads(content[:json_bytes])["outputs"][0]
    values = output["data"] if json_bytes is None else np.frombuffer(content[json_bytes:], "<f4")
    return np.asarray(values, np.float32).reshape(output["shape"])


def grpc_answer(message: bytes) -> Row:
    """The output y of a ModelInferResponse."""
    response = service_pb2.ModelInferResponse.FromString(message)
    return np.frombuffer(response.raw_output_contents[0], "<f4").reshape(tuple(response.outputs[0].shape))
