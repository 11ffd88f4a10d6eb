"""What the looks at one release have found: the running computation, and what is told of it in the Release's status.

The state is the statistics' own (`davylamp.analysis.look.State`); beside it are numbers for people only: what each
version has served, and a history of at most HISTORY points, which always spans the whole release.
"""

from __future__ import annotations

import functools
import logging
import math
import operator
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from davylamp.analysis import counts as c
from davylamp.analysis import latency
from davylamp.analysis.look import Seen, State, begin, look, miss, without_limits
from davylamp.analysis.rules import Rules
from davylamp.analysis.verdict import (
    Answer,
    Finding,
    Verdict,
    answer,
    blind,
    counted,
    evidence,
    missed,
    pending,
    tense,
    verdict,
)
from davylamp.api.analysis import Analysis
from davylamp.api.verdict import AnalysisStatus, CheckStatus, Counted, Point, Slower, points_of
from davylamp.core.world import Judgement
from davylamp.signals.gather import Look
from davylamp.signals.policy import rules_of

HISTORY = 120
"""Looks that are remembered one by one: 20 minutes of them at 10 s."""
DETAILS = 1000
"""Bounds of latency, over all looks, for which all is remembered that the evidence can be recomputed from: 40 kB.
Where there would be more, none is, since a part is of no use."""
PROBLEMS = 10
"""Sentences about the last look that are kept."""
_LONG = 500

log = logging.getLogger(__name__)


class Served:
    """What one version has served, and how fast since this process looks."""

    def __init__(self, before: Counted) -> None:
        self.requests = before.requests
        self.failures = before.failures
        self._bounds: tuple[float, ...] = ()
        self._counts: list[int] = []

    def events(self, pods: tuple[c.Pod, ...]) -> None:
        for pod in pods:
            self.requests += pod.requests
            self.failures += pod.failures

    def latencies(self, pods: tuple[c.Histogram, ...]) -> None:
        for pod in pods:
            if pod.bounds != self._bounds:
                self._bounds, self._counts = pod.bounds, [0] * len(pod.counts)
            self._counts = list(map(operator.add, self._counts, pod.counts))

    def counted(self, quantile: float) -> Counted:
        return Counted(self.requests, self.failures, self._slow(quantile))

    def _slow(self, quantile: float) -> float | None:
        """Within the bucket in which it lies evenly spread, as Prometheus' histogram_quantile has it."""
        wanted, below, low = quantile * sum(self._counts), 0, 0.0
        for bound, count in zip(self._bounds, self._counts, strict=False):
            if count and below + count >= wanted:
                return round(low + (bound - low) * (wanted - below) / count, 6)
            below, low = below + count, bound
        return low if sum(self._counts) else None


class Findings:
    """Of one release, gone on with from `before` where that holds the same checks. Where nobody reads what is `kept`,
    the judgements are the same, their words name no confidence limits, and no look is remembered."""

    def __init__(self, analysis: Analysis, before: AnalysisStatus | None, now: float, *, kept: bool = True) -> None:
        self.rules = rules_of(analysis)
        self.state = _restored(self.rules, before) or begin(self.rules, now)
        if not kept:
            self.state = without_limits(self.state)
        self.status = before or AnalysisStatus()
        self._kept = kept
        self._quantile = next((check.quantile for check in self.rules.checks if check.kind == "latency"), 0.99)
        self._stable = Served(self.status.stable)
        self._canary = Served(self.status.canary)
        self.looks = self.status.looks
        self._history: list[list[Point]] = _points(self.status.history)
        self._details = _details(self._history, {check.name for check in self.rules.checks if check.kind == "latency"})
        # What was written is the view of a process that is gone: no step ends before this one has seen something.
        first = self._worded(self._decision(now), verdict(self.state, self.rules, now))
        self.judgement = msgspec.structs.replace(first, missed=True)

    def take(
        self,
        found: Look,
        now: float,
        explained: Callable[[str], str] = str,
        *,
        told: bool = True,
        alone: float | None = None,
    ) -> None:
        """Add what a look has found; the verdict is about the moment `now`, in seconds since the epoch. `explained`
        completes its sentences for people. Unless it is `told`, a verdict like the last one is not put into words, so
        that those of the judgement and of the status stay as they were. `alone` is since when the canary has all of the
        traffic."""
        problems = list(found.problems)
        slower: dict[str, Slower] = {}
        brought = set(found.idle)
        for name, counts in found.counts:
            if isinstance(counts, c.Events | c.Latencies) and alone is not None and counts.start >= alone:
                counts = msgspec.structs.replace(counts, alone=True)
            try:
                self.state = look(self.state, self.rules, name, counts)
                brought.add(name)
                self._serve(counts)
                if self._detailed and (made := _slower(self.state.checks[name], counts, self.rules)) is not None:
                    slower[name] = made
            except ValueError as error:
                problems.append(f"{name}: {error}")
            except Exception as error:
                log.exception("what a look has found could not be used: %s", name)
                problems.append(f"{name}: {type(error).__name__}: {error}")
        self.state = miss(self.state, self.state.checks.keys() - brought)
        self._remember(now, slower)
        judgement = self._decision(now)
        if not told and decided(judgement) == decided(self.judgement):
            if judgement.missed != self.judgement.missed:
                self.judgement = msgspec.structs.replace(self.judgement, missed=judgement.missed)
            return
        said = _explained(verdict(self.state, self.rules, now), explained)
        self.judgement = self._worded(judgement, said, tuple(problems))
        self.status = self._told(said, tuple(problems), now)

    @property
    def tense(self) -> bool:
        """Whether the next look may decide."""
        return tense(self.state)

    @property
    def met(self) -> bool:
        """Whether a request of the canary has been counted."""
        return self._canary.requests > 0

    @property
    def _detailed(self) -> bool:
        """Whether all is remembered that the evidence of latency can be recomputed from."""
        return self._kept and self._details <= DETAILS

    def _serve(self, counts: c.Counts) -> None:
        match counts:
            case c.Events():
                self._stable.events(counts.stable)
                self._canary.events(counts.canary)
            case c.Latencies() if self._kept:
                self._stable.latencies(counts.stable)
                self._canary.latencies(counts.canary)

    def _decision(self, now: float) -> Judgement:
        """What is decided by, without words."""
        given = answer(self.state, self.rules, now)
        waiting = given is Answer.NOT_ENOUGH_DATA
        return Judgement(
            worse=given is Answer.WORSE,
            good_enough=given is Answer.GOOD_ENOUGH,
            blind=waiting and blind(self.state, self.rules, now),
            pending=waiting and pending(self.state, self.rules, now),
            missed=missed(self.state, self.rules),
        )

    def _worded(self, judgement: Judgement, said: Verdict, problems: tuple[str, ...] = ()) -> Judgement:
        message = said.message
        if judgement.blind and (why := self._why(said.check, problems)):
            message = f"{message} ({why})"
        return msgspec.structs.replace(judgement, message=message[:_LONG])

    def _why(self, check: str, problems: tuple[str, ...]) -> str:
        """The problem that a check is without data for: one of its own, or one that is nobody's own (a pod's)."""
        marks = {name: (f"{name}:", f"{name},") for name in self.state.checks}
        own = (one for one in problems if one.startswith(marks[check]))
        others = tuple(mark for name in marks for mark in marks[name])
        why = next(own, next((one for one in problems if not one.startswith(others)), ""))
        return why.removeprefix(f"{check}: ")

    def _remember(self, now: float, slower: Mapping[str, Slower]) -> None:
        at = round(now)
        self.looks += 1
        if not self._kept:
            return
        detailed = self._detailed
        self._history.append([_point(at, name, seen, slower.get(name)) for name, seen in self.state.checks.items()])
        self._details += sum(len(one.slower.bounds) for one in self._history[-1] if one.slower is not None)
        if detailed and (self._details > DETAILS or len(self._history) > HISTORY):
            self._details = math.inf
            self._history = [[msgspec.structs.replace(one, slower=None) for one in look] for look in self._history]
        if len(self._history) > HISTORY:
            # Every second of the older ones; the newest stays.
            self._history = self._history[-1::-2][::-1]

    def _told(self, said: Verdict, problems: tuple[str, ...], now: float) -> AnalysisStatus:
        moment = datetime.fromtimestamp(now, UTC)
        same = self.status.answer == said.answer.value and self.status.since is not None
        return AnalysisStatus(
            answer=said.answer.value,
            message=self.judgement.message,
            since=self.status.since if same else moment,
            looked_at=moment,
            looks=self.looks,
            blind=self.judgement.blind,
            pending=self.judgement.pending,
            stable=self._stable.counted(self._quantile),
            canary=self._canary.counted(self._quantile),
            checks=tuple(_check(finding) for finding in said.findings),
            limits=said.limits,
            problems=tuple(problem[:_LONG] for problem in problems[:PROBLEMS]),
        )

    def patch(self) -> dict[str, Any]:
        """The status as a merge patch: every field, so that none is left over from before."""
        made = _whole(self.status)
        points = [point for look in self._history for point in look]
        made["history"] = msgspec.json.encode(points).decode()
        made["state"] = msgspec.json.encode(self.state).decode()
        return made


def decided(judgement: Judgement) -> tuple[bool, bool, bool, bool]:
    """What of it decides anything."""
    return judgement.worse, judgement.good_enough, judgement.blind, judgement.pending


def _details(history: list[list[Point]], checks: set[str]) -> float:
    """How many bounds of latency are in there; infinite where some were given up."""
    points = [point for look in history for point in look if point.check in checks and point.requests[0]]
    if points and points[0].slower is None:
        return math.inf
    return sum(len(point.slower.bounds) for point in points if point.slower is not None)


def _point(at: int, name: str, seen: Seen, slower: Slower | None) -> Point:
    aside = (seen.cold.requests, seen.cold.failures)
    return Point(at, name, float(f"{evidence(seen):.4g}"), *counted(seen), aside, slower)


def _slower(seen: Seen, counts: c.Counts, rules: Rules) -> Slower | None:
    """What the evidence of latency can be recomputed from; None for other checks, and for counts that were not used."""
    if seen.note or not (isinstance(counts, c.Latencies) and isinstance(seen.state, latency.Latency)):
        return None
    found = latency.brought(seen.state, counts, rules)
    bounds = ((le, k0, k1, cold, float(f"{chi:.5g}"), free) for le, k0, k1, cold, chi, free in found.bounds)
    return Slower(found.asked, tuple(bounds))


def _explained(said: Verdict, explained: Callable[[str], str]) -> Verdict:
    findings = tuple(msgspec.structs.replace(one, message=explained(one.message)) for one in said.findings)
    return msgspec.structs.replace(said, message=explained(said.message), findings=findings)


def _points(history: str) -> list[list[Point]]:
    by_moment: dict[int, list[Point]] = {}
    for point in points_of(history):
        by_moment.setdefault(point.at, []).append(point)
    return list(by_moment.values())


def _restored(rules: Rules, before: AnalysisStatus | None) -> State | None:
    """The state that was written, if it is one of these checks."""
    if before is None or not before.state:
        return None
    try:
        found = msgspec.json.decode(before.state, type=State)
    except msgspec.DecodeError:
        return None
    return found if set(found.checks) == {check.name for check in rules.checks} else None


def _check(finding: Finding) -> CheckStatus:
    return CheckStatus(
        name=finding.check,
        message=finding.message[:_LONG],
        good=finding.good,
        evidence=float(f"{finding.evidence:.4g}"),
        needed=float(f"{finding.needed:.4g}"),
        requests=finding.requests,
        failures=finding.failures,
    )


def _whole(struct: msgspec.Struct) -> dict[str, Any]:
    """A struct as JSON has it, also the fields that have their defaults."""
    made = {}
    for name, encoded in _fields(type(struct)):
        value = getattr(struct, name)
        made[encoded] = _whole(value) if isinstance(value, Counted) else msgspec.to_builtins(value)
    return made


@functools.cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, str], ...]:
    """Names of a struct's fields, and those that JSON has."""
    return tuple((field.name, field.encode_name) for field in msgspec.structs.fields(kind))
