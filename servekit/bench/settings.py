"""What the caller of `servekit bench` wants, and the native plan that it makes."""

import json
import math
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from servekit.bench.encoding import BINARY_TYPE, JSON_TYPE, Body
from servekit.bench.target import Protocol
from servekit.errors import ConfigError

Arrivals = Literal["poisson", "constant", "mmpp", "onoff", "diurnal", "trace"]
ARRIVALS: tuple[Arrivals, ...] = get_args(Arrivals)

STREAMS = 100
HTTP_CONNECTIONS = (64, 2_048)
GRPC_CONNECTIONS = (4, 64)
# Requests on their way are at most the rate times how long the slowest is awaited, and bursts need some more.
CONNECTIONS_HEADROOM = 4
# Files of the interpreter itself, and the generator's own.
FILES_SPARE = 64
# Of the objective: how long a state of MMPP holds in the mean, low and high, and how long an on-off phase does.
MMPP_OBJECTIVES = (20.0, 10.0)
ONOFF_OBJECTIVES = 20.0
DAY_SECONDS = 60.0
PATIENCE_OBJECTIVES = 4.0
PATIENCE_SECONDS_MIN = 2.0
WINDOW_MS_MAX = 100.0
WINDOWS_MAX = 1_000


@dataclass(frozen=True)
class Settings:
    """One bench; rates aside."""

    protocol: Protocol = "json"
    arrivals: Arrivals = "poisson"
    trace: Path | None = None
    seconds: float = 10.0
    warm_seconds: float = 2.0
    patience_seconds: float | None = None
    """None: four times the objective or the deadline, and 2 s at least."""
    slo_ms: float = 100.0
    deadline_ms: float | None = None
    priorities: tuple[tuple[int, float], ...] = ()
    """Level and share."""
    cancel_share: float = 0.0
    slow_connections: int = 0
    slow_bytes_per_second: int = 1_000
    connections: int | None = None
    """None: what the rate and the objective need."""
    streams: int = STREAMS
    seed: int = 0

    @property
    def longest_s(self) -> float:
        """How long somebody waits for an answer that still counts."""
        return max(self.slo_ms, self.deadline_ms or 0.0) / 1e3

    @property
    def window_ms(self) -> float:
        """Length of one entry of the timeline: it shows what lasts as long as an objective."""
        return max(min(WINDOW_MS_MAX, self.slo_ms), self.seconds * 1e3 / WINDOWS_MAX)

    def connections_for(self, in_flight: float) -> int:
        """How many connections to hold open."""
        if self.connections is not None:
            return self.connections
        if self.protocol == "grpc":
            least, most = GRPC_CONNECTIONS
            return min(max(math.ceil(in_flight / self.streams), least), most)
        least, most = HTTP_CONNECTIONS
        return min(max(math.ceil(in_flight), least), most)

    def open_plan(self, rate: float | None) -> dict[str, Any]:
        """The plan of one rate; None is a trace at its own speed."""
        arrivals: dict[str, Any] = {"kind": self.arrivals}
        objective_s = self.slo_ms / 1e3
        if self.arrivals == "mmpp":
            low_s, high_s = (count * objective_s for count in MMPP_OBJECTIVES)
            arrivals |= {"low_s": low_s, "high_s": high_s}
        elif self.arrivals == "onoff":
            arrivals |= {"on_s": ONOFF_OBJECTIVES * objective_s, "off_s": ONOFF_OBJECTIVES * objective_s}
        elif self.arrivals == "diurnal":
            arrivals["period_s"] = DAY_SECONDS
        elif self.arrivals == "trace":
            if self.trace is None:
                raise ConfigError("arrivals trace: --trace FILE is missing")
            arrivals["path"] = str(self.trace)
        in_flight = (rate or 0.0) * self.longest_s * CONNECTIONS_HEADROOM
        return self._plan({"open": {"rate": rate, "arrivals": arrivals}}, self.connections_for(in_flight))

    def closed_plan(self, in_flight: int, seconds: float) -> dict[str, Any]:
        """The plan of a closed loop, without deadlines and without those who disturb."""
        streams = self.streams if self.protocol == "grpc" else 1
        least = math.ceil(in_flight / streams)
        connections = max(least, min(self.connections or in_flight, in_flight))
        plan = self._plan({"closed": {"in_flight": in_flight}}, connections)
        return plan | {
            "seconds": seconds,
            "warm_seconds": min(self.warm_seconds, 0.5),
            "deadline_ms": None,
            "cancel": None,
            "slow": None,
            "window_ms": seconds * 1e3,
        }

    def _plan(self, load: dict[str, Any], connections: int) -> dict[str, Any]:
        check_files(connections + self.slow_connections)
        patience_s = max(PATIENCE_SECONDS_MIN, PATIENCE_OBJECTIVES * self.longest_s)
        cancel = {"share": self.cancel_share, "within_ms": self.slo_ms} if self.cancel_share else None
        slow = {"connections": self.slow_connections, "bytes_per_second": self.slow_bytes_per_second}
        return {
            "load": load,
            "priorities": [{"level": level, "share": share} for level, share in self.priorities],
            "connections": connections,
            "streams": self.streams,
            "seconds": self.seconds,
            "warm_seconds": self.warm_seconds,
            "patience_seconds": patience_s if self.patience_seconds is None else self.patience_seconds,
            "slo_ms": self.slo_ms,
            "deadline_ms": self.deadline_ms,
            "cancel": cancel,
            "slow": slow if self.slow_connections else None,
            "window_ms": self.window_ms,
            "seed": self.seed,
        }


def check_files(connections: int) -> None:
    """Lets the process open as many files as it needs, or says that it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + FILES_SPARE
    if soft == resource.RLIM_INFINITY or needed <= soft:
        return
    if hard != resource.RLIM_INFINITY and needed > hard:
        message = f"{connections} connections need {needed} open files, {hard} are allowed; lower --connections"
        raise ConfigError(f"{message} or raise `ulimit -n`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@dataclass(frozen=True)
class Wish:
    """What the requests hold."""

    rows: int = 1
    lengths: str = "1"
    large_share: float = 0.0
    large_rows: int = 0
    body: Path | None = None


def body_of(path: Path, protocol: Protocol) -> Body:
    """A file that is sent as it is; for gRPC the message without its five-byte prefix."""
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"body {path} cannot be read: {error.strerror or error}"
        raise ConfigError(message) from None
    if protocol != "binary":
        return Body(content, JSON_TYPE)
    try:
        _, json_bytes = json.JSONDecoder().raw_decode(content.decode("latin-1"))
    except ValueError:
        message = f"body {path} does not begin with JSON, as a body of the protocol binary does"
        raise ConfigError(message) from None
    return Body(content, BINARY_TYPE, json_bytes)
