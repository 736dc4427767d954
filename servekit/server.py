"""The life of a server: everything is parsed before anything is bound, and ending is as orderly as starting.

    block signals → bind → plan pipelines → load → listen → ready … signal → drain → end

One thread waits for signals, one plans pipelines, one waits for readiness, one for the drain; each only puts what
happened into one queue, and the main thread alone decides.
"""

import json
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Protocol

from servekit import signals, snapshot
from servekit.errors import ExitCode, ServekitError, native_errors
from servekit.logs import Logger
from servekit.plan import Plan

if TYPE_CHECKING:
    from servekit import _native
    from servekit.management.listener import Listener
    from servekit.pipelines.starting import Started

_READY_WAIT_S = 3600.0

_KEPT: list[object] = []
"""Plans, for as long as the process lives: native lanes call their compiled kernels by address, and one that is in a
run when the server stops is not waited for."""


class NativeServer(snapshot.Source, Protocol):
    """What is used of `_native.Server`."""

    def addresses(self) -> str:
        """Where it listens, as JSON."""

    def wait_ready(self, timeout_s: float, /) -> bool:
        """Waits for the start-up models."""

    def begin_drain(self, delay_ms: int, /) -> None:
        """Begins to end."""

    def wait_drained(self, timeout_s: float, /) -> str:
        """Waits until nothing is open."""

    def stop(self) -> None:
        """Ends at once."""


@dataclass(frozen=True)
class Planned:
    """Each pipeline is compiled, or known to be broken."""

    started: "Started"


@dataclass(frozen=True)
class Ready:
    """Every start-up model is ready or failed."""


@dataclass(frozen=True)
class Signalled:
    """The operator wants an end."""

    number: int


@dataclass(frozen=True)
class Drained:
    """The drain ended, with so many requests left without a result."""

    complete: bool
    unanswered: int


@dataclass(frozen=True)
class Broken:
    """A thread that waits for one of the others failed itself, which is a defect."""

    reason: str


Event = Planned | Ready | Signalled | Drained | Broken


def serve(plan: Plan) -> ExitCode:
    """Runs until a signal ends it."""
    signals.hold()
    from servekit import _native
    from servekit.management.listener import Listener

    log = plan.log
    logger = Logger(
        log.level,
        as_json=log.as_json,
        lines_per_second_max=log.lines_per_second_max,
        field_bytes_max=log.field_bytes_max,
    )
    for warning in plan.warnings:
        logger.warning("configuration", reason=warning)
    listener = Listener.bind(plan.management)
    events: SimpleQueue[Event] = SimpleQueue()
    _watch(lambda: _wait_for_signals(events), events, "signals")
    pipelines: Started | None = None
    if plan.pipelines:
        _watch(lambda: _plan_pipelines(plan, events), events, "planning")
        event = events.get()
        if isinstance(event, Signalled):
            return _stopped_while_loading(event, logger)
        if isinstance(event, Broken):
            logger.error("failed", reason=event.reason)
            return ExitCode.FAILED
        if isinstance(event, Planned):
            pipelines = event.started
            _KEPT.append(pipelines.plans)
    with native_errors():
        native = _native.Server.start(pipelines.native_json if pipelines else plan.native_json)
    if pipelines and plan.is_watching:
        _watch(_edits(native, plan, pipelines, logger), events, "edits")
    return Life(native, plan, logger, listener, events).run()


def _plan_pipelines(plan: Plan, events: SimpleQueue[Event]) -> None:
    """Plans and compiles pipelines. Where there are none, the libraries that this takes are never loaded."""
    from servekit.pipelines.starting import started

    events.put(Planned(started(plan.native_json, plan.pipelines, allow_code=plan.allow_code)))


def _stopped_while_loading(event: Signalled, logger: Logger) -> ExitCode:
    """The ports do not listen yet, so nobody is owed an answer."""
    logger.info("stopped_while_loading", signal=_name(event.number))
    return ExitCode.DRAINED


def _edits(native: "_native.Server", plan: Plan, served: "Started", logger: Logger) -> Callable[[], None]:
    """What looks after edits of pipelines, once the models are loaded."""
    from servekit.pipelines.watching import Watching

    watching = Watching(native, served, plan.pipelines, logger, allow_code=plan.allow_code)
    _KEPT.append(watching)

    def watch() -> None:
        native.wait_ready(_READY_WAIT_S)
        watching.run()

    return watch


class Life:
    """What happens between the start and the end, decided by one thread."""

    def __init__(
        self, native: NativeServer, plan: Plan, logger: Logger, listener: "Listener", events: SimpleQueue[Event]
    ) -> None:
        self._native = native
        self._plan = plan
        self._logger = logger
        self._listener = listener
        self._events = events

    def run(self) -> ExitCode:
        """Waits for what happens, and answers it; whatever goes wrong, the native threads are stopped first."""
        try:
            return self._live()
        except ServekitError as error:
            return self._give_up(str(error))

    def _live(self) -> ExitCode:
        _watch(self._wait_ready, self._events, "readiness")
        event = self._events.get()
        if isinstance(event, Ready):
            if not self._announce():
                self._native.stop()
                return ExitCode.FAILED
            event = self._events.get()
        elif isinstance(event, Signalled):
            code = _stopped_while_loading(event, self._logger)
            self._native.stop()
            return code
        if isinstance(event, Broken):
            return self._give_up(event.reason)
        return self._drain(event.number if isinstance(event, Signalled) else signal.SIGTERM)

    def _announce(self) -> bool:
        """Tells which models are served, and where; False if none is."""
        models = snapshot.read(self._native.snapshot())["models"]
        for model in models:
            if model["state"] == "failed":
                self._logger.error(
                    "model_failed",
                    model=model["name"],
                    version=model["version"],
                    label=model["label"],
                    reason=model["reason"],
                )
        ready = [model["name"] for model in models if model["state"] == "ready"]
        if not ready:
            self._logger.error("no_model_ready", next_step="servekit check PATH tells why")
            return False
        addresses = json.loads(self._native.addresses())
        management = self._listener.start(self._native, self._logger)
        self._logger.info(
            "ready",
            http=addresses["http"],
            grpc=addresses["grpc"],
            management=management,
            uds=addresses["uds"],
            models=ready,
        )
        return True

    def _drain(self, number: int) -> ExitCode:
        delay_ms = 0 if number == signal.SIGINT else self._plan.drain_delay_ms
        self._native.begin_drain(delay_ms)
        self._logger.info("draining", signal=_name(number), delay_ms=delay_ms, at_most_ms=self._plan.drain_ms_max)
        _watch(self._wait_drained, self._events, "drain")
        ended = self._events.get()
        if isinstance(ended, Broken):
            return self._give_up(ended.reason)
        self._native.stop()
        if isinstance(ended, Signalled):
            self._logger.warning("stopped_at_once", signal=_name(ended.number))
            return ExitCode.DRAIN_MISSED
        if isinstance(ended, Drained) and not ended.complete:
            self._logger.error("drain_missed", unanswered=ended.unanswered, after_ms=self._plan.drain_ms_max)
            return ExitCode.DRAIN_MISSED
        self._logger.info("drained", unanswered=0)
        return ExitCode.DRAINED

    def _give_up(self, reason: str) -> ExitCode:
        self._logger.error("failed", reason=reason)
        self._native.stop()
        return ExitCode.FAILED

    def _wait_ready(self) -> None:
        while not self._native.wait_ready(_READY_WAIT_S):
            self._logger.warning("still_loading", after_s=_READY_WAIT_S)
        self._events.put(Ready())

    def _wait_drained(self) -> None:
        ended = json.loads(self._native.wait_drained(self._plan.drain_ms_max / 1000))
        self._events.put(Drained(ended["drained"] and not ended["unanswered"], ended["unanswered"]))


def _wait_for_signals(events: SimpleQueue[Event]) -> None:
    while True:
        events.put(Signalled(signal.sigwait(signals.SIGNALS)))


def _watch(wait: Callable[[], None], events: SimpleQueue[Event], name: str) -> None:
    """A thread that waits for one thing; it never keeps the process alive, and never fails unheard."""

    def watch() -> None:
        try:
            wait()
        except Exception as error:  # noqa: BLE001 # whatever it is, the main thread would wait for ever
            events.put(Broken(f"{name}: {error!r}"))

    Thread(target=watch, name=f"servekit-{name}", daemon=True).start()


def _name(number: int) -> str:
    with suppress(ValueError):
        return signal.Signals(number).name
    return str(number)
