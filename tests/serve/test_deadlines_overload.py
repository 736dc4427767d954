"""Whoever cannot be answered in time is told so early and says when to come again; nobody is told so without need."""

from contextlib import ExitStack

import pytest

from tests.serve.alive import waited
from tests.serve.limit_cases import DEADLINE_EXCEEDED, UNAVAILABLE, refused, running, served
from tests.serve.limit_cases_time import within
from tests.serve.models import spin
from tests.serve.process import serving
from tests.serve.raw_frames import Reply, peer
from tests.serve.raw_http import elapsed, get, head, infer, raw_connection
from tests.serve.slow_models import (
    CALL,
    ONE_AT_A_TIME,
    PATIENT,
    PATIENT_MS,
    ROW,
    RUN_MS,
    Wish,
    levels_of_models,
    ordered,
    run_ms,
    serving_slow,
    slow,
)

MODES = ("auto", "late", "fail_fast")
PENDING = "nv_inference_pending_request_count"
STATUSES = {"overloaded": (503, UNAVAILABLE), "deadline": (504, DEADLINE_EXCEEDED)}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """One for each mode, started when first asked for."""
    with ExitStack() as stack:
        started = {}

        def server(mode):
            if mode not in started:
                folder = tmp_path_factory.mktemp(mode)
                started[mode] = stack.enter_context(serving_slow(folder, "--mode", mode, latency_target_ms=PATIENT_MS))
            return started[mode]

        yield server


@pytest.fixture(params=MODES)
def server(servers, request):
    return servers(request.param)


def given_up(answer):
    """An answer says that there was no time, with all that belongs to it."""
    http, grpc = STATUSES[answer.label]
    refused(answer, grpc if isinstance(answer, Reply) else http, answer.label)


def overload(server, requests=60):
    """Far more calls at once than can be served until their deadline; those that were given up."""
    deadline_ms = int(8 * run_ms(server))
    with ordered(server) as caller:
        answers = caller.answers(caller.call_all([Wish(deadline_ms)] * requests)).values()
        told = [answer for answer in answers if answer.code]
        for answer in told:
            given_up(answer)
        assert len(told) < requests, "some are served all the same"
        assert told
        return told


def shed(server):
    return server.metric("servekit_shed_total", model="slow")


def shed_before(server):
    """What was given up so far. The queue counts those who were told elsewhere when it comes to their places."""
    server.settles(PENDING, 0, model="slow")
    with raw_connection(server) as connection:
        served(connection.ask(infer("slow", ROW)))
    return shed(server)


def test_an_idle_server_refuses_nobody(server):
    with raw_connection(server) as connection:
        for _ in range(20):
            served(connection.ask(infer("slow", ROW, f"x-request-timeout-ms: {int(20 * RUN_MS)}")))


def test_after_an_overload_the_next_is_served_at_once(server):
    overload(server)
    server.settles("servekit_in_flight_requests", 0)
    with raw_connection(server) as connection:
        for _ in range(3):
            served(connection.ask(infer("slow", ROW, f"x-request-timeout-ms: {int(20 * RUN_MS)}")))


def test_what_is_given_up_is_counted_by_how_it_was_seen(server):
    before = shed_before(server)
    told = overload(server)
    # The deadline of one may have passed while it ran.
    waited(lambda: _are(shed(server) - before, range(len(told) - 1, len(told) + 1)))


def test_who_is_given_up_before_the_deadline_is_told_when_to_come_again(servers):
    told = overload(servers("fail_fast"))
    waits_ms = [int(answer.headers["grpc-retry-pushback-ms"]) for answer in told if answer.label == "overloaded"]
    assert waits_ms, "fail_fast tells at arrival"
    assert min(waits_ms) >= 10
    assert len(waits_ms) < 4 or len(set(waits_ms)) > 1, "they would come back together"


def test_who_is_late_in_the_queue_is_told_while_the_batch_still_runs(server):
    before = shed_before(server)
    with running(server), peer(server) as caller, raw_connection(server) as connection:
        answers = []
        connection.send(infer("slow", ROW, "x-request-timeout-ms: 300"))
        assert within(elapsed(lambda: answers.append(connection.answer())), 300) or answers[0].label == "overloaded"
        given_up(answers[0])
        given_up(caller.call(CALL, ("grpc-timeout", "300m")))
    waited(lambda: _are(shed(server) - before, [2]))


def queued(server, caller):
    """So many patient calls that a newcomer waits for far longer than it takes to look."""
    calls = caller.call_all([Wish()] * 80)
    waited(lambda: _many(server.metric(PENDING, model="slow")))
    return calls


def _are(count, expected):
    assert count in expected


def _many(pending):
    assert pending > 40


def test_over_http_the_hopeless_are_told_before_their_body_is_read(servers):
    server = servers("fail_fast")
    run_ms(server)
    with ordered(server) as caller, raw_connection(server) as connection:
        calls = queued(server, caller)
        size = 65_536
        fields = ("Host: x", f"Content-Length: {size}", f"x-request-timeout-ms: {int(4 * RUN_MS)}")
        connection.send(head("POST /v2/models/slow/infer HTTP/1.1", *fields))
        answer = connection.answer()
        refused(answer, 503, "overloaded")
        # The body may follow all the same, and the connection goes on.
        if answer.headers.get("connection") != "close":
            connection.send(ROW.ljust(size), get("/v2/health/live"))
            served(connection.answer())
        for answer in caller.answers(calls).values():
            served(answer)


def test_over_grpc_the_hopeless_are_told_at_once(servers):
    server = servers("fail_fast")
    run_ms(server)
    with ordered(server) as caller, peer(server) as other:
        calls = queued(server, caller)
        refused(other.call(CALL, ("grpc-timeout", f"{int(4 * RUN_MS)}m")), UNAVAILABLE, "overloaded")
        assert len(caller.ended) < len(calls), "it was told while the others waited"
        for answer in caller.answers(calls).values():
            served(answer)


def test_who_has_time_is_queued_where_who_has_none_is_refused(servers):
    server = servers("fail_fast")
    run_ms(server)
    with ordered(server) as caller, raw_connection(server) as connection:
        calls = queued(server, caller)
        served(connection.ask(infer("slow", ROW, PATIENT)))
        for answer in caller.answers(calls).values():
            served(answer)


def test_a_target_is_the_deadline_of_who_brings_none(tmp_path):
    with serving_slow(tmp_path, latency_target_ms=300) as server, running(server), raw_connection(server) as connection:
        answers = []
        connection.send(infer("slow", ROW))
        assert within(elapsed(lambda: answers.append(connection.answer())), 300) or answers[0].label == "overloaded"
        given_up(answers[0])


def test_a_level_s_own_target_is_for_that_level(tmp_path):
    environment = levels_of_models(slow={1: 300}) | {"SERVEKIT__LIMITS__RUN_MS_MAX": "1500"}
    paths = [slow(tmp_path), spin(tmp_path)]
    with (
        serving(*paths, arguments=ONE_AT_A_TIME, environment=environment) as server,
        running(server),
        raw_connection(server) as urgent,
        raw_connection(server) as patient,
    ):
        patient.send(infer("slow", ROW, "x-request-priority: 2"))
        given_up(urgent.ask(infer("slow", ROW, "x-request-priority: 1")))
        served(patient.answer())


def test_without_target_and_deadline_all_are_served_in_order(tmp_path):
    with serving_slow(tmp_path) as server, ordered(server) as caller:
        calls = [caller.called(CALL) for _ in range(30)]
        caller.send(*(frame for _, frames in calls for frame in frames))
        for number, _ in calls:
            served(caller.answered(number))
        assert caller.ended == [number for number, _ in calls]
