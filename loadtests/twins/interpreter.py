"""Whether the interpreter is in the way of pipelines: `python -m loadtests.twins.interpreter`.

A server, and one in whose process a Python thread spins on a processor of its own, take turns. Compared are what the
server itself says that a request took inside of it (`Server-Timing`), and the processor time of its native threads.

With `--instructions` nothing is timed. One after the other, both servers run under valgrind's callgrind, which counts
the user instructions of their native threads, and tells whether any of these was in the interpreter's library.

Exit codes: 0 measured, and with `--instructions` the bar held; 1 the bar was missed; 2 nothing can be counted here.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from loadtests.scenarios.stage import NO_TARGET, SERVEKIT, Configuration, Place, place, served
from loadtests.server import pinned
from loadtests.threads import PATIENT, PROGRAMS, CallgrindOfThreads, Thread, instructions, is_native, native_seconds
from loadtests.twins import spinner
from loadtests.twins.workload import WORKLOADS, Workload, ask

CONFIGURATION: Final[Configuration] = {**NO_TARGET, "batching.server_timing": "always"}
INSTRUCTIONS_RATIO_MAX: Final = 1.02
"""What is done by the clock is done more often, because the other thread slows a server down under callgrind."""
SPINNING_SHARE_MIN: Final = 0.1
"""What the thread that spins has to do, of what the native ones do: else nothing was beside them."""
INTERPRETER: Final = re.compile(r"(?:lib)?python[0-9.]+(?:\.so.*)?")
"""The library, or the program where there is no library."""
ANSWER_SECONDS_MAX: Final = 300
MISSED, NOT_COUNTED = 1, 2


class Lap(NamedTuple):
    """What some requests, one after the other, took."""

    inside_us: float
    """The median, as the server says."""
    native_us: float
    """Processor time of native threads, each request."""


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


def times(here: Place, workload: Workload, folder: Path, requests: int) -> None:
    """Prints a line a figure; both servers are open, and take turns."""
    with (
        served(here, folder, CONFIGURATION) as first,
        served(here, folder, CONFIGURATION, beside(here)) as second,
        pinned(here.client_processor),
    ):
        laps = [(lap(first, workload, requests), lap(second, workload, requests)) for _ in range(here.rounds)]
    for what, figure in (("inside, median", "inside_us"), ("processor time of native threads", "native_us")):
        without, with_it = ([getattr(pair[at], figure) for pair in laps] for at in (0, 1))
        ratio = median(one / other for one, other in zip(with_it, without, strict=True))
        print(
            f"{workload.name}, {what}: {median(without):,.1f} µs a request without, {median(with_it):,.1f} µs beside a "
            f"thread that spins, {ratio:.3f} ×"
        )


def beside(here: Place) -> list[str]:
    """The program that has a thread which spins, where the client runs."""
    return [sys.executable, "-m", "loadtests.twins.spinner", str(here.client_processor)]


def counted(here: Place, workload: Workload, program: Sequence[str], requests: int) -> list[Thread]:
    """The threads of a server while it answers one request after the other."""
    counter = CallgrindOfThreads()
    program = [*counter.launch(here.folder).prefix, *program]
    bodies = workload.bodies()
    with (
        served(here, here.folder / workload.name, PATIENT, program) as (pid, address),
        pinned(here.client_processor),
        closing(HTTPConnection(address, timeout=ANSWER_SECONDS_MAX)) as connection,
    ):

        def work() -> None:
            for number in range(requests):
                ask(connection, workload.name, bodies[number % len(bodies)])

        # What is done once is done.
        work()
        return counter.count(pid, work)


def instructions_ratio(here: Place, workload: Workload, requests: int) -> float:
    """Prints what was counted; fails where the other thread did not spin, or where a native one was in Python."""
    quiet, both = (counted(here, workload, program, requests) for program in (SERVEKIT, beside(here)))
    spun = sum(thread.instructions for thread in both if thread.name == spinner.NAME)
    without, with_it = instructions(quiet), instructions(both)
    if spun < SPINNING_SHARE_MIN * with_it:
        message = (
            f"{spun} instructions of the thread that spins found, {SPINNING_SHARE_MIN:.0%} of the {with_it} of native "
            "threads are needed; ask for more --requests"
        )
        raise RuntimeError(message)
    ratio = with_it / without
    print(
        f"{workload.name}, user instructions of native threads: {without / requests:,.0f} a request without, "
        f"{with_it / requests:,.0f} beside a thread that spins (which has {spun / requests:,.0f}), {ratio:.4f} ×"
    )
    for what, threads in (("without", quiet), ("beside it", both)):
        files = {file for thread in threads if is_native(thread.name) for file in thread.files}
        print(f"{workload.name}, files that native threads ran {what}: {', '.join(sorted(files))}")
        if found := sorted(filter(INTERPRETER.fullmatch, files)):
            message = f"{', '.join(found)} found among the files that native threads ran, no interpreter is allowed"
            raise RuntimeError(message)
    return ratio


def main() -> int:
    """One workload after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.twins.interpreter",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--instructions", action="store_true", help="count instead of timing; takes some minutes")
    parser.add_argument("--requests", type=int, default=300, help="of one lap")
    parser.add_argument("--rounds", type=int, default=15, help="laps of each server that are timed")
    parser.add_argument("--server-processor", type=int, default=0)
    parser.add_argument("--other-processor", type=int, default=1, help="of the client, and of the thread that spins")
    chosen = parser.parse_args()
    if chosen.instructions and not CallgrindOfThreads.available():
        print(f"instructions are counted by {', '.join(PROGRAMS)}: apt-get install valgrind", file=sys.stderr)
        return NOT_COUNTED
    code = 0
    for name, workload in WORKLOADS.items():
        with place(0.0, chosen.rounds, chosen.server_processor, chosen.other_processor) as here:
            folder = here.folder / name
            workload.write(folder)
            if not chosen.instructions:
                times(here, workload, folder, chosen.requests)
            elif instructions_ratio(here, workload, chosen.requests) > INSTRUCTIONS_RATIO_MAX:
                print(f"MISSED: the bar is {INSTRUCTIONS_RATIO_MAX:g} ×")
                code = MISSED
    return code


if __name__ == "__main__":
    sys.exit(main())
