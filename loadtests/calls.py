"""What a kernel costs a lane beside its loop: `python -m loadtests.calls`.

Two servers of one model take turns. Before it, one has a step with a kernel that bounds four numbers, and the other has
many of them. Shown is what the many take longer, for each, by the lane's own clock (`run` in `Server-Timing`), and how
many user instructions more, which valgrind's callgrind counts in runs of their own. All that a step needs is in both:
sizes, views, memory for what it gives, the call, the clock; and the loop over four numbers, which is little.

Exit codes: 0 within the bar, 1 above it, 2 nothing can be counted here.
"""

import argparse
import json
import re
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Final

from onnx import TensorProto, helper

from loadtests.kernels import CALL_NS_MAX
from loadtests.scenarios.stage import NO_TARGET, SERVEKIT, Configuration, Place, place, served
from loadtests.server import pinned
from loadtests.threads import PATIENT, PROGRAMS, CallgrindOfThreads, instructions
from loadtests.twins.workload import JSON, ask, save
from servekit.bench.encoding import Body

FEW: Final = 1
COLUMNS: Final = 4
STEPS_BESIDE: Final = 2
"""The model, and one to spare."""
ANSWER_SECONDS_MAX: Final = 300
EXCEEDED, NOT_COUNTED = 1, 2


def write(folder: Path, kernels: int) -> Path:
    """A model that gives what it takes, behind so many kernels."""
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", COLUMNS]) for name in ("clipped", "result")
    ]
    graph = helper.make_graph([helper.make_node("Identity", ["clipped"], ["result"])], "same", ports[:1], ports[1:])
    steps = "  - use: numbers.clip\n" * kernels
    save(graph, folder, f"inputs: {{values: 'float32[{COLUMNS}]'}}\nbefore:\n{steps}")
    return folder


def body() -> Body:
    """One row."""
    values = [0.25] * COLUMNS
    document = {"inputs": [{"name": "values", "datatype": "FP32", "shape": [1, COLUMNS], "data": values}]}
    return Body(json.dumps(document).encode(), JSON)


def run_ns(address: str, name: str, requests: int) -> float:
    """What a run took in the lane, the median of requests one after the other."""
    asked, runs = body(), []
    with closing(HTTPConnection(address, timeout=ANSWER_SECONDS_MAX)) as connection:
        for _ in range(requests):
            told = ask(connection, name, asked).server_timing
            run = re.search(r"\brun;dur=([0-9.]+)", told)
            if run is None:
                message = f"Server-Timing {told!r} found, 'run;dur=' is needed; see batching.server_timing"
                raise RuntimeError(message)
            runs.append(float(run[1]) * 1e6)
    return median(runs)


def longer_ns(here: Place, configuration: Configuration, folders: tuple[Path, Path], requests: int) -> list[float]:
    """What the second takes longer than the first, in each round."""
    few, many = folders
    told: Configuration = {**configuration, **NO_TARGET, "batching.server_timing": "always"}
    with (
        served(here, few, told) as (_, first),
        served(here, many, told) as (_, second),
        pinned(here.client_processor),
    ):
        pairs = [
            (run_ns(first, few.name, requests), run_ns(second, many.name, requests)) for _ in range(here.rounds + 1)
        ]
    # In the first round everything is new.
    return [more - less for less, more in pairs[1:]]


def counted(here: Place, configuration: Configuration, folder: Path, requests: int) -> float:
    """User instructions of a request, in the threads that serve."""
    counter = CallgrindOfThreads()
    program = [*counter.launch(here.folder).prefix, *SERVEKIT]
    asked = body()
    with (
        served(here, folder, {**configuration, **PATIENT}, program) as (pid, address),
        pinned(here.client_processor),
        closing(HTTPConnection(address, timeout=ANSWER_SECONDS_MAX)) as connection,
    ):

        def work() -> None:
            for _ in range(requests):
                ask(connection, folder.name, asked)

        work()
        return instructions(counter.count(pid, work)) / requests


def main() -> int:
    """Prints both figures."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.calls", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kernels", type=int, default=128, help="how many more the second pipeline has")
    parser.add_argument("--requests", type=int, default=1000, help="of one lap")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--server-processor", type=int, default=0)
    parser.add_argument("--client-processor", type=int, default=1)
    chosen = parser.parse_args()
    if not CallgrindOfThreads.available():
        print(f"instructions are counted by {', '.join(PROGRAMS)}: apt-get install valgrind", file=sys.stderr)
        return NOT_COUNTED
    kernels = chosen.kernels
    configuration = {"limits.pipeline_stages_max": FEW + kernels + STEPS_BESIDE}
    with place(0.0, chosen.rounds, chosen.server_processor, chosen.client_processor) as here:
        folders = write(here.folder / "few", FEW), write(here.folder / "many", FEW + kernels)
        longer = sorted(more / kernels for more in longer_ns(here, configuration, folders, chosen.requests))
        few, many = (counted(here, configuration, folder, chosen.requests) for folder in folders)
    found = median(longer)
    print(f"each of {kernels} kernels, in the lane: {found:.1f} ns ({longer[0]:.1f} to {longer[-1]:.1f})")
    print(
        f"each of {kernels} kernels, user instructions: {(many - few) / kernels:,.1f} ({few:,.0f} a request with "
        f"{FEW}, {many:,.0f} with {FEW + kernels})"
    )
    is_held = found <= CALL_NS_MAX
    print(f"{'held' if is_held else 'MISSED'}: {found:.1f} ns, the bar is {CALL_NS_MAX:g} ns")
    return 0 if is_held else EXCEEDED


if __name__ == "__main__":
    sys.exit(main())
