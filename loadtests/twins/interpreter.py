"""Whether the interpreter is in the way of pipelines: `python -m loadtests.twins.interpreter`.

A server, and one in whose process a Python thread spins on a processor of its own, take turns. Compared are what the
server itself says that a request took inside of it (`Server-Timing`), and the processor time of its native threads.
"""

import argparse
import re
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from loadtests.scenarios.stage import NO_TARGET, Configuration, place, served
from loadtests.server import pinned
from loadtests.twins.workload import WORKLOADS, Workload, ask

CONFIGURATION: Final[Configuration] = {**NO_TARGET, "batching.server_timing": "always"}
NATIVE: Final = ("servekit-shard", "servekit-runner")
NAME_CHARACTERS_MAX: Final = 15
"""Of a thread, in Linux."""


class Lap(NamedTuple):
    """What some requests, one after the other, took."""

    inside_us: float
    """The median, as the server says."""
    native_us: float
    """Processor time of native threads, each request."""


def native_seconds(pid: int) -> float:
    """Processor time so far of the threads that serve; to the nanosecond, as the scheduler counts it."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().startswith(tuple(name[:NAME_CHARACTERS_MAX] for name in NATIVE)):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def lap(server: tuple[int, str], workload: Workload, requests: int) -> Lap:
    """Asks one request after the other."""
    pid, address = server
    bodies = workload.bodies()
    inside: list[float] = []
    with closing(HTTPConnection(address, timeout=30)) as connection:
        before_s = native_seconds(pid)
        for number in range(requests):
            answer = ask(connection, workload.name, bodies[number % len(bodies)])
            parts = re.findall(r"(queue|run);dur=([0-9.]+)", answer.server_timing)
            inside.append(sum(float(milliseconds) for _, milliseconds in parts) * 1e3)
        used_s = native_seconds(pid) - before_s
    return Lap(median(inside), used_s / requests * 1e6)


def main() -> int:
    """Prints a line a workload."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.twins.interpreter", description=__doc__)
    parser.add_argument("--requests", type=int, default=300, help="of one lap")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--server-processor", type=int, default=0)
    parser.add_argument("--other-processor", type=int, default=1, help="of the client, and of the thread that spins")
    chosen = parser.parse_args()
    spinning = [sys.executable, "-m", "loadtests.twins.spinner", str(chosen.other_processor)]
    for name, workload in WORKLOADS.items():
        with place(0.0, chosen.rounds, chosen.server_processor, chosen.other_processor) as here:
            folder = here.folder / name
            workload.write(folder)
            with (
                served(here, folder, CONFIGURATION) as first,
                served(here, folder, CONFIGURATION, spinning) as second,
                pinned(chosen.other_processor),
            ):
                laps = [
                    (lap(first, workload, chosen.requests), lap(second, workload, chosen.requests))
                    for _ in range(chosen.rounds)
                ]
        for what, figure in (("inside, median", "inside_us"), ("processor time of native threads", "native_us")):
            without, beside = ([getattr(pair[at], figure) for pair in laps] for at in (0, 1))
            ratio = median(one / other for one, other in zip(beside, without, strict=True))
            print(
                f"{name}, {what}: {median(without):,.1f} µs a request without, {median(beside):,.1f} µs beside a "
                f"thread that spins, {ratio:.3f} ×"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
