"""gRPC by plain grpcio, sync and aio, by the health package, and by Triton's client."""

import grpc
import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc

from tests.serve import models
from tests.serve.alive import G_VALUES
from tests.serve.process import serving
from tests.serve.stubs import stub_module
from tests.serve.tensors import DTYPES, SAMPLES, from_raw, same_bits, to_raw
from tests.serve.transports import (
    CHANNEL_OPTIONS,
    Asked,
    RefusedError,
    grpc_request,
    infer_once,
    inference_stub,
    message_arrays,
    rpc_refused,
)

SERVICE = "inference.GRPCInferenceService"
RAW_ONLY = ("FP16", "BF16")
SECONDS = 30.0
STREAMS = 256
# More turns than any deadline in this file allows.
LONG_SPIN = np.array([10**12], np.int64)
GOOD = Asked("ident", {"x": G_VALUES})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for make in (models.ident, models.tiny, models.two, models.scalar, models.fixed, models.optional, models.spin):
        make(folder)
    for name in DTYPES:
        models.same(folder, name)
    with serving(folder) as process:
        yield process


@pytest.fixture(scope="module", params=["http", "grpc"])
def channel(server, request):
    """Each test runs on both data ports."""
    with grpc.insecure_channel(server.data_ports[request.param], CHANNEL_OPTIONS) as channel:
        grpc.channel_ready_future(channel).result(SECONDS)
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return inference_stub(channel)


@pytest.fixture(scope="module")
def triton(server):
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        yield client


def message(kind, **fields):
    return getattr(stub_module("open_inference_pb2"), kind)(**fields)


def refused(call, code, label):
    with pytest.raises(grpc.RpcError) as told:
        call()
    refusal = rpc_refused(told.value)
    assert (refusal.status, refusal.label) == (code, label), refusal
    return refusal.text


# The six rpcs


def test_health_of_server_and_model(stub):
    assert stub.ServerLive(message("ServerLiveRequest"), timeout=SECONDS).live
    assert stub.ServerReady(message("ServerReadyRequest"), timeout=SECONDS).ready
    assert stub.ModelReady(message("ModelReadyRequest", name="ident"), timeout=SECONDS).ready
    assert stub.ModelReady(message("ModelReadyRequest", name="ident", version="1"), timeout=SECONDS).ready


def test_metadata_of_server_and_model(stub):
    about = stub.ServerMetadata(message("ServerMetadataRequest"), timeout=SECONDS)
    assert about.name == "servekit"
    assert "binary_tensor_data" in about.extensions
    model = stub.ModelMetadata(message("ModelMetadataRequest", name="two"), timeout=SECONDS)
    assert (model.name, list(model.versions), model.platform) == ("two", ["1"], "onnxruntime_onnx")
    assert [(end.name, end.datatype, list(end.shape)) for end in model.inputs] == [
        ("a", "FP32", [-1, 2]),
        ("b", "FP32", [-1, 2]),
    ]
    assert [end.name for end in model.outputs] == ["total", "product"]


def test_the_metadata_is_that_of_rest(stub, server):
    import json

    for name in ("ident", "scalar", "fixed", "same_BYTES"):
        model = stub.ModelMetadata(message("ModelMetadataRequest", name=name), timeout=SECONDS)
        rest = json.loads(server.request("GET", f"/v2/models/{name}")[2])
        for ends in ("inputs", "outputs"):
            found = [{"name": e.name, "datatype": e.datatype, "shape": list(e.shape)} for e in getattr(model, ends)]
            assert found == rest[ends]


@pytest.mark.parametrize("datatype", DTYPES)
def test_raw_contents_come_back_bit_for_bit(stub, datatype):
    request = grpc_request(Asked(f"same_{datatype}", {"x": SAMPLES[datatype]}))
    answer = stub.ModelInfer(request, timeout=SECONDS)
    assert (answer.model_name, answer.model_version) == (f"same_{datatype}", "1")
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("y", datatype, [2, 3])
    assert not output.HasField("contents")
    assert answer.raw_output_contents[0] == to_raw(SAMPLES[datatype])


@pytest.mark.parametrize("datatype", [name for name in DTYPES if name not in RAW_ONLY])
def test_typed_contents_come_back_bit_for_bit(stub, datatype):
    request = grpc_request(Asked(f"same_{datatype}", {"x": SAMPLES[datatype]}), typed=True)
    assert same_bits(message_arrays(stub.ModelInfer(request, timeout=SECONDS))["y"], SAMPLES[datatype])


@pytest.mark.parametrize("datatype", RAW_ONLY)
def test_half_floats_have_no_typed_contents(stub, datatype):
    request = message("ModelInferRequest", model_name=f"same_{datatype}")
    tensor = request.inputs.add(name="x", datatype=datatype, shape=[1, 3])
    tensor.contents.fp32_contents.extend([1, 2, 3])
    refused(lambda: stub.ModelInfer(request, timeout=SECONDS), "INVALID_ARGUMENT", "contents")


@pytest.mark.parametrize("typed", [False, True], ids=["raw", "typed"])
@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_an_empty_tensor_is_a_tensor(stub, shape, typed):
    request = grpc_request(Asked("ident", {"x": np.zeros(shape, np.float32)}), typed=typed)
    assert message_arrays(stub.ModelInfer(request, timeout=SECONDS))["y"].shape == shape


@pytest.mark.parametrize("typed", [False, True], ids=["raw", "typed"])
def test_scalars_defaults_and_fixed_batches(stub, typed):
    def infer(model, **inputs):
        return message_arrays(stub.ModelInfer(grpc_request(Asked(model, inputs), typed=typed), timeout=SECONDS))["y"]

    assert infer("scalar", x=np.array(2.5, np.float32)) == np.float32(5)
    x = np.array([[1, 2]], np.float32)
    assert infer("optional", x=x).tolist() == [[1, 20]]
    assert infer("optional", x=x, scale=np.array([3, 4], np.float32)).tolist() == [[3, 8]]
    assert infer("fixed", x=np.ones((2, 3), np.float32)).tolist() == [[-1] * 3] * 2


@pytest.mark.parametrize("wanted", [(), ("product",), ("product", "total")], ids=lambda names: "-".join(names) or "all")
def test_the_outputs_that_are_asked_for_are_answered(stub, wanted):
    a, b = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)
    answer = stub.ModelInfer(grpc_request(Asked("two", {"b": b, "a": a}, outputs=wanted)), timeout=SECONDS)
    found = message_arrays(answer)
    assert list(found) == list(wanted or ("total", "product"))
    assert found["product"].tolist() == (a * b).tolist()


def test_an_id_is_echoed_and_what_nobody_knows_is_ignored(stub):
    request = grpc_request(GOOD)
    request.id = "größe 7"
    request.parameters["mood"].string_param = "good"
    request.parameters["deep"].double_param = 3.5
    request.inputs[0].parameters["yes"].bool_param = True
    request.outputs.add(name="y").parameters["n"].uint64_param = 2**63
    answer = stub.ModelInfer(request, timeout=SECONDS)
    assert answer.id == "größe 7"
    assert message_arrays(answer)["y"].tolist() == G_VALUES.tolist()


# Refusals


def test_an_unknown_rpc_is_not_implemented(channel):
    for path in (f"/{SERVICE}/ModelStreamInfer", f"/{SERVICE}/Nope", "/nope.Nope/Nope"):
        call = channel.unary_unary(path)
        refused(lambda call=call: call(b"", timeout=SECONDS), "UNIMPLEMENTED", "route")


@pytest.mark.parametrize("name", ["RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "LogSettings"])
def test_the_data_ports_cannot_manage(channel, name):
    call = channel.unary_unary(f"/{SERVICE}/{name}")
    refused(lambda: call(b"", timeout=SECONDS), "UNIMPLEMENTED", "management")


def test_unknown_models_and_versions_are_not_found(stub):
    for request in (grpc_request(Asked("nope", GOOD.inputs)), message("ModelInferRequest", model_name="nope")):
        text = refused(lambda request=request: stub.ModelInfer(request, timeout=SECONDS), "NOT_FOUND", "model")
        assert "unknown model: 'nope' is not found" in text
    for name, version, text in (("nope", "", "'nope' is not found"), ("ident", "9", "version 9 is not found")):
        request = message("ModelMetadataRequest", name=name, version=version)
        assert text in refused(
            lambda request=request: stub.ModelMetadata(request, timeout=SECONDS), "NOT_FOUND", "model"
        )
        ready = stub.ModelReady(message("ModelReadyRequest", name=name, version=version), timeout=SECONDS)
        assert not ready.ready, "as Triton answers it: no error, and not ready"


def _wrong_datatype(request):
    request.inputs[0].datatype = "FP64"


def _wrong_shape(request):
    request.inputs[0].shape[:] = [3]


def _wrong_name(request):
    request.inputs[0].name = "z"


def _short(request):
    request.raw_input_contents[0] = bytes(11)


def _both(request):
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3])


def _two_buffers(request):
    request.raw_input_contents.append(bytes(12))


def _no_contents(request):
    del request.raw_input_contents[:]


def _twice(request):
    request.inputs.append(request.inputs[0])
    request.raw_input_contents.append(bytes(12))


def _unknown_output(request):
    request.outputs.add(name="z")


@pytest.mark.parametrize(
    ("spoil", "label"),
    [
        (_wrong_datatype, "datatype"),
        (_wrong_shape, "shape"),
        (_wrong_name, "tensor_name"),
        (_short, "byte_size"),
        (_both, "contents"),
        (_two_buffers, "contents"),
        (_no_contents, "contents"),
        (_twice, "duplicate"),
        (_unknown_output, "tensor_name"),
    ],
)
def test_a_mistake_is_the_caller_s_and_says_so(stub, spoil, label):
    request = grpc_request(GOOD)
    request.id = "7"
    spoil(request)
    text = refused(lambda: stub.ModelInfer(request, timeout=SECONDS), "INVALID_ARGUMENT", label)
    assert text.startswith("[request id: 7] ")


def test_an_id_beyond_ascii_is_escaped_in_a_text(stub):
    request = grpc_request(GOOD)
    request.id = "größe % \U0001f600"
    request.model_name = "ident"
    request.inputs[0].datatype = "FP64"
    text = refused(lambda: stub.ModelInfer(request, timeout=SECONDS), "INVALID_ARGUMENT", "datatype")
    assert text.startswith(r"[request id: gr\u{f6}\u{df}e % \u{1f600}] "), "what was sent is quoted with escapes"


def test_a_refusal_is_the_same_in_every_transport(server):
    asked = Asked("tiny", {"x": np.zeros((1, 5), np.float32)})
    found = {}
    for transport in ("json", "binary", "httpx-http2", "grpc", "grpc-typed"):
        with pytest.raises(RefusedError) as told:
            infer_once(transport, server, asked)
        found[transport] = (told.value.label, told.value.text)
    assert len(set(found.values())) == 1, found
    assert "unexpected shape for input 'x' for model 'tiny'. Expected [-1,4], got [1,5]" in found["grpc"][1]


def test_a_raw_answer_of_strings_has_their_lengths(stub):
    request = grpc_request(Asked("same_BYTES", {"x": SAMPLES["BYTES"]}))
    answer = stub.ModelInfer(request, timeout=SECONDS)
    assert same_bits(from_raw(answer.raw_output_contents[0], "BYTES", [2, 3]), SAMPLES["BYTES"])
