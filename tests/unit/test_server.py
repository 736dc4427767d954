"""The life of a server, told by a fake native half."""

import io
import json
import signal
from queue import SimpleQueue
from threading import Event

import pytest

from servekit.errors import BindError, ExitCode
from servekit.logs import Logger
from servekit.plan import LogPlan, ManagementPlan, Plan
from servekit.server import Broken, Life, Signalled
from tests.unit import snapshots

TERM, INT = Signalled(signal.SIGTERM), Signalled(signal.SIGINT)


class Native:
    """Ready and drained when the test says so; remembers what it was asked."""

    def __init__(self, *models):
        self.models = models or (snapshots.model(),)
        self.asked = []
        self.loaded = Event()
        self.answered = Event()
        self.draining = Event()
        self.unanswered = 0

    def addresses(self):
        return json.dumps({"http": "127.0.0.1:8000", "grpc": "127.0.0.1:8001", "uds": None})

    def wait_ready(self, timeout_s):
        return self.loaded.wait(timeout_s)

    def snapshot(self):
        return snapshots.text(*self.models)

    def begin_drain(self, delay_ms):
        self.asked.append(("begin_drain", delay_ms))
        self.draining.set()

    def wait_drained(self, timeout_s):
        self.asked.append(("wait_drained", timeout_s))
        self.answered.wait(timeout_s)
        return json.dumps({"drained": not self.unanswered, "unanswered": self.unanswered})

    def stop(self):
        self.asked.append("stop")
        self.answered.set()
        self.loaded.set()


class Listener:
    """A management port that nobody asks."""

    def __init__(self, told):
        self.told = told

    def start(self, source, logger):
        self.told.set()
        return "127.0.0.1:8002"


class Stage:
    """One life, with everything around it."""

    def __init__(self, *models):
        self.native = Native(*models)
        self.announced = Event()
        self.events = SimpleQueue()
        self.log = io.StringIO()
        log = LogPlan("info", as_json=True, lines_per_second_max=10, field_bytes_max=256)
        management = ManagementPlan("127.0.0.1", 0, (), 2**20, 64, 10_000)
        plan = Plan("{}", log, management, drain_delay_ms=5_000, drain_ms_max=25_000, warnings=())
        self.listener = Listener(self.announced)
        self.life = Life(self.native, plan, Logger(as_json=True, stream=self.log), self.listener, self.events)

    def lines(self):
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@pytest.fixture
def stage():
    return Stage()


def after(event, *actions):
    """Does things once something has happened, in a thread of its own."""
    from threading import Thread

    def act():
        event.wait()
        for action in actions:
            action()

    Thread(target=act, daemon=True).start()


def test_sigterm_drains_after_the_delay_and_exits_with_0(stage):
    stage.native.loaded.set()
    after(stage.announced, lambda: stage.events.put(TERM))
    after(stage.native.draining, stage.native.answered.set)
    assert stage.life.run() is ExitCode.DRAINED
    assert stage.native.asked == [("begin_drain", 5000), ("wait_drained", 25.0), "stop"]
    assert [line["event"] for line in stage.lines()] == ["ready", "draining", "drained"]


def test_sigint_drains_without_the_delay(stage):
    stage.native.loaded.set()
    after(stage.announced, lambda: stage.events.put(INT))
    after(stage.native.draining, stage.native.answered.set)
    assert stage.life.run() is ExitCode.DRAINED
    assert stage.native.asked[0] == ("begin_drain", 0)


def test_a_second_signal_stops_at_once(stage):
    stage.native.loaded.set()
    after(stage.announced, lambda: stage.events.put(TERM))
    after(stage.native.draining, lambda: stage.events.put(TERM))
    assert stage.life.run() is ExitCode.DRAIN_MISSED
    assert stage.native.asked[-1] == "stop"
    assert stage.lines()[-1]["event"] == "stopped_at_once"


def test_a_missed_drain_is_counted_in_the_last_line(stage):
    stage.native.unanswered = 3
    stage.native.loaded.set()
    after(stage.announced, lambda: stage.events.put(TERM))
    after(stage.native.draining, stage.native.answered.set)
    assert stage.life.run() is ExitCode.DRAIN_MISSED
    last = stage.lines()[-1]
    assert (last["event"], last["unanswered"]) == ("drain_missed", 3)


def test_a_signal_while_loading_ends_without_a_drain(stage):
    stage.events.put(TERM)
    assert stage.life.run() is ExitCode.DRAINED
    assert stage.native.asked == ["stop"]
    assert not stage.announced.is_set()


def test_the_ready_line_names_every_address_and_the_models_that_are_ready():
    failed = snapshots.unserved("broken", "failed", "no such operator", "model_file")
    stage = Stage(snapshots.model(), failed)
    stage.native.loaded.set()
    after(stage.announced, lambda: stage.events.put(INT))
    after(stage.native.draining, stage.native.answered.set)
    assert stage.life.run() is ExitCode.DRAINED
    told, ready = stage.lines()[:2]
    assert (told["event"], told["model"], told["reason"]) == ("model_failed", "broken", "no such operator")
    assert {key: ready[key] for key in ("event", "http", "grpc", "management", "uds", "models")} == {
        "event": "ready",
        "http": "127.0.0.1:8000",
        "grpc": "127.0.0.1:8001",
        "management": "127.0.0.1:8002",
        "uds": None,
        "models": ["tiny"],
    }


def test_without_a_ready_model_it_fails():
    stage = Stage(snapshots.unserved("tiny", "failed", "not a model", "model_file"))
    stage.native.loaded.set()
    assert stage.life.run() is ExitCode.FAILED
    assert stage.native.asked == ["stop"]
    assert not stage.announced.is_set()


@pytest.mark.parametrize("broken", ["wait_ready", "wait_drained"])
def test_a_defect_in_a_waiting_thread_is_heard(stage, broken):
    def fail(timeout_s):
        raise RuntimeError("defect")

    setattr(stage.native, broken, fail)
    stage.native.loaded.set()
    after(stage.announced, lambda: stage.events.put(TERM))
    assert stage.life.run() is ExitCode.FAILED
    assert stage.lines()[-1]["event"] == "failed"


def test_a_management_port_that_is_lost_stops_the_rest(stage):
    def fail(source, logger):
        raise BindError("management address 127.0.0.1:8002 cannot be listened on; choose another")

    stage.listener.start = fail
    stage.native.loaded.set()
    assert stage.life.run() is ExitCode.FAILED
    assert stage.native.asked == ["stop"]
    assert "8002" in stage.lines()[-1]["reason"]


def test_a_defect_while_serving_is_heard(stage):
    stage.native.loaded.set()
    after(stage.announced, lambda: stage.events.put(Broken("signals: defect")))
    assert stage.life.run() is ExitCode.FAILED
