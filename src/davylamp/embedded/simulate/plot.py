"""One release as a picture (SVG): the weight over time, and below it how much of the needed evidence there is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape

from davylamp.api.units import readable
from davylamp.embedded.simulate.report import Report
from davylamp.embedded.simulate.run import Entry, Evidence, Point
from davylamp.embedded.simulate.text import percent

WIDTH, LEFT, RIGHT = 860, 64, 20
TOP, TALL, GAP = 70, 170, 70
"""Of the panels, in pixels."""
FLOOR, CEILING = 1e-3, 1e3
"""Evidence that is drawn, as a part of what is needed."""
_COLOURS = {"worse": "#c0392b", "good enough": "#27823f", "not enough data": "#8a8a8a"}
_MARKED = ("Approved", "RolledBack", "Completed", "Verdict")
_TICKS = (10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_MOST_TICKS = 10


def svg(report: Report) -> str:
    """The first release of a report."""
    release = report.release
    end = max(release.seconds, 1.0)
    judged = bool(release.verdicts)
    height = TOP + TALL + (GAP + TALL if judged else 0) + 50
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_title(report),
        *_panel(TOP, "new version's share of the requests", ((0, "0 %"), (0.5, "50 %"), (1, "100 %"))),
        *_weights(release.weights, end),
    ]
    if judged:
        second = TOP + TALL + GAP
        scale = tuple((_part(value), label) for value, label in ((1e-2, "1/100"), (1, "enough"), (1e2, "×100")))
        parts += _panel(second, "evidence that it is worse, of what is needed to take it back", scale)
        parts += _evidence(release.verdicts, end, second)
    parts += _marks(release.timeline, end, height - 50)
    parts += _ticks(end, height - 50)
    return "\n".join([*parts, "</svg>", ""])


def _title(report: Report) -> Iterator[str]:
    first, release = report.scenario.moments[0], report.release
    traffic = f"{first.rps:g} requests/s, {percent(first.stable_errors)} of the old version's fail"
    new = f"{percent(first.canary_errors)} of the new one's; seed {report.seed}"
    word = release.phase.value if release.phase is not None else "not ended"
    yield _text(LEFT, 22, f"policy {report.policy}: {word} after {readable(round(release.seconds))}", "start", 15)
    yield _text(LEFT, 40, f"{traffic}, {new}", "start")


def _panel(top: float, title: str, scale: Iterable[tuple[float, str]]) -> Iterator[str]:
    yield _text(LEFT, top - 8, title, "start")
    for part, label in scale:
        y = _height(top, part)
        yield f'<line x1="{LEFT}" y1="{y:g}" x2="{WIDTH - RIGHT}" y2="{y:g}" stroke="#dddddd"/>'
        yield _text(LEFT - 6, y + 4, label, "end")


def _weights(weights: Iterable[Point], end: float) -> Iterator[str]:
    """Steps: a weight holds until the next."""
    path, before = "", 0.0
    for point in weights:
        x = _across(point.at, end)
        path += f"L{x:.1f},{_height(TOP, before / 100):.1f}" if path else f"M{x:.1f},{_height(TOP, 0):.1f}"
        path += f"L{x:.1f},{_height(TOP, point.weight / 100):.1f}"
        before = point.weight
    yield f'<path d="{path}L{_across(end, end):.1f},{_height(TOP, 0):.1f}Z" fill="#f5d27a" fill-opacity="0.6"/>'
    yield f'<path d="{path}" fill="none" stroke="#b07d00" stroke-width="2"/>'


def _evidence(found: Iterable[Evidence], end: float, top: float) -> Iterator[str]:
    points = [(_across(one.at, end), _height(top, _part(one.evidence)), one) for one in found]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    yield f'<polyline points="{path}" fill="none" stroke="#444444" stroke-width="1.5"/>'
    for x, y, one in points:
        said = escape(f"{one.answer}, {one.evidence:.3g} of what is needed", {'"': "&quot;"})
        colour = _COLOURS.get(one.answer, "#444444")
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>{said}</title></circle>'


def _part(evidence: float) -> float:
    """Its place on the logarithmic scale, 0 to 1."""
    within = min(max(evidence, FLOOR), CEILING)
    return math.log(within / FLOOR) / math.log(CEILING / FLOOR)


def _marks(timeline: Iterable[Entry], end: float, bottom: float) -> Iterator[str]:
    for entry in timeline:
        if entry.what in _MARKED:
            x = _across(entry.at, end)
            said = escape(f"{entry.what}: {entry.message}")
            line = f'x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"'
            yield f'<line {line} stroke="#3366aa" stroke-dasharray="3 3"><title>{said}</title></line>'


def _ticks(end: float, bottom: float) -> Iterator[str]:
    every = next((tick for tick in _TICKS if end / tick <= _MOST_TICKS), _TICKS[-1])
    for number in range(int(end // every) + 1):
        x = _across(number * every, end)
        yield f'<line x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 5}" stroke="#888888"/>'
        yield _text(x, bottom + 20, readable(number * every), "middle")


def _across(at: float, end: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * at / end


def _height(top: float, part: float) -> float:
    return top + TALL * (1 - part)


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
