"""What a request costs `servekit serve`, beside the bars it has to stay under: `make bench ARGS=--help`.

The server runs on one processor, the clients on another. Read user instructions first: a neighbour on the machine
changes how long an instruction takes, not how many are needed. Requests per second and latency are printed for
orientation; never compare them across machines or days. Needs wrk and h2load, and perf or valgrind for
the instructions.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

from loadtests import counters, models
from loadtests.bodies import bodies
from loadtests.clients import PROGRAMS, Client, Load
from loadtests.counters import Counter
from loadtests.server import Server, pinned, serving
from loadtests.workloads import FIRST_ANSWER_S_MAX, RESIDENT_MB_MAX, WORKLOADS, Workload

WARM_SECONDS = 1.0
# Of a slowed-down server; there are many instructions to count, and no noise in them.
SLOW_SECONDS = 8.0
SLOW_REQUESTS_PER_SECOND = 30.0
WITHOUT_COUNTER = (
    "this machine has no counters that perf could read (apt-get install linux-perf; root, or "
    "kernel.perf_event_paranoid <= 1), and valgrind, which counts without them, is not installed"
)


@dataclass(frozen=True)
class Settings:
    """How long and where."""

    seconds: float
    """Of one run."""
    rounds: int
    """Runs of each workload, medians are shown."""
    starts: int
    """Starts of the server until the first answer."""
    server_processor: int
    client_processor: int
    counter: Counter | None


@dataclass(frozen=True)
class Measured:
    """The figures of one workload, per request; None where this machine cannot count them."""

    workload: Workload
    instructions: float | None
    switches: float
    requests_per_second: float
    p50_us: float


@dataclass(frozen=True)
class Process:
    """The figures of the process with the model `tiny` loaded."""

    resident_mb: float
    """After the load."""
    first_answer_s: float
    """From the start of the command to the first answer."""


def clients_of(path: Path, server: Server, requests_per_second: float = 1_000.0) -> Iterator[Client]:
    """One client for each workload of the model."""
    requests = bodies(path)
    for workload in WORKLOADS:
        if workload.model == path.stem:
            yield Client(Load(server, workload, requests[workload.encoding], path.parent), requests_per_second)


def measure(client: Client, settings: Settings) -> Measured:
    """Times and context switches, from runs in which nothing is counted: counting disturbs them."""
    client.send(WARM_SECONDS)
    switches, rates, latencies = [], [], []
    for _ in range(settings.rounds):
        before = counters.switches(client.load.server.pid)
        outcome = client.send(settings.seconds)
        switches.append((counters.switches(client.load.server.pid) - before) / outcome.requests)
        rates.append(outcome.requests / outcome.seconds)
        latencies.append(outcome.p50_us)
    return Measured(
        client.load.workload, None, statistics.median(switches), statistics.median(rates), statistics.median(latencies)
    )


def count(client: Client, settings: Settings, counter: Counter) -> float | None:
    """User instructions a request, from runs of their own."""
    slow = counter.slowdown > 1
    seconds = SLOW_SECONDS if slow else settings.seconds
    # Twice: the first learns how fast the slowed server is, and the second how fast it is once it is warm, so that the
    # counted run has enough requests for each connection's first ones not to show.
    client.send_counted(WARM_SECONDS, counter)
    client.send_counted(WARM_SECONDS, counter)
    counted = [client.send_counted(seconds, counter) for _ in range(1 if slow else settings.rounds)]
    known = [instructions for instructions in counted if instructions is not None]
    return statistics.median(known) if known else None


def measure_model(path: Path, settings: Settings) -> tuple[list[Measured], float]:
    """All workloads of one model; and the resident memory of their server after them."""
    with serving(path, settings.server_processor) as server, pinned(settings.client_processor):
        measured = [measure(client, settings) for client in clients_of(path, server)]
        resident_mb = counters.resident_mb(server.pid)
    counter = settings.counter
    if counter is None:
        return measured, resident_mb
    with (
        serving(path, settings.server_processor, counter.launch(path.parent)) as server,
        pinned(settings.client_processor),
    ):
        guess = SLOW_REQUESTS_PER_SECOND if counter.slowdown > 1 else 1_000.0
        counted = [count(client, settings, counter) for client in clients_of(path, server, guess)]
    return [
        replace(item, instructions=instructions) for item, instructions in zip(measured, counted, strict=True)
    ], resident_mb


def first_answer_s(path: Path, settings: Settings) -> float:
    """The median time from the command to its first answer over HTTP."""
    requests = bodies(path)
    workload, seconds = WORKLOADS[0], []
    for _ in range(settings.starts):
        with serving(path, settings.server_processor) as server:
            Load(server, workload, requests[workload.encoding], path.parent).ask_http()
            seconds.append(time.perf_counter() - server.started_at_s)
    return statistics.median(seconds)


# Report --------------------------------------------------------------------------------------------------------------


def shown(figure: float | None, bar: float, digits: int = 2) -> str:
    """The figure, and a mark where it is above its bar."""
    if figure is None:
        return "not counted"
    text = f"{figure:,.0f}" if bar >= 1_000 else f"{figure:.{digits}f}"
    return text if figure <= bar else f"{text} (over)"


def line_of(measured: Measured) -> str:
    """One line of the table."""
    workload = measured.workload
    cells = [
        workload.title,
        shown(measured.instructions, workload.instructions_max),
        f"{workload.instructions_max:,}",
        shown(measured.switches, workload.switches_max, 3),
        f"{workload.switches_max}",
        f"{measured.requests_per_second:,.0f}",
        f"{measured.p50_us:,.0f}",
        workload.others,
    ]
    return "| " + " | ".join(cells) + " |"


def table(measured: list[Measured], process: Process) -> str:
    """Markdown, ready for README.md."""
    heads = ["workload", "user instructions", "at most", "context switches", "at most", "requests/s", "p50 µs"]
    resident = shown(process.resident_mb, RESIDENT_MB_MAX, 1)
    first_answer = shown(process.first_answer_s, FIRST_ANSWER_S_MAX)
    lines = [
        "| " + " | ".join([*heads, "user instructions of others"]) + " |",
        "|---" * (len(heads) + 1) + "|",
        *map(line_of, measured),
        "",
        "| process with tiny loaded | measured | at most |",
        "|---|---|---|",
        f"| resident memory after load, MB | {resident} | {RESIDENT_MB_MAX:.0f} |",
        f"| start to first answer, s | {first_answer} | {FIRST_ANSWER_S_MAX} |",
    ]
    return "\n".join(lines)


def machine() -> str:
    """Where and with what the figures were taken."""
    described = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(": ")[1] for line in described if line.startswith("model name")), platform.machine())
    versions = ", ".join(f"{package} {version(package)}" for package in ("servekit", "onnxruntime"))
    return f"{processor}, {os.cpu_count()} processors, Linux {platform.release()}, {versions}"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure what a request costs `servekit serve`.")
    parser.add_argument("--seconds", type=float, default=2, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each workload")
    parser.add_argument("--starts", type=int, default=5, help="starts until the first answer")
    parser.add_argument("--server-processor", type=int, default=0)
    parser.add_argument("--client-processor", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    return parser.parse_args()


def main() -> int:
    """Measure everything; ends with 2 where a client is missing, and never fails for a slow machine."""
    chosen = arguments()
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if missing:
        print(f"load clients are missing; on Debian and Ubuntu:  apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    counter = counters.best_counter()
    if counter is None:
        print(f"user instructions are not counted: {WITHOUT_COUNTER}", file=sys.stderr)
    settings = Settings(
        chosen.seconds, chosen.rounds, chosen.starts, chosen.server_processor, chosen.client_processor, counter
    )
    with tempfile.TemporaryDirectory(prefix="servekit-bench-") as folder:
        tiny, mlp = (models.write(Path(folder), name) for name in ("tiny", "mlp"))
        tiny_measured, resident_mb = measure_model(tiny, settings)
        mlp_measured, _ = measure_model(mlp, settings)
        process = Process(resident_mb, first_answer_s(tiny, settings))
    measured = tiny_measured + mlp_measured
    if chosen.json:
        figures = {
            "workloads": [asdict(item) for item in measured],
            "process": asdict(process),
            "counter": counter.name if counter else None,
        }
        print(json.dumps({"machine": machine(), **figures}, indent=2))
    else:
        counted_by = f"instructions by {counter.name}" if counter else "instructions not counted"
        print(
            f"{table(measured, process)}\n\n{machine()}; {settings.rounds} runs of {settings.seconds:g} s, {counted_by}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
