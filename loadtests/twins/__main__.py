"""Pipelines and their twins in turn, on the same processor: `python -m loadtests.twins [NAME...]`.

Exit codes: 0 all bars held, 1 one was missed, 4 the generator was the limit.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.scenarios.rounds import Round, Rounds, rounds
from loadtests.scenarios.stage import NO_TARGET, Place, place, served
from loadtests.server import STOP_SECONDS_MAX, pinned
from loadtests.twins.workload import JSON, WORKLOADS, Workload, ask
from servekit.bench.encoding import Body
from servekit.bench.settings import Settings
from servekit.bench.sweep import Bench
from servekit.bench.target import Target

COMPARED = 8
MISSED, NOT_JUDGED = 1, 4


@contextmanager
def twin(here: Place, workload: Workload, folder: Path) -> Iterator[str]:
    """The service in Python, on the same processor; its address."""
    command = [sys.executable, "-m", "loadtests.twins.service", workload.name, str(folder)]
    with pinned(here.server_processor):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None  # noqa: S101
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(STOP_SECONDS_MAX)


def bench_of(address: str, workload: Workload, bodies: list[Body], seconds: float) -> Bench:
    """The generator, aimed at one of both."""
    protocol = "json" if bodies[0].content_type == JSON else "binary"
    return Bench(Target(address, workload.name), bodies, Settings(protocol=protocol, seconds=seconds))  # type: ignore[arg-type]


def answer(address: str, workload: Workload, body: Body) -> Any:  # noqa: ANN401 - what NumPy makes of it
    """The output that is compared."""
    with closing(HTTPConnection(address, timeout=30)) as connection:
        outputs = json.loads(ask(connection, workload.name, body).content)["outputs"]
    return np.array(next(output["data"] for output in outputs if output["name"] == workload.output))


def throughput_of(one: Round) -> float:
    """Over that of the twin."""
    return one.run.steady_per_s / one.measure(lambda run: run.steady_per_s)


def compared(here: Place, workload: Workload, in_flight: int) -> tuple[Rounds, float]:
    """Closed loops in turn, and the largest difference between both answers."""
    folder = here.folder / workload.name
    workload.write(folder)
    bodies = workload.bodies()
    with served(here, folder, NO_TARGET) as (_, ours), twin(here, workload, folder) as theirs:
        pairs = [(answer(ours, workload, body), answer(theirs, workload, body)) for body in bodies[:COMPARED]]
        difference = max(float(np.abs(one - other).max()) for one, other in pairs)
        benches = [bench_of(address, workload, bodies, here.seconds) for address in (theirs, ours)]
        with pinned(here.client_processor):
            played = rounds(
                here.rounds,
                lambda: benches[0].closed(in_flight, here.seconds),
                lambda _: benches[1].closed(in_flight, here.seconds),
            )
    return played, difference


def told(one: Round) -> str:
    """A round in words."""
    before, after = one.before.steady_per_s, one.after.steady_per_s
    return f"twin {before:,.0f} and {after:,.0f}/s, pipeline {one.run.steady_per_s:,.0f}/s, {throughput_of(one):.2f} ×"


def main() -> int:
    """One comparison after the other."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.twins", description=__doc__)
    parser.add_argument("names", nargs="*", default=[], help=f"of {', '.join(WORKLOADS)}; all of them without one")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=64, help="requests on their way")
    parser.add_argument("--server-processor", type=int, default=0)
    parser.add_argument("--client-processor", type=int, default=1)
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.names) - set(WORKLOADS)):
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(WORKLOADS)}")
    code = 0
    for name in chosen.names or WORKLOADS:
        workload = WORKLOADS[name]
        with place(chosen.seconds, chosen.rounds, chosen.server_processor, chosen.client_processor) as here:
            played, difference = compared(here, workload, chosen.in_flight)
        ratio = played.median(throughput_of)
        print(f"{name}: {chosen.in_flight} requests on their way over HTTP, answers differ by {difference:.2g} at most")
        print("\n".join(played.told(told)))
        print("\n".join(f"NOT JUDGED  {why}" for why in played.lacking))
        is_held = ratio >= workload.ratio_min and difference <= workload.tolerance
        print(f"{'held' if is_held else 'MISSED'}: {ratio:.2f} × its twin, the bar is {workload.ratio_min:g} ×\n")
        if played.lacking:
            code = code or NOT_JUDGED
        elif not is_held:
            code = MISSED
    return code


if __name__ == "__main__":
    sys.exit(main())
