"""The scenarios. Each plays on a stage of its own and returns what it found."""

import math
import threading
from collections.abc import Callable
from dataclasses import replace

from loadtests.scenarios.criteria import Criterion, Verdict, recovery_s
from loadtests.scenarios.stage import Place, Stage, stage
from servekit.bench.settings import Settings, Wish
from servekit.bench.sweep import Bench, Run, knee

MLP = Settings(protocol="binary", slo_ms=50.0)
TEXT = Settings(protocol="binary", slo_ms=100.0)
RESNET = Settings(protocol="binary", slo_ms=400.0)
TEXT_WISH = Wish(lengths="lognormal:48:512")
LOADS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.5, 2.0)

QUIET_LOAD = 0.7
OVERLOAD = 2.0
GOOD_LEAST = 0.99
# Goodput at twice the capacity, as a share of what is left of it once every refusal is paid for.
OVERLOAD_LEAST = 0.97
GREEDY_MOST = 0.2
REFUSAL_OF_TARGET_MOST = 0.1
KNEE_LEAST = 0.85
# Of what a quiet server does, with the disturbance.
UNDISTURBED_LEAST = 0.99

STALL_S = 3.0
STALL_STREAMS = 250
RECOVERY_TARGETS_MOST = 5.0
RECOVERED_SHARE = 0.95
RECOVERED_WINDOWS = 10
REFUSAL_SECONDS = 3.0


def sweep(place: Place, model: str, wish: Wish, settings: Settings) -> Verdict:
    """0.1 to 2 times the capacity."""
    with stage(place, model, wish, settings) as played:
        capacity = played.bench.capacity()
        runs = [played.bench.run(load * capacity.requests_per_s, load) for load in LOADS]
    judged = [run for run in runs if run.valid]
    criteria = [
        Criterion(f"good at {run.load:.1f} of capacity", run.good_share, least=GOOD_LEAST)
        for run in judged
        if (run.load or 0) <= QUIET_LOAD
    ]
    found = knee(judged) or 0.0
    criteria.append(Criterion("knee over capacity", found / capacity.requests_per_s, least=KNEE_LEAST))
    quiet = next((run for run in judged if run.load == LOADS[1]), None)
    if quiet is not None:
        p99_ms = quiet.outcome["offered_ms"]["p99"] or math.inf
        criteria.append(Criterion("p99 at 0.3 of capacity over the target", p99_ms / settings.slo_ms, most=1.0))
    return Verdict(criteria, runs, [f"capacity {capacity.requests_per_s:,.0f}/s in a loop of {capacity.in_flight}"])


def overload(place: Place, model: str, settings: Settings) -> Verdict:
    """Twice the capacity, and the same without a target. Over gRPC: many streams share what a packet costs.

    The capacity is what a loop of callers gets who are never refused.
    """
    settings = replace(settings, protocol="grpc")
    with stage(place, model, Wish(), settings, target=False) as played:
        capacity = played.bench.capacity()
        served = played.bench.closed(capacity.in_flight or 1)
        refused = refusal_cost_s(played, capacity.in_flight or 1)
        greedy = played.bench.run(OVERLOAD * capacity.requests_per_s, OVERLOAD)
    with stage(place, model, Wish(), settings) as played:
        run = played.bench.run(OVERLOAD * capacity.requests_per_s, OVERLOAD)
    cost_s = (served.server_cpu_s or 0.0) / max(served.outcome["answered_total"], 1)
    # Where refusals alone fill the processor, nothing is left to serve.
    ratio = min(refused / cost_s, 1 / OVERLOAD) if cost_s else 0.0
    least = OVERLOAD_LEAST * (1 - OVERLOAD * ratio) / (1 - ratio)
    goodput, without = (one.outcome["goodput_per_s"] / capacity.requests_per_s for one in (run, greedy))
    refusal_ms = run.outcome["refusal_ms"]["p50"]
    criteria = [
        Criterion("goodput at twice the capacity over the capacity", goodput, least=least),
        Criterion("the same without a target", without, most=GREEDY_MOST),
        Criterion(
            "median refusal over the target",
            math.inf if refusal_ms is None else refusal_ms / settings.slo_ms,
            most=REFUSAL_OF_TARGET_MOST,
        ),
    ]
    costs = f"an answer costs {cost_s * 1e6:.0f} µs of processor time, a refusal {refused * 1e6:.0f}"
    return Verdict(criteria, [run], [f"capacity {capacity.requests_per_s:,.0f}/s; {costs}"])


def refusal_cost_s(played: Stage, in_flight: int) -> float:
    """Processor time of a busy server for what it refuses as it arrives: a request for a model that is not there."""
    bench = played.bench
    name = bench.target.model
    absent = "x" * len(name)
    made = bench.bodies
    if bench.settings.protocol == "grpc":
        # Over gRPC the name stands in front of the message, over HTTP in the path.
        made = [replace(body, content=body.content.replace(name.encode(), absent.encode(), 1)) for body in made]
    run = Bench(replace(bench.target, model=absent), made, bench.settings, bench.server_pid).closed(
        in_flight, REFUSAL_SECONDS
    )
    answered: int = run.outcome["answered_total"]
    return (run.server_cpu_s or 0.0) / max(answered, 1)


def stall(place: Place) -> Verdict:
    """The server stands still for 3 s."""
    settings = replace(MLP, protocol="grpc", streams=STALL_STREAMS, warm_seconds=0.0)
    with stage(place, "mlp", Wish(), settings) as played:
        rate = QUIET_LOAD * played.bench.capacity().requests_per_s
        # Whoever comes meanwhile needs a stream too.
        connections = math.ceil(rate * (STALL_S + 1) / STALL_STREAMS)
        seconds = place.seconds + 2 * STALL_S
        bench = played.with_settings(connections=connections, seconds=seconds).bench
        ended: list[Run] = []
        sender = threading.Thread(target=lambda: ended.append(bench.run(rate, QUIET_LOAD)))
        sender.start()
        pause = threading.Event()
        pause.wait(place.seconds / 2)
        with played.stopped():
            pause.wait(STALL_S)
        sender.join()
    if not ended:
        raise RuntimeError("the run under the stall has not ended as it should; its error is above")
    took_s = recovery_s(
        ended[0], bench.settings.window_ms / 1e3, place.seconds / 2 + STALL_S, RECOVERED_SHARE, RECOVERED_WINDOWS
    )
    targets = took_s * 1e3 / settings.slo_ms
    return Verdict([Criterion("recovery, in targets", targets, most=RECOVERY_TARGETS_MOST)], ended)


def disturbed(place: Place, what: str, **disturbance: object) -> Verdict:
    """0.7 of the capacity, without and with something that disturbs."""
    with stage(place, "mlp", Wish(), MLP) as played:
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
    with stage(place, "mlp", Wish(large_share=0.2, large_rows=16), MLP) as played:
        rate = QUIET_LOAD * played.bench.capacity().requests_per_s
        run = played.bench.run(rate, QUIET_LOAD)
    return Verdict([Criterion("good with 20 % large requests", run.good_share, least=GOOD_LEAST)], [run])


SCENARIOS: dict[str, tuple[str, Callable[[Place], Verdict]]] = {
    "sweep-mlp": ("mlp at 0.1 to 2 times its capacity", lambda place: sweep(place, "mlp", Wish(), MLP)),
    "sweep-text": ("text of unequal lengths, the same", lambda place: sweep(place, "text", TEXT_WISH, TEXT)),
    "overload-mlp": ("mlp at twice its capacity, target 50 ms", lambda place: overload(place, "mlp", MLP)),
    "overload-resnet": ("resnet at twice its capacity, target 400 ms", lambda place: overload(place, "resnet", RESNET)),
    "stall": ("the server is stopped for 3 s", stall),
    "cancelled": ("5 % of the callers leave", lambda place: disturbed(place, "5 % cancelled", cancel_share=0.05)),
    "large": ("20 % of the requests have 16 rows", large),
    "slow": ("4 callers hardly read", lambda place: disturbed(place, "4 slow readers", slow_connections=4)),
}
