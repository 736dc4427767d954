"""Latency and goodput over load, as a picture that is readable on light and dark pages."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from servekit.bench.sweep import Run

_WIDTH, _HEIGHT = 860, 620
_LEFT, _RIGHT = 70, 150
_TOP, _MIDDLE, _BOTTOM = 50, 50, 50
_PANEL = (_HEIGHT - _TOP - _MIDDLE - _BOTTOM) / 2
_TICKS = 6
_LATENCY_LABEL = "latency of all that was offered, ms; a line ends where requests were not served"
_STYLE = """
svg { font: 13px system-ui, sans-serif; color-scheme: light dark; --ink: #1b1f24; --faint: #8c959f; --grid: #d8dee4;
  --paper: #ffffff; --p50: #1a7f37; --p99: #0969da; --p999: #8250df; --slo: #cf222e; }
@media (prefers-color-scheme: dark) { svg { --ink: #e6edf3; --faint: #8b949e; --grid: #30363d; --paper: #0d1117;
  --p50: #3fb950; --p99: #58a6ff; --p999: #bc8cff; --slo: #ff7b72; } }
text { fill: var(--ink); } .faint { fill: var(--faint); } .title { font-weight: 600; font-size: 15px; }
.paper { fill: var(--paper); } .grid { stroke: var(--grid); } .line { fill: none; stroke-width: 2; }
.dash { stroke-dasharray: 5 4; }
"""


@dataclass(frozen=True)
class _Scale:
    """From figures to places on one axis."""

    first: float
    last: float
    at_first: float
    at_last: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        change: Callable[[float], float] = math.log if self.logarithmic else float
        span = change(self.last) - change(self.first)
        share = (change(max(value, self.first)) - change(self.first)) / span if span else 0.0
        return self.at_first + share * (self.at_last - self.at_first)


@dataclass(frozen=True)
class _Point:
    rate: float
    value: float | None
    valid: bool


def picture(runs: Sequence[Run], slo_ms: float, title: str) -> str:
    """An SVG document; a point that is not filled is of a run that was not valid."""
    measured = sorted((run for run in runs if run.rate is not None), key=lambda run: run.rate or 0.0)
    rate_max = max((run.rate or 0.0 for run in measured), default=1.0)
    across = _Scale(0.0, rate_max, _LEFT, _WIDTH - _RIGHT)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" class="paper"/>',
        _text(_LEFT, 26, title, "title"),
        *_latency(measured, across, slo_ms),
        *_goodput(measured, across, rate_max),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _latency(runs: Sequence[Run], across: _Scale, slo_ms: float) -> list[str]:
    lines = {
        name: [_Point(run.rate or 0.0, run.outcome["offered_ms"][key], run.valid) for run in runs]
        for name, key in (("p50", "p50"), ("p99", "p99"), ("p99.9", "p999"))
    }
    times = [slo_ms] + [point.value for points in lines.values() for point in points if point.value]
    # Whole powers of ten around everything that is shown.
    first, last = 10 ** math.floor(math.log10(min(times))), 10 ** math.ceil(math.log10(max(times) * 1.001))
    up = _Scale(first, last, _TOP + _PANEL, _TOP, logarithmic=True)
    parts = [_text(_LEFT, _TOP - 6, _LATENCY_LABEL, "faint")]
    tick = first
    while tick <= last:
        parts += _level(up(tick), f"{tick:g}")
        tick *= 10
    parts.append(_stroke([(_LEFT, up(slo_ms)), (_WIDTH - _RIGHT, up(slo_ms))], "slo", dashed=True))
    parts.append(_text(_WIDTH - _RIGHT + 8, up(slo_ms) + 4, f"objective {slo_ms:g} ms"))
    for name, points in lines.items():
        parts += _curve(points, (across, up), name)
    return parts


def _goodput(runs: Sequence[Run], across: _Scale, rate_max: float) -> list[str]:
    top = _TOP + _PANEL + _MIDDLE
    most = max([rate_max] + [run.outcome["goodput_per_s"] for run in runs])
    up = _Scale(0.0, most, top + _PANEL, top)
    parts = [_text(_LEFT, top - 6, "good answers per second, over requests offered per second", "faint")]
    for tick in _ticks(most):
        parts += _level(up(tick), f"{tick:,g}")
    for tick in _ticks(rate_max):
        parts.append(_text(across(tick), top + _PANEL + 18, f"{tick:,g}", "faint", "middle"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, "offered, requests/s", "faint", "middle"))
    parts.append(_stroke([(across(0.0), up(0.0)), (across(rate_max), up(rate_max))], "faint", dashed=True))
    points = [_Point(run.rate or 0.0, run.outcome["goodput_per_s"], run.valid) for run in runs]
    return parts + _curve(points, (across, up), "goodput")


def _curve(points: Sequence[_Point], scales: tuple[_Scale, _Scale], name: str) -> list[str]:
    across, up = scales
    colour = {"p50": "p50", "p99": "p99", "p99.9": "p999", "goodput": "p99"}[name]
    shown = [(across(point.rate), up(point.value), point) for point in points if point.value is not None]
    if not shown:
        return []
    parts = [_stroke([(x, y) for x, y, _ in shown], colour)]
    for x, y, point in shown:
        fill = f"var(--{colour})" if point.valid else "var(--paper)"
        told = f"{name} {point.value:,.2f} at {point.rate:,.0f} requests/s{'' if point.valid else ', not valid'}"
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" style="fill: {fill}; stroke: var(--{colour})">'
            f"<title>{escape(told)}</title></circle>"
        )
    x, y, _ = shown[-1]
    return [*parts, f'<text x="{x + 8:.1f}" y="{y - 6:.1f}" style="fill: var(--{colour})">{name}</text>']


def _ticks(most: float) -> list[float]:
    """Round numbers from 0, a handful."""
    power = float(10 ** math.floor(math.log10(most / _TICKS)))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * _TICKS >= most)
    return [step * at for at in range(int(most / step) + 1)]


def _level(y: float, label: str) -> list[str]:
    line = f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return [line, _text(_LEFT - 8, y + 4, label, "faint", "end")]


def _stroke(places: Sequence[tuple[float, float]], colour: str, *, dashed: bool = False) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline class="line{" dash" if dashed else ""}" style="stroke: var(--{colour})" points="{points}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
