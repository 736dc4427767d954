"""`servekit bench`."""

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from servekit import __version__
from servekit.bench import report
from servekit.bench.inputs import Lengths
from servekit.bench.making import bodies
from servekit.bench.picture import picture
from servekit.bench.settings import ARRIVALS, Arrivals, Settings, Wish
from servekit.bench.sweep import Bench, Capacity, Run, numbers
from servekit.bench.target import PROTOCOLS, Protocol, Target
from servekit.errors import ConfigError

LIMITED = 4
"""Exit code where the generator was the limit of a run."""

_LOAD = "0.1..2.0"
_POSITIVE = click.FloatRange(0, min_open=True)


@dataclass(frozen=True)
class Choices:
    """The flags, as click gives them."""

    protocol: Protocol
    grpc_address: str | None
    rates: str | None
    load: str | None
    capacity: str
    in_flight: int | None
    arrivals: Arrivals
    trace: Path | None
    seconds: float
    warm_seconds: float
    patience_seconds: float | None
    slo_ms: float
    deadline_ms: float | None
    priority: str | None
    rows: int
    length: int
    lengths: str | None
    large: str | None
    body: Path | None
    cancel: float
    slow: int
    connections: int | None
    streams: int
    seed: int
    processor: int | None
    server_pid: int | None
    as_json: bool
    svg: Path | None

    def settings(self) -> Settings:
        """How to send."""
        return Settings(
            protocol=self.protocol,
            arrivals="trace" if self.trace else self.arrivals,
            trace=self.trace,
            seconds=self.seconds,
            warm_seconds=self.warm_seconds,
            patience_seconds=self.patience_seconds,
            slo_ms=self.slo_ms,
            deadline_ms=self.deadline_ms,
            priorities=_priorities(self.priority),
            cancel_share=self.cancel,
            slow_connections=self.slow,
            connections=self.connections,
            streams=self.streams,
            seed=self.seed,
        )

    def wish(self) -> Wish:
        """What to send."""
        share, rows = _large(self.large)
        lengths = self.lengths or str(self.length)
        Lengths.parse(lengths)
        return Wish(self.rows, lengths, share, rows, self.body)

    def factors(self) -> list[float]:
        """Multiples of the capacity; none where rates are given, or a trace has its own."""
        if self.load is None and (self.rates is not None or self.trace is not None):
            return []
        return numbers(self.load or _LOAD, "--load")


@click.command("bench")
@click.argument("model_url")
@click.option(
    "--protocol", type=click.Choice(PROTOCOLS), default="json", show_default=True, help="Encoding of the requests."
)
@click.option("--grpc-address", metavar="HOST:PORT", help="Where gRPC is served, if not at the URL's address.")
@click.option("--rates", metavar="LIST", help="Requests per second: 100,200,400 or 100..800:8.")
@click.option("--load", metavar="LIST", help=f"Rates as multiples of the capacity.  [default: {_LOAD}, in 8 steps]")
@click.option(
    "--capacity",
    metavar="auto|RATE",
    default="auto",
    show_default=True,
    help="Requests per second that the server serves at most; auto measures it in a closed loop.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1),
    help="Requests of that closed loop.  [default: doubled until more bring no more]",
)
@click.option(
    "--arrivals",
    type=click.Choice(ARRIVALS),
    default="poisson",
    show_default=True,
    help="Gaps between requests: mmpp turns between 0.4 and 2.2 of the rate, onoff between ten and one, diurnal swings "
    "three to one in 60 s.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Recorded times, one a line: 12.5 or 12.5ms, 0.0125s, or JSON with offset_ms. At its own rate unless --rates "
    "or --load stretch it.",
)
@click.option("--seconds", type=_POSITIVE, default=10.0, show_default=True, help="Length of each run.")
@click.option(
    "--warm-seconds", type=click.FloatRange(0), default=2.0, show_default=True, help="Sent before, and not counted."
)
@click.option(
    "--patience-seconds",
    type=click.FloatRange(0),
    help="Wait for answers after the last request.  [default: four objectives or deadlines, 2 at least]",
)
@click.option("--slo-ms", type=_POSITIVE, default=100.0, show_default=True, help="Objective: later is not good.")
@click.option("--deadline-ms", type=_POSITIVE, help="Sent along as x-request-timeout-ms or grpc-timeout.")
@click.option("--priority", metavar="LIST", help="Levels and shares, 1:0.3,4:0.7, sent as x-request-priority.")
@click.option("--rows", type=click.IntRange(1), default=1, show_default=True, help="Rows of a request.")
@click.option("--length", type=click.IntRange(1), default=1, show_default=True, help="Size of other free axes.")
@click.option("--lengths", metavar="KIND", help="Sizes drawn instead: lognormal:48:512 (median, most), uniform:1:128.")
@click.option("--large", metavar="SHARE:ROWS", help="A share of requests that has so many rows.")
@click.option(
    "--body",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Sent as it is, instead of made-up inputs; for gRPC one ModelInferRequest.",
)
@click.option("--cancel", type=click.FloatRange(0, 1), default=0.0, help="Share of requests whose caller leaves.")
@click.option("--slow", type=click.IntRange(0), default=0, help="Callers beside, who send on and hardly read (HTTP).")
@click.option("--connections", type=click.IntRange(1), help="Held open.  [default: what rate and objective need]")
@click.option("--streams", type=click.IntRange(1), default=100, show_default=True, help="gRPC: at most, a connection.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="The same seed, the same requests.")
@click.option("--processor", type=click.IntRange(0), help="Keep the generator on this processor.")
@click.option("--server-pid", type=click.IntRange(1), help="Report the processor time of this process too.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Write latency over load as a picture.")
def command(model_url: str, **given: Any) -> None:  # noqa: ANN401 - click gives what the options say
    """Send open-loop load to a model and tell how it copes.

    MODEL_URL is HOST:PORT/NAME or http://HOST:PORT/v2/models/NAME. Requests leave on a schedule, whether or not earlier
    ones are answered, and latency counts from when a request was due. Inputs are made up from the model's metadata.

    Exit codes: 0 measured, 1 the server cannot be reached, 2 usage, 4 the generator was itself the limit of a run: its
    figures say nothing of the server.
    """
    choices = Choices(**given)
    target = Target.parse(model_url, choices.grpc_address)
    settings, wish, factors = choices.settings(), choices.wish(), choices.factors()
    rates = numbers(choices.rates, "--rates") if choices.rates else []
    _pin(choices.processor)
    # A run is native and long; nothing is left to tidy up where it is interrupted.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    bench = Bench(target, bodies(target, choices.protocol, wish, choices.seed), settings, choices.server_pid)
    tell = (lambda text: click.echo(text, err=True)) if choices.as_json else click.echo
    capacity = _capacity(bench, choices) if factors else None
    if capacity:
        rates += [factor * capacity.requests_per_s for factor in factors]
        tell(report.capacity_line(capacity))
    tell(report.heading(settings.slo_ms))
    runs: list[Run] = []
    for run in bench.sweep(rates, capacity) if rates else [bench.run(None)]:
        runs.append(run)
        tell(report.line(run))
    for text in report.ending(runs, capacity):
        tell(text)
    shown = asdict(settings) | {"trace": str(choices.trace or "") or None}
    about = {"servekit": __version__, "model": model_url, "settings": shown}
    if choices.as_json:
        click.echo(json.dumps(report.document(about, runs, capacity), indent=2))
    if choices.svg:
        title = f"{target.model}, {choices.protocol}, {settings.arrivals}"
        choices.svg.write_text(picture(runs, settings.slo_ms, title))
    if not all(run.valid for run in runs):
        sys.exit(LIMITED)


def _capacity(bench: Bench, choices: Choices) -> Capacity:
    if choices.capacity == "auto":
        return bench.capacity(choices.in_flight)
    (given,) = numbers(choices.capacity, "--capacity")[:1]
    return Capacity(given)


def _priorities(text: str | None) -> tuple[tuple[int, float], ...]:
    if text is None:
        return ()
    try:
        pairs = [pair.split(":") for pair in text.split(",")]
        found = tuple((int(level), float(share)) for level, share in pairs)
    except ValueError:
        found = ()
    if not found or not all(level > 0 and 0 < share < float("inf") for level, share in found):
        message = f"--priority {text!r}: levels from 1 with shares above 0 are allowed, as 1:0.3,4:0.7"
        raise ConfigError(message)
    return found


def _large(text: str | None) -> tuple[float, int]:
    if text is None:
        return 0.0, 0
    share, _, rows = text.partition(":")
    try:
        found = float(share), int(rows)
    except ValueError:
        found = 0.0, 0
    if not 0 < found[0] < 1 or found[1] < 1:
        message = f"--large {text!r}: a share between 0 and 1 and a number of rows are allowed, as 0.2:16"
        raise ConfigError(message)
    return found


def _pin(processor: int | None) -> None:
    if processor is None:
        return
    try:
        os.sched_setaffinity(0, {processor})
    except OSError:
        usable = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        message = f"--processor {processor}: this process may use {usable}"
        raise ConfigError(message) from None
