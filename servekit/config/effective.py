"""Numbers that follow from the machine and the models, each with its arithmetic.

    memory_bytes_max ≥ 1.05 · (process + models + connections_max · 32 KiB + in_flight_bytes_max)
    budget = memory_bytes_max - process

Before a model is loaded its file's size and one lane's arena stand for it; further lanes and the buffers of its
batches are counted at load, where the shapes are known.
"""

import os
import resource
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from servekit import cgroup
from servekit.config.limits import MIB, Limits
from servekit.errors import ConfigError
from servekit.repository.model import Model
from servekit.sizes import sized

PROCESS_BYTES = 80 * MIB
"""Interpreter, libraries and management page with a small model, as measured, rounded up."""
COMPILER_BYTES = 192 * MIB
"""What compiling kernels adds: Numba, LLVM and NumPy, as measured, rounded up."""
CONNECTION_BYTES = 32 * 1024
CONNECTIONS_MAX = 10_000
ARENA_BYTES_MIN = 64 * MIB
IN_FLIGHT_BYTES_MIN = 16 * MIB
HEADROOM = 1.05


@dataclass(frozen=True)
class Machine:
    """What the process may use, as the system says it."""

    memory_bytes: int
    memory_source: str
    files_max: int
    process_bytes: int

    @staticmethod
    def here() -> "Machine":
        """This machine, this control group, this process."""
        physical_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limit_bytes = cgroup.memory_limit_bytes()
        files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        limited = limit_bytes is not None and limit_bytes < physical_bytes
        return Machine(
            memory_bytes=limit_bytes if limit_bytes is not None and limited else physical_bytes,
            memory_source="cgroup limit" if limited else "physical memory",
            files_max=2**31 if files_max == resource.RLIM_INFINITY else files_max,
            process_bytes=max(PROCESS_BYTES, _resident_bytes()),
        )


class Line(NamedTuple):
    """One number and how it came about."""

    key: str
    value: int | None
    reason: str


@dataclass(frozen=True)
class Effective:
    """The limits that hold, and why."""

    limits: Limits
    lines: tuple[Line, ...]


def resolve(limits: Limits, machine: Machine, models: Sequence[Model]) -> Effective:
    """Works out every automatic number; raises `ConfigError` where the memory does not suffice."""
    plan = _Plan(limits)
    is_compiling = any(model.pipeline is not None for model in models)
    process_bytes = machine.process_bytes + (COMPILER_BYTES if is_compiling else 0)
    memory = plan.settle(
        "memory_bytes_max",
        int(0.90 * machine.memory_bytes),
        f"0.90 of {sized(machine.memory_bytes)} ({machine.memory_source})",
    )
    budget = memory - process_bytes
    if budget <= 0:
        raise ConfigError(
            f"memory_bytes_max is {sized(memory)}, the process alone takes {sized(process_bytes)}; give it more memory"
        )
    connections_by_memory = budget // 10 // CONNECTION_BYTES
    connections = plan.settle(
        "connections_max",
        max(1, min(CONNECTIONS_MAX, machine.files_max // 2, connections_by_memory)),
        f"the least of {CONNECTIONS_MAX}, {machine.files_max} open files / 2, "
        f"and a tenth of {sized(budget)} at 32 KiB each ({connections_by_memory})",
    )
    plan.settle("connections_peer_max", max(1, connections // 2), "half of connections_max")
    model_bytes = sum(_model_bytes(model, limits) for model in models)
    fixed_bytes = process_bytes + model_bytes + connections * CONNECTION_BYTES
    left = int(memory / HEADROOM) - fixed_bytes
    quarter = max(budget // 4, IN_FLIGHT_BYTES_MIN)
    in_flight = plan.settle(
        "in_flight_bytes_max",
        min(quarter, left),
        f"a quarter of {sized(budget)} (memory_bytes_max - {sized(process_bytes)} for the process), "
        f"at least {sized(IN_FLIGHT_BYTES_MIN)}"
        if quarter <= left
        else f"what {sized(model_bytes)} of models and {connections} connections leave",
    )
    terms = f"{sized(process_bytes)} process + {sized(model_bytes)} models + {connections} connections · 32 KiB"
    _refuse_what_does_not_fit(in_flight, left, f"{sized(memory)} / {HEADROOM} - ({terms})")
    total = int(HEADROOM * (fixed_bytes + in_flight))
    plan.lines.append(Line("memory", total, f"{HEADROOM} · ({terms} + {sized(in_flight)} in flight) ≤ {sized(memory)}"))
    _share_in_flight(plan, in_flight, len(models))
    plan.lines.extend(
        Line(key, None, f"at load: {_automatic(key)}")
        for key in ("latency_target_ms", "arena_bytes_max", "run_ms_max")
        if getattr(limits, key) is None
    )
    return Effective(limits.model_copy(update=plan.numbers), tuple(plan.lines))


class _Plan:
    """Numbers settled so far, with their lines."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.numbers: dict[str, int] = {}
        self.lines: list[Line] = []

    def settle(self, key: str, automatic: int, reason: str) -> int:
        """Takes the configured number where there is one."""
        chosen: int | None = getattr(self.limits, key)
        value = automatic if chosen is None else chosen
        self.numbers[key] = value
        self.lines.append(Line(key, value, reason if chosen is None else "as configured"))
        return value

    def cut(self, key: str, most: int, reason: str) -> None:
        """Lowers a number that another one bounds."""
        chosen: int = getattr(self.limits, key)
        if chosen > most:
            self.numbers[key] = most
            self.lines.append(Line(key, most, f"{reason}, as {sized(chosen)} is more"))


def _share_in_flight(plan: _Plan, in_flight: int, models: int) -> None:
    if models > 1:
        plan.settle("model_in_flight_bytes_max", in_flight // 2, "half of in_flight_bytes_max")
    else:
        plan.settle("model_in_flight_bytes_max", in_flight, "all of in_flight_bytes_max, as one model is served")
    for key in ("request_body_bytes_max", "response_body_bytes_max"):
        plan.cut(key, in_flight // 2, "half of in_flight_bytes_max")


def _model_bytes(model: Model, limits: Limits) -> int:
    arena = model.settings.arena_bytes_max or limits.arena_bytes_max or ARENA_BYTES_MIN
    return model.file_bytes + arena


def _refuse_what_does_not_fit(in_flight: int, left: int, arithmetic: str) -> None:
    if left < IN_FLIGHT_BYTES_MIN:
        raise ConfigError(
            f"{sized(max(left, 0))} would be left for requests in flight, at least {sized(IN_FLIGHT_BYTES_MIN)} "
            f"are needed: {arithmetic}; give it more memory, fewer connections or fewer models"
        )
    if in_flight > left:
        raise ConfigError(
            f"in_flight_bytes_max is {sized(in_flight)}, at most {sized(left)} fit: {arithmetic}; lower it"
        )


def _automatic(key: str) -> object:
    about = Limits.model_fields[key].json_schema_extra
    return about.get("automatic") if isinstance(about, dict) else ""


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as stream:  # noqa: PTH123 # pathlib costs more than the read
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
