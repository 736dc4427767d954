"""gRPC as its clients use it: deadlines, many streams, asyncio, the health package, Triton's client."""

import asyncio

import grpc
import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.serve import models
from tests.serve.alive import G_VALUES, Standing, alive, waited
from tests.serve.process import serving
from tests.serve.stubs import stub_module
from tests.serve.tensors import DTYPES, SAMPLES, same_bits, texts
from tests.serve.transports import CHANNEL_OPTIONS, Asked, grpc_request, inference_stub, message_arrays, rpc_refused

SERVICE = "inference.GRPCInferenceService"
SECONDS = 30.0
STREAMS = 256
# More turns than any deadline in this file allows.
LONG_SPIN = np.array([10**12], np.int64)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for make in (models.ident, models.tiny, models.two, models.spin):
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


# Deadlines, cancellation, compression, many streams


def test_a_deadline_ends_the_call(stub, server):
    before = Standing.of(server)
    with pytest.raises(grpc.RpcError) as told:
        stub.ModelInfer(grpc_request(Asked("spin", {"n": LONG_SPIN})), timeout=0.3)
    assert told.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # Whether the server's word or the client's own clock came first is a race; nothing else may have been refused.
    waited(lambda: alive_but(server, before, "deadline"))


def alive_but(server, before, label):
    """Alive, with at most one refusal more, of this label."""
    risen = server.metric("servekit_refusals_total", reason=label) - before.refusals.get(label, 0)
    assert risen in (0, 1)
    alive(server, before, {label: int(risen)} if risen else {})


def test_a_call_may_be_cancelled(stub, server):
    cancelled = server.metric("servekit_requests_cancelled_total")
    before = Standing.of(server)
    call = stub.ModelInfer.future(grpc_request(Asked("spin", {"n": LONG_SPIN})), timeout=SECONDS)
    server.settles("servekit_in_flight_requests", 1.0, model="spin")
    assert call.cancel()
    assert call.cancelled()
    server.settles("servekit_requests_cancelled_total", cancelled + 1)
    alive(server, before)


@pytest.mark.parametrize("coding", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=["gzip", "deflate"])
def test_a_message_may_be_compressed(stub, coding):
    array = np.zeros((64, 1000), np.float32)
    array[:, ::7] = 1.5
    answer = stub.ModelInfer(grpc_request(Asked("ident", {"x": array})), timeout=SECONDS, compression=coding)
    assert same_bits(message_arrays(answer)["y"], array)


def test_as_many_streams_as_are_offered_run_at_once(stub):
    calls = [
        stub.ModelInfer.future(grpc_request(Asked("ident", {"x": np.full((1, 3), n, np.float32)})), timeout=SECONDS)
        for n in range(2 * STREAMS)
    ]
    for n, call in enumerate(calls):
        assert message_arrays(call.result())["y"].tolist() == [[n] * 3]


# asyncio


def test_grpc_aio_calls_every_rpc_and_many_at_once_on_one_connection(server):
    async def infer():
        async with grpc.aio.insecure_channel(server.grpc, CHANNEL_OPTIONS) as channel:
            stub = inference_stub(channel)
            messages = stub_module("open_inference_pb2")
            assert (await stub.ServerLive(messages.ServerLiveRequest(), timeout=SECONDS)).live
            assert (await stub.ServerReady(messages.ServerReadyRequest(), timeout=SECONDS)).ready
            assert (await stub.ModelReady(messages.ModelReadyRequest(name="ident"), timeout=SECONDS)).ready
            assert (await stub.ServerMetadata(messages.ServerMetadataRequest(), timeout=SECONDS)).name == "servekit"
            about = await stub.ModelMetadata(messages.ModelMetadataRequest(name="two"), timeout=SECONDS)
            assert [end.name for end in about.inputs] == ["a", "b"]
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=SECONDS)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            watch.cancel()
            requests = [grpc_request(Asked("ident", {"x": np.full((1, 2), n, np.float32)})) for n in range(STREAMS)]
            return await asyncio.gather(*(stub.ModelInfer(request, timeout=SECONDS) for request in requests))

    for n, answer in enumerate(asyncio.run(infer())):
        assert message_arrays(answer)["y"].tolist() == [[n, n]]


def test_grpc_aio_reads_our_errors_and_cancels(server):
    async def fail():
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            stub = inference_stub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as told:
                await stub.ModelInfer(grpc_request(Asked("nope", {"x": G_VALUES})), timeout=SECONDS)
            call = stub.ModelInfer(grpc_request(Asked("spin", {"n": LONG_SPIN})), timeout=SECONDS)
            await asyncio.to_thread(server.settles, "servekit_in_flight_requests", 1.0, model="spin")
            assert call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            return rpc_refused(told.value)

    refusal = asyncio.run(fail())
    assert (refusal.status, refusal.label) == ("NOT_FOUND", "model")
    waited(lambda: alive(server))


# grpc.health.v1


@pytest.mark.parametrize("service", ["", SERVICE, "ident"])
def test_health_is_checked_by_name(channel, service):
    health = health_pb2_grpc.HealthStub(channel)
    answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_health_of_what_nobody_knows_is_not_found(channel):
    health = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as told:
        health.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=SECONDS)
    assert told.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(("service", "status"), [("", "SERVING"), ("ident", "SERVING"), ("nope", "SERVICE_UNKNOWN")])
def test_a_watch_tells_the_state_at_once_and_stays_open(channel, server, service, status):
    health = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=SECONDS)
    assert next(watch).status == getattr(health_pb2.HealthCheckResponse, status)
    assert watch.is_active()
    assert server.metric("servekit_streams") >= 1
    watch.cancel()
    waited(lambda: alive(server))


# Triton's client


@pytest.mark.parametrize("datatype", DTYPES)
def test_triton_s_client_sends_and_reads_every_datatype(triton, datatype):
    array = SAMPLES[datatype]
    tensor = tritonclient.grpc.InferInput("x", list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    result = triton.infer(f"same_{datatype}", [tensor], request_id="seven")
    assert result.get_response().id == "seven"
    found = result.as_numpy("y")
    if datatype == "BYTES":
        found = texts(*found.tolist())
    assert same_bits(found, array)


def test_triton_s_client_asks_for_metadata_and_health(triton):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("ident")
    assert triton.get_server_metadata().name == "servekit"
    assert [end.name for end in triton.get_model_metadata("two").outputs] == ["total", "product"]


def test_triton_s_client_reads_our_errors(triton):
    tensor = tritonclient.grpc.InferInput("x", [1, 3], "FP32")
    tensor.set_data_from_numpy(G_VALUES)
    with pytest.raises(tritonclient.grpc.InferenceServerException, match="unknown model: 'nope' is not found") as told:
        triton.infer("nope", [tensor])
    assert told.value.status() == "StatusCode.NOT_FOUND"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_triton_s_client_may_compress(triton, coding):
    array = np.tile(SAMPLES["FP32"], (100, 1))
    tensor = tritonclient.grpc.InferInput("x", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array)
    result = triton.infer("ident", [tensor], compression_algorithm=coding)
    assert same_bits(result.as_numpy("y"), array)
