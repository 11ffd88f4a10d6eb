"""Log templates that tell of harm: the ones stable has always written, and ones that nobody has seen before.

A template counts once per pod and interval, so one loop that logs is one event. Each has an e-process of its own on
which version's pods wrote it. Half of the evidence's weight is for templates known from stable (half of that for all
of them together, half for each by itself), half for novel ones; the j-th of either to appear gets the part
1/(j(j+1)), which sums to 1 however many come. A weighted mean of e-values is an e-value.

How much more often the canary's pods may write a template than stable's depends on what makes them write it: requests,
or just time. If each request leads to it with some probability, a pod with twice the requests has it in up to twice as
many intervals; if time does, in as many. Both hold if the canary's exposure is taken as the larger one.

A message that the new version words differently is novel, and looks like this version's fault: a known limit.
"""

from __future__ import annotations

import msgspec
import numpy as np

from davylamp.analysis import shares
from davylamp.analysis.counts import Logs, Template
from davylamp.analysis.rules import Rules
from davylamp.analysis.shares import Array

MOST = 8
"""Templates of each sort that are followed by themselves; later ones are pooled."""


class Line(msgspec.Struct, frozen=True, array_like=True):
    id: str
    """Empty for the pools."""
    worse: bytes = shares.OPENING
    stable: int = 0
    canary: int = 0
    """Pods and intervals in which it was written."""


class LogState(msgspec.Struct, frozen=True, tag="logs"):
    known: tuple[Line, ...] = ()
    novel: tuple[Line, ...] = ()
    """By first appearance in the release."""
    all_known: Line = Line("")
    later_novel: Line = Line("")
    """Novel ones after the first eight."""
    stable: int = 0
    canary: int = 0
    """Pods read, times intervals."""


def begin() -> LogState:
    return LogState()


def look(state: LogState, counts: Logs, rules: Rules) -> LogState:
    n0, n1 = counts.stable_pods, counts.canary_pods
    state = msgspec.structs.replace(state, stable=state.stable + n0, canary=state.canary + n1)
    known, novel = (_appear(_lines(state, sort), counts.templates, sort) for sort in (True, False))
    if not (n0 and n1):
        return msgspec.structs.replace(state, known=known, novel=novel)
    exposure = float(n1)
    if counts.stable_requests and counts.canary_requests:
        exposure = max(exposure, n0 * counts.canary_requests / counts.stable_requests)
    split = (n0, exposure, rules.tolerate)
    wrote = {template.id: (template.stable, template.canary) for template in counts.templates}
    followed = {line.id for line in novel}
    return LogState(
        tuple(_bet(line, wrote.get(line.id, (0, 0)), split) for line in known),
        tuple(_bet(line, wrote.get(line.id, (0, 0)), split) for line in novel),
        _bet(state.all_known, _sum([t for t in counts.templates if t.known]), split),
        _bet(state.later_novel, _sum([t for t in counts.templates if not t.known and t.id not in followed]), split),
        state.stable,
        state.canary,
    )


def against(state: LogState) -> float:
    """Log evidence that the canary writes more of these than tolerated."""
    weighted = _weighted(state)
    rest = 1 - sum(weight for _, weight in weighted)
    logs = np.array([0.0, *(_log(line) for line, _ in weighted)])
    return float(shares.log_mean(logs, np.array([rest, *(weight for _, weight in weighted)])))


class Culprit(msgspec.Struct, frozen=True):
    id: str
    known: bool
    stable: int
    canary: int
    """In how many pods' intervals each version wrote it."""


def culprit(state: LogState) -> Culprit | None:
    """The template with most of the evidence, one by itself if there is any."""
    known = {line.id for line in state.known}
    one = [(line, weight) for line, weight in _weighted(state) if line.id and line.canary]
    if not one:
        return None
    line = max(one, key=lambda pair: _log(pair[0]) + float(np.log(pair[1])))[0]
    return Culprit(line.id, line.id in known, line.stable, line.canary)


def _weighted(state: LogState) -> list[tuple[Line, float]]:
    parts = [1 / ((j + 1) * (j + 2)) for j in range(MOST)]
    found = [(state.all_known, 0.25), (state.later_novel, 0.5 / (MOST + 1))]
    found += [(line, 0.25 * part) for line, part in zip(state.known, parts, strict=False)]
    return found + [(line, 0.5 * part) for line, part in zip(state.novel, parts, strict=False)]


def _log(line: Line) -> float:
    return float(shares.log_mean(shares.unpack(line.worse)))


def _lines(state: LogState, known: bool) -> tuple[Line, ...]:
    return state.known if known else state.novel


def _appear(lines: tuple[Line, ...], templates: tuple[Template, ...], known: bool) -> tuple[Line, ...]:
    """`lines` and the templates that appear for the first time, while there is room."""
    have = {line.id for line in lines}
    fresh = [Line(template.id) for template in templates if template.known == known and template.id not in have]
    return (*lines, *fresh)[:MOST]


def _sum(templates: list[Template]) -> tuple[int, int]:
    return sum(t.stable for t in templates), sum(t.canary for t in templates)


def _bet(line: Line, wrote: tuple[int, int], split: tuple[float, float, float]) -> Line:
    k0, k1 = wrote
    if not k0 + k1:
        return line
    logs: Array = shares.worse(k0, k1, *split)
    return Line(line.id, shares.pack(shares.unpack(line.worse) + logs), line.stable + k0, line.canary + k1)
