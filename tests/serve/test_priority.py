"""Who matters more is served first, and whoever asks for a level that does not exist is told."""

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.serve.limit_cases import INVALID_ARGUMENT, message, refused, running, served
from tests.serve.raw_frames import peer
from tests.serve.raw_http import infer, raw_connection
from tests.serve.slow_models import CALL, PATIENT_MS, ROW, Wish, ordered, priority_parameter, run_ms, serving_slow
from tests.serve.stubs import stub_module

LEVELS = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving_slow(tmp_path_factory.mktemp("models"), latency_target_ms=PATIENT_MS) as server:
        yield server


def with_parameter(**values):
    """A call of `slow` with the parameter `priority`."""
    parameter = stub_module("open_inference_pb2").InferParameter(**values)
    return message("slow", ("x", "FP32", [1, 3], bytes(12)), parameters={"priority": parameter})


@pytest.mark.parametrize("level", [0, 1, LEVELS])
def test_every_level_is_served_however_it_is_named(server, level):
    with raw_connection(server) as connection:
        served(connection.ask(infer("slow", ROW, f"x-request-priority: {level}")))
        served(connection.ask(infer("slow", priority_parameter(level))))
    with peer(server) as caller:
        served(caller.call(CALL, ("x-request-priority", str(level))))
        served(caller.call(with_parameter(uint64_param=level)))
        served(caller.call(with_parameter(int64_param=level)))


@pytest.mark.parametrize("level", [str(LEVELS + 1), "-1", "1.5", "high", "99999999999999999999"])
def test_a_level_in_a_header_that_does_not_exist_is_refused(server, level):
    with raw_connection(server) as connection:
        refused(connection.ask(infer("slow", ROW, f"x-request-priority: {level}")), 400, "field")
        served(connection.ask(infer("slow", ROW)))
    with peer(server) as caller:
        refused(caller.call(CALL, ("x-request-priority", level)), INVALID_ARGUMENT, "field")
        served(caller.call(CALL))


@pytest.mark.parametrize("level", [LEVELS + 1, -1, 1.5, "high", True, 2**63])
def test_a_level_in_a_parameter_that_does_not_exist_is_refused(server, level):
    with raw_connection(server) as connection:
        answer = connection.ask(infer("slow", priority_parameter(level)))
        refused(answer, 400, "field")
        assert "priority" in answer.text
        served(connection.ask(infer("slow", ROW)))


@pytest.mark.parametrize(
    "values", [{"uint64_param": LEVELS + 1}, {"int64_param": -1}, {"string_param": "high"}, {"bool_param": True}]
)
def test_a_level_in_a_message_that_does_not_exist_is_refused(server, values):
    with peer(server) as caller:
        refused(caller.call(with_parameter(**values)), INVALID_ARGUMENT, "field")
        served(caller.call(CALL))


@pytest.mark.parametrize("library", [tritonclient.http, tritonclient.grpc], ids=["http", "grpc"])
def test_tritons_clients_name_levels(server, library):
    image = library.InferInput("x", [1, 3], "FP32")
    image.set_data_from_numpy(np.ones((1, 3), np.float32))
    address = server.http if library is tritonclient.http else server.grpc
    with library.InferenceServerClient(address) as client:
        assert client.infer("slow", [image], priority=1).as_numpy("y").tolist() == [[1, 1, 1]]


def test_the_queue_is_left_by_level_and_within_one_by_deadline(server):
    with running(server), ordered(server) as caller:
        wishes = [
            Wish(50_000, level=8),
            Wish(50_000, level=2),
            Wish(40_000, level=2),
            Wish(60_000, level=1),
            Wish(50_000),
            Wish(30_000, level=8),
        ]
        calls = caller.call_all(wishes)
        server.settles("nv_inference_pending_request_count", len(calls), model="slow")
        for answer in caller.answers(calls).values():
            served(answer)
        assert [calls[number] for number in caller.ended] == [
            Wish(60_000, level=1),
            Wish(40_000, level=2),
            Wish(50_000, level=2),
            Wish(50_000),
            Wish(30_000, level=8),
            Wish(50_000, level=8),
        ], "level 4 is the one of those that name none"


def test_under_overload_the_high_level_is_served_and_the_low_one_told(server):
    # Twice what can be served until the deadline, a quarter of it high.
    deadline_ms = int(16 * run_ms(server))
    with ordered(server) as caller:
        wishes = [Wish(deadline_ms, level=1 if position % 4 == 3 else 8) for position in range(32)]
        calls = caller.call_all(wishes)
        answers = caller.answers(calls)
    high = [answers[number] for number, wish in calls.items() if wish.level == 1]
    low = [answers[number] for number, wish in calls.items() if wish.level == 8]
    for answer in high:
        served(answer)
    told = [answer for answer in low if answer.code]
    assert told, "nothing had to be given up: this is no overload"
    assert {answer.label for answer in told} <= {"overloaded", "deadline"}


def test_a_low_level_is_not_shut_out_by_a_high_one(server):
    with ordered(server) as caller:
        low = caller.call_all([Wish(level=8)] * 2)
        high = caller.call_all([Wish(level=1)] * 120)
        for answer in caller.answers({**low, **high}).values():
            served(answer)
        last_low = max(caller.ended.index(number) for number in low)
        assert last_low < len(high), "it had to wait for all of the others"
