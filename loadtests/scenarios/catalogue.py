"""The scenarios. Each plays on a stage of its own and returns what it found."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from loadtests.scenarios.ablation import ablation
from loadtests.scenarios.criteria import Criterion, Recovered, Verdict, recovery_s, stall_end_s
from loadtests.scenarios.knee import knee
from loadtests.scenarios.lone import lone
from loadtests.scenarios.overload import overload
from loadtests.scenarios.saturation import saturation
from loadtests.scenarios.stage import Place, stage
from loadtests.scenarios.subjects import MLP, RESNET, TEXT, Closely, Subject
from servekit.bench import sweep as bench_sweep
from servekit.bench.settings import Wish
from servekit.bench.sweep import Run

LOADS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.5, 2.0)

QUIET_LOAD = 0.7
GOOD_LEAST = 0.99
KNEE_LEAST = 0.85
# Of what a quiet server does, with the disturbance.
UNDISTURBED_LEAST = 0.99

STALL_S = 3.0
STALL_STREAMS = 250
RECOVERY_TARGETS_MOST = 5.0
RECOVERED = Recovered(share=0.95, for_s=0.5)


def sweep(place: Place, subject: Subject) -> Verdict:
    """0.1 to 2 times the capacity."""
    with stage(place, subject) as played:
        capacity = played.bench.capacity()
        runs = [played.bench.run(load * capacity.requests_per_s, load) for load in LOADS]
    judged = [run for run in runs if run.valid]
    criteria = [
        Criterion(f"good at {run.load:.1f} of capacity", run.good_share, least=GOOD_LEAST)
        for run in judged
        if (run.load or 0) <= QUIET_LOAD
    ]
    found = bench_sweep.knee(judged) or 0.0
    criteria.append(Criterion("knee over capacity", found / capacity.requests_per_s, least=KNEE_LEAST))
    quiet = next((run for run in judged if run.load == LOADS[1]), None)
    if quiet is not None:
        p99_ms = quiet.outcome["offered_ms"]["p99"] or math.inf
        criteria.append(Criterion("p99 at 0.3 of capacity over the target", p99_ms / subject.settings.slo_ms, most=1.0))
    return Verdict(criteria, runs, [f"capacity {capacity.requests_per_s:,.0f}/s in a loop of {capacity.in_flight}"])


def stall(place: Place) -> Verdict:
    """The server stands still for 3 s."""
    settings = Closely(protocol="grpc", slo_ms=MLP.settings.slo_ms, streams=STALL_STREAMS, warm_seconds=0.0)
    with stage(place, Subject("mlp", settings)) as played:
        rate = QUIET_LOAD * played.bench.capacity().requests_per_s
        # Whoever comes meanwhile needs a stream too.
        connections = math.ceil(rate * (STALL_S + 1) / STALL_STREAMS)
        bench = played.with_settings(connections=connections, seconds=place.seconds + 2 * STALL_S).bench
        ended: list[Run] = []
        sender = threading.Thread(target=lambda: ended.append(bench.run(rate, QUIET_LOAD)))
        sender.start()
        pause = threading.Event()
        pause.wait(place.seconds / 2)
        with played.stopped():
            stopped_at_s = time.perf_counter()
            pause.wait(STALL_S)
            stalled_s = time.perf_counter() - stopped_at_s
        sender.join()
    if not ended:
        raise RuntimeError("the run under the stall has not ended as it should; its error is above")
    timeline, window_s = ended[0].outcome["timeline"], settings.window_ms / 1e3
    end_s = stall_end_s(timeline, window_s, stalled_s)
    targets = recovery_s(timeline, window_s, end_s, RECOVERED) * 1e3 / settings.slo_ms
    return Verdict(
        [Criterion("recovery, in targets", targets, most=RECOVERY_TARGETS_MOST)],
        ended,
        [f"stood still for {stalled_s:.2f} s, until {end_s:.2f} s of the run"],
    )


def disturbed(place: Place, what: str, **disturbance: object) -> Verdict:
    """0.7 of the capacity, without and with something that disturbs."""
    with stage(place, MLP) as played:
        rate = QUIET_LOAD * played.bench.capacity().requests_per_s
        alone = played.bench.run(rate, QUIET_LOAD)
        run = played.with_settings(**disturbance).bench.run(rate, QUIET_LOAD)
    share = run.good_share / alone.good_share if alone.good_share else 0.0
    lost = sum(run.outcome["failed"].values()) / max(run.outcome["offered"], 1)
    return Verdict(
        [
            Criterion(f"good with {what} over without", share, least=UNDISTURBED_LEAST),
            Criterion(f"left without an answer with {what}", lost, most=0.0),
        ],
        [alone, run],
    )


def large(place: Place) -> Verdict:
    """One request in five has 16 rows; 0.7 of the capacity for that mix."""
    with stage(place, replace(MLP, wish=Wish(large_share=0.2, large_rows=16))) as played:
        rate = QUIET_LOAD * played.bench.capacity().requests_per_s
        run = played.bench.run(rate, QUIET_LOAD)
    return Verdict([Criterion("good with 20 % large requests", run.good_share, least=GOOD_LEAST)], [run])


SCENARIOS: dict[str, tuple[str, Callable[[Place], Verdict]]] = {
    "sweep-mlp": ("mlp at 0.1 to 2 times its capacity", lambda place: sweep(place, MLP)),
    "sweep-text": ("text of unequal lengths, the same", lambda place: sweep(place, TEXT)),
    "overload-mlp": ("mlp at twice its capacity, target 50 ms", lambda place: overload(place, MLP)),
    "overload-resnet": ("resnet at twice its capacity, target 400 ms", lambda place: overload(place, RESNET)),
    "saturation-mlp": ("mlp as installed, against set batch sizes", lambda place: saturation(place, MLP)),
    "saturation-text": ("text of unequal lengths, the same", lambda place: saturation(place, TEXT)),
    "lone": ("one client, tiny and mlp, against no batching", lone),
    "knee-mlp": ("mlp, the simulated knee and the measured one", lambda place: knee(place, MLP)),
    "ablation-mlp": ("mlp, what each choice of the configuration is worth", lambda place: ablation(place, MLP)),
    "stall": ("the server is stopped for 3 s", stall),
    "cancelled": ("5 % of the callers leave", lambda place: disturbed(place, "5 % cancelled", cancel_share=0.05)),
    "large": ("20 % of the requests have 16 rows", large),
    "slow": ("4 callers hardly read", lambda place: disturbed(place, "4 slow readers", slow_connections=4)),
}
