"""The evidence of each check over time: a sparkline for the terminal, a picture as SVG, numbers for programs.

Evidence is what bets against "the canary is no worse" have made of a stake of 1 (docs/analysis.md), so it is drawn by
its logarithm: from 1 at the bottom to what is needed at the top.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

import msgspec

from davylamp.api.types import Release
from davylamp.api.verdict import CheckStatus, Point, points_of
from davylamp.view.lines import Line, Look, Span, Style, columns, fold

CELLS = 30
_TICKS = ("▁▂▃▄▅▆▇█", "_.-=+*%#")
"""From nothing to enough: where there is UTF-8, and where there is not."""
_COLOURS = ("#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#b45309", "#0f766e")
WIDTH, HEIGHT, MARGIN = 800, 400, 60
"""Pixels of the picture, and of its border."""


class Moment(msgspec.Struct, frozen=True, rename="camel"):
    """One check at one moment. Counts are those since the analysis began, of stable and of the canary."""

    at: datetime
    check: str
    evidence: float
    requests: tuple[int, int]
    failures: tuple[int, int]
    aside: tuple[int, int]
    """Of the canary's requests and failures those of pods that were not known to be warm."""
    slower: dict[str, tuple[Any, ...]] | None = None
    """Latency: what this look brought, see `api.verdict.Slower`."""


def complete(release: Release) -> bool:
    """Whether `moments` has every look, so that the evidence can be recomputed from it exactly."""
    analysis = release.status.analysis
    return analysis is not None and analysis.looks == len({one.at for one in points_of(analysis.history)}) > 0


def moments(release: Release) -> list[Moment]:
    """All that the release's status remembers: at most 120 looks, spread over the whole release."""
    analysis = release.status.analysis
    return [
        Moment(
            datetime.fromtimestamp(one.at, UTC),
            one.check,
            one.evidence,
            one.requests,
            one.failures,
            one.aside,
            {"asked": one.slower.asked, "bounds": one.slower.bounds} if one.slower is not None else None,
        )
        for one in points_of(analysis.history if analysis is not None else "")
    ]


def lines(release: Release, look: Look, now: datetime) -> list[Line]:
    """The verdict, and each check with its sparkline."""
    analysis = release.status.analysis
    assert analysis is not None
    where = f"{release.metadata.namespace}/{release.spec.deployment}"
    since = f", since {look.at(analysis.since, now)}" if analysis.since is not None else ""
    style: Style = {"worse": "bad", "good enough": "good"}.get(analysis.answer, "waiting")  # type: ignore[assignment]
    head: Line = (
        Span(where, "strong"),
        Span(f"  release {release.metadata.name}  ", "dim"),
        Span(f"{analysis.answer}{since}", style),
    )
    points = points_of(analysis.history)
    rows = [_row(check, [p for p in points if p.check == check.name], look) for check in analysis.checks]
    made = [head, *columns(rows)]
    notes = [*(Span(look.text(one), "waiting") for one in analysis.problems)]
    notes += [Span(look.text(one), "dim") for one in analysis.limits]
    made += [(Span("  "), note) for note in notes]
    return [piece for line in made for piece in fold(line, look.width, 4)]


def _row(check: CheckStatus, points: Sequence[Point], look: Look) -> list[Span]:
    style: Style = "good" if check.good else "bad" if check.evidence >= check.needed else ""
    bet = check.needed < 1e300
    return [
        Span(f"  {check.name}", "strong"),
        Span(sparkline([point.evidence for point in points], check.needed, utf8=look.utf8) if bet else ""),
        Span(f"{_short(check.evidence)} of {_short(check.needed)}" if bet else "", "dim"),
        Span(look.text(check.message), style),
    ]


def sparkline(values: Sequence[float], needed: float, *, utf8: bool = True) -> str:
    """The last CELLS values, each as a tick between 1 (or less) and `needed` (or more)."""
    ticks = _TICKS[0 if utf8 else 1]
    return "".join(ticks[round(_height(value, needed) * (len(ticks) - 1))] for value in values[-CELLS:])


def _height(value: float, needed: float) -> float:
    """0 for an evidence of 1 or less, 1 for one that suffices."""
    if value <= 1 or needed <= 1:
        return 0.0
    return min(1.0, math.log(value) / math.log(needed))


def _short(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}" if value < 1e6 else f"{value:.0e}"


def plot(release: Release) -> str:
    """The same as a picture: an SVG document of its own."""
    analysis = release.status.analysis
    assert analysis is not None
    points = points_of(analysis.history)
    first = min((point.at for point in points), default=0)
    span = max(1, max((point.at for point in points), default=1) - first)
    checks = [check for check in analysis.checks if check.needed < 1e300]
    title = f"{release.metadata.namespace}/{release.metadata.name}: {analysis.answer}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(MARGIN, 24, title),
        *_axes(span),
    ]
    for number, check in enumerate(checks):
        colour = _COLOURS[number % len(_COLOURS)]
        mine = [point for point in points if point.check == check.name]
        parts.append(_curve(mine, check.needed, first, span, colour))
        parts.append(_text(MARGIN + 10, MARGIN + 18 * (number + 1), f"{check.name} {_short(check.evidence)}", colour))
    return "\n".join([*parts, "</svg>", ""])


def _axes(span: int) -> Iterable[str]:
    bottom, right = HEIGHT - MARGIN, WIDTH - MARGIN
    yield f'<path d="M{MARGIN} {MARGIN}V{bottom}H{right}" fill="none" stroke="#666"/>'
    yield f'<path d="M{MARGIN} {MARGIN}H{right}" stroke="#b91c1c" stroke-dasharray="6 4"/>'
    yield _text(right - 60, MARGIN - 6, "enough", "#b91c1c")
    yield _text(MARGIN, bottom + 20, "0 s")
    yield _text(right - 40, bottom + 20, f"{span} s")


def _curve(points: Sequence[Point], needed: float, first: int, span: int, colour: str) -> str:
    room, tall = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
    across = (MARGIN + room * (point.at - first) / span for point in points)
    up = (HEIGHT - MARGIN - tall * _height(point.evidence, needed) for point in points)
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, up, strict=True))
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _text(x: float, y: float, text: str, colour: str = "#222") -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}">{escape(text)}</text>'
